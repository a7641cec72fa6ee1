"""What Hydra does for the verbs that compose a configuration: composing, sweeps, directories, logging."""

import gc
import logging.config
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

import cnnbench
from cnnbench import config
from cnnbench.cli.reporting import EXPLAINED, leave_the_reader, report
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import RunDirectory, claim_exactly, claim_new, job_directory_name
from cnnbench.runs.stopping import end
from cnnbench.runs.sweep import is_stopped, stop

__all__ = [
    "RunDirectoryCallback",
    "check",
    "compose",
    "conf_folder",
    "log_to",
    "output_directory",
    "overrides_of_the_job",
    "share_config_store",
    "sweeps",
    "without_hydra",
]

# at import, so that it is known wherever a launcher starts a job
OmegaConf.register_new_resolver("job_directory", job_directory_name, replace=True)

log = logging.getLogger("cnnbench")


class Job:
    """The work of a verb on one composed configuration, as Hydra calls it: here, or in a process of a launcher's."""

    def __init__(self, work: Callable[[DictConfig], float | None]) -> None:
        self.work = work
        self.failures: list[int] = []  # exit codes, of jobs in this process

    def __call__(self, composed: DictConfig) -> float | None:
        gc.enable()
        sweep = Path(HydraConfig.get().sweep.dir) if sweeps() else None
        among_others = sweep is not None and HydraConfig.get().runtime.choices["hydra/launcher"] == "joblib"
        if among_others:
            _share_the_terminal()
        if sweep is not None and is_stopped(sweep):
            log.info("Not begun: the sweep was stopped.")
            return None
        try:
            return self.work(composed)
        except BrokenPipeError:
            leave_the_reader()
        except (KeyboardInterrupt, SystemExit):
            if not among_others:
                raise
            log.info("Interrupted.")
        except Exception as error:
            self.failures.append(report(error))  # the other jobs of a sweep go on
            if sweep is not None and composed.get("sweep_on_error") == "stop":
                stop(sweep)
        return None


def _share_the_terminal() -> None:
    """What a job says when others talk as well: no bars, and each line with the number of the job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the process that waits for the jobs that ends them
    signal.signal(signal.SIGTERM, end)
    os.environ["TQDM_DISABLE"] = "1"
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(f"#{HydraConfig.get().job.num} %(message)s"))


def compose(config_name: str, arguments: list[str], work: Callable[[DictConfig], float | None]) -> int:
    """Let Hydra compose a configuration and give it to `work`, or several; returns the exit code."""
    job = Job(work)
    sys.argv[1:] = sorted(arguments, key=_is_override)  # argparse fails on a flag between overrides
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors to `main` instead of printing them
    ConfigStore.instance().store("schema", config.Schema)
    share_config_store()
    gc.disable()  # composing and the import of PyTorch leave no garbage; looking for it takes an eighth of their time
    try:
        hydra.main(config_path=str(conf_folder()), config_name=config_name, version_base="1.3")(job)()
    except EXPLAINED:
        raise
    except Exception as error:  # an assertion or the like in Hydra: what is our own is guarded
        raise ConfigError(f"Hydra cannot work with this command line: {str(error) or type(error).__name__}") from error
    finally:
        gc.enable()
    return job.failures[0] if job.failures else 0


def share_config_store() -> None:
    """Keep Hydra from copying its store of configurations, which holds what nobody changes.

    It is copied whenever a group is looked at: 90 times for --help, half of the time that takes.
    """

    def itself(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
        return store

    ConfigStore.__deepcopy__ = itself  # type: ignore[attr-defined]  # Hydra has none of its own


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


class RunDirectoryCallback(Callback):
    """Hydra calls it when a single run is composed, before any directory is made or log opened."""

    claimed: ClassVar[RunDirectory]

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration, then claim a run directory and tell Hydra its name.

        Hydra turns an Exception of a callback into a warning, so errors leave as SystemExit.
        """
        try:
            check(cnnbench.config.load(without_hydra(config)))
            named = any(override.startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra)
            verb = "benchmark" if config.hydra.job.config_name == "benchmark" else "train"
            run = (claim_exactly if named else claim_new)(Path(config.hydra.run.dir), verb)
        except Exception as error:
            raise SystemExit(report(error)) from error
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(run.path)
        type(self).claimed = run


def without_hydra(composed: DictConfig) -> DictConfig:
    """What Hydra has composed, less what it keeps there for itself."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def conf_folder() -> Path:
    """conf/: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def check(settings: config.Config) -> None:
    from cnnbench.commands.check import check  # numpy, which --help need not wait for

    check(settings)


def sweeps() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def output_directory() -> Path:
    """The run directory that Hydra has named."""
    return Path(HydraConfig.get().runtime.output_dir)


def overrides_of_the_job() -> list[str]:
    return list(HydraConfig.get().overrides.task)


def log_to(directory: Path) -> None:
    """Log as a run does that Hydra starts."""
    plain = OmegaConf.load(conf_folder() / "hydra" / "job_logging" / "plain.yaml")
    settings = OmegaConf.merge(plain, {"hydra": {"runtime": {"output_dir": str(directory)}}})
    try:
        logging.config.dictConfig(cast("dict[str, Any]", OmegaConf.to_container(settings, resolve=True)))
    except ValueError as error:  # which is what becomes of a train.log that cannot be opened
        raise error.__cause__ or error from None
