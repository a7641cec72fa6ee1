"""What Hydra does for the verbs that compose a configuration: composing, sweeps, directories, logging."""

import gc
import logging.config
import os
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

import cnnbench
from cnnbench import config
from cnnbench.cli.reporting import EXPLAINED, leave_the_reader, report
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import RunDirectory, claim_exactly, claim_new, job_directory_name

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
]

MOST_JOBS = 10_000  # of a sweep


def compose(config_name: str, arguments: list[str], job: Callable[[DictConfig], float | None]) -> int:
    """Let Hydra compose a configuration and give it to `job`, or several, one after the other."""
    failures: list[int] = []

    def guarded(composed: DictConfig) -> float | None:
        gc.enable()
        try:
            return job(composed)
        except BrokenPipeError:
            leave_the_reader()
            return None
        except Exception as error:
            failures.append(report(error))  # the other jobs of a sweep go on
            return None

    sys.argv[1:] = sorted(arguments, key=_is_override)  # argparse fails on a flag between overrides
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors to `main` instead of printing them
    ConfigStore.instance().store("schema", config.Schema)
    OmegaConf.register_new_resolver("job_directory", job_directory_name, replace=True)
    share_config_store()
    gc.disable()  # composing and the import of PyTorch leave no garbage; looking for it takes an eighth of their time
    try:
        hydra.main(config_path=str(conf_folder()), config_name=config_name, version_base="1.3")(guarded)()
    except EXPLAINED:
        raise
    except Exception as error:  # an assertion or the like in Hydra: what is our own is guarded
        raise ConfigError(f"Hydra cannot work with this command line: {str(error) or type(error).__name__}") from error
    finally:
        gc.enable()
    return failures[0] if failures else 0


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

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep of too many jobs: Hydra lists all before the first, until the memory is full."""
        try:
            _check_number_of_jobs(list(config.hydra.overrides.task))
        except Exception as error:
            raise SystemExit(report(error)) from error

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration, then claim a run directory and tell Hydra its name.

        Hydra turns an Exception of a callback into a warning, so errors leave as SystemExit.
        """
        try:
            composed = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            check(cnnbench.config.load(composed))
            named = any(override.startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra)
            verb = "benchmark" if config.hydra.job.config_name == "benchmark" else "train"
            run = (claim_exactly if named else claim_new)(Path(config.hydra.run.dir), verb)
        except Exception as error:
            raise SystemExit(report(error)) from error
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(run.path)
        type(self).claimed = run


def _check_number_of_jobs(overrides: list[str]) -> None:
    jobs = 1
    for override in OverridesParser.create().parse_overrides(overrides):
        match override.value():
            case ChoiceSweep() as choices:
                jobs *= len(choices.list)
            case RangeSweep() as numbers if numbers.step:  # Hydra says what it thinks of a step of 0
                jobs *= sum(1 for _ in islice(numbers.range(), MOST_JOBS + 1))
        if jobs > MOST_JOBS:
            raise ConfigError(
                f"{override.input_line} makes this a sweep of more than {MOST_JOBS:,} jobs, which is too many. "
                "Give fewer values, or several sweeps of the same name (sweep=NAME)."
            )


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
