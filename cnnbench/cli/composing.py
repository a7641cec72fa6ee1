"""What Hydra does for the verbs that compose a configuration: composing, sweeps, directories, logging."""

import gc
import logging.config
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra
from hydra import initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from cnnbench import config
from cnnbench.cli.other_libraries import silence_libraries
from cnnbench.cli.reporting import EXPLAINED, as_cnnbench_error, report
from cnnbench.cli.streams import SIGPIPE_CODE, shield_stream
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import RunDirectory, claim_exactly, claim_new, job_directory_name
from cnnbench.runs.reading import of_this_launch, read_text
from cnnbench.runs.slurm import end_or_restart
from cnnbench.runs.stopping import STOP_SIGNALS, end
from cnnbench.runs.sweep import is_stopped, stop

__all__ = [
    "RunDirectoryCallback",
    "check",
    "claim_checked",
    "compose",
    "compose_here",
    "conf_folder",
    "leave_record",
    "log_to",
    "log_to_file",
    "output_directory",
    "overrides_of_the_job",
    "sweeps",
    "without_hydra",
]

# at import, so that it is known wherever a launcher starts a job
OmegaConf.register_new_resolver("job_directory", job_directory_name, replace=True)

log = logging.getLogger("cnnbench")

_OF_AN_APPLICATION = (GlobalHydra, JobRuntime, VersionBase)  # what Hydra has one of for all that run in a process


class Job:
    """The work of a verb on one composed configuration, as Hydra calls it: here, or in a process of a launcher's."""

    def __init__(self, work: Callable[[DictConfig], float | None]) -> None:
        self.work = work
        self.failures: list[int] = []  # exit codes, of jobs in this process
        self.command = list(sys.orig_argv)
        self.launched_by = os.getpid()

    def __call__(self, composed: DictConfig) -> float | None:
        gc.enable()
        silence_libraries()
        sys.orig_argv[:] = self.command  # to be recorded, in a process of a launcher's too
        sweep = Path(HydraConfig.get().sweep.dir) if sweeps() else None
        is_elsewhere = os.getpid() != self.launched_by
        launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
        for name in ("stdout", "stderr"):
            shield_stream(name, lossy=is_elsewhere)
        among_others = sweep is not None and launcher == "joblib" and is_elsewhere
        if among_others:
            _share_the_terminal()
        if sweep is not None and is_stopped(sweep):
            log.info("Not begun: the sweep was stopped.")
            return None
        try:
            return self.work(composed)
        except BrokenPipeError:  # from a command that only prints
            self.failures.append(SIGPIPE_CODE)
        except (KeyboardInterrupt, SystemExit) as ending:
            if not among_others:
                end_or_restart(ending)
            log.info("Interrupted.")
        except Exception as error:
            self.failures.append(report(error))  # the other jobs of a sweep go on
            if sweep is not None and composed.get("sweep_on_error") == "stop":
                stop(sweep)
        return None


def _share_the_terminal() -> None:
    """What a job says when others talk as well: no bars, and each line with the number of the job."""
    # The process that waits for the jobs ends them, by SIGTERM. The limit of CPU time is their own.
    for number in (signal.SIGINT, *STOP_SIGNALS):
        own = number in (signal.SIGTERM, signal.SIGXCPU)
        signal.signal(number, end if own else signal.SIG_IGN)
    _end_with_parent()
    os.environ["TQDM_DISABLE"] = "1"
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(f"#{HydraConfig.get().job.num} %(message)s"))


@cache  # a process of joblib's has one job after another
def _end_with_parent() -> None:
    """End this process by SIGTERM soon after its parent is gone, even if that was killed."""
    parent = os.getppid()

    def watch() -> None:
        while True:  # the first SIGTERM may end a job, the next the process that waits for another
            time.sleep(1)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def compose(config_name: str, arguments: list[str], work: Callable[[DictConfig], float | None]) -> int:
    """Let Hydra compose a configuration and give it to `work`, or several; returns the exit code."""
    job = Job(work)
    words = sorted(arguments, key=_is_override)  # argparse fails on a flag between overrides
    sys.argv[1:] = config.quote_texts(words)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors to `main` instead of printing them
    list_experiments_in_folders()
    gc.disable()  # composing and the import of PyTorch leave no garbage; looking for it takes an eighth of their time
    try:
        hydra.main(config_path=str(conf_folder()), config_name=config_name, version_base="1.3")(job)()
    except EXPLAINED:
        raise
    except Exception as error:  # an assertion or the like in Hydra: what is our own is guarded
        if isinstance(error.__cause__, OSError):  # of a train.log that cannot be opened
            raise error.__cause__ from error
        if type(error).__module__.startswith("submitit."):
            told = "Jobs that Slurm has taken go on, but are not waited for: see squeue."
            raise ConfigError(f"submitit: {error}\n{told}") from error
        raise ConfigError(f"Hydra cannot work with this command line: {str(error) or type(error).__name__}") from error
    finally:
        gc.enable()
    return job.failures[0] if job.failures else 0


def compose_here(overrides: Sequence[str]) -> DictConfig:
    """What the command line would compose for one run, Hydra's part included, for a program that goes on.

    What Hydra keeps in this process is afterwards as it was.

    Raises:
        ConfigError: in the words of the command line, what is wrong.
    """
    try:
        with _hydra_of_its_own(), initialize_config_dir(str(conf_folder()), "cnnbench", version_base="1.3"):
            return hydra.compose("train", config.quote_texts(overrides), return_hydra_config=True)
    except Exception as error:
        known = as_cnnbench_error(error)
        raise known or ConfigError(f"Hydra cannot work with these overrides: {error}") from error


@contextmanager
def _hydra_of_its_own() -> Iterator[None]:
    """While the block lasts, Hydra is as in a new process: the caller may be a Hydra application itself."""
    before = dict(Singleton._instances)
    for each in _OF_AN_APPLICATION:
        Singleton._instances.pop(each, None)
    try:
        yield
    finally:
        for each in _OF_AN_APPLICATION:
            Singleton._instances.pop(each, None)
            if each in before:
                Singleton._instances[each] = before[each]


def claim_checked(composed: DictConfig, directory: Path | None = None, verb: str = "train") -> RunDirectory:
    """Check the configuration, then claim `directory` or, if that is None, what Hydra's part names.

    Raises:
        ConfigError: the configuration is wrong, or the directory that was asked for holds a run.
    """
    check(config.load(config.to_plain(composed)))
    asked_for = directory is not None or any(
        each.startswith("hydra.run.dir=") for each in composed.hydra.overrides.hydra
    )
    return (claim_exactly if asked_for else claim_new)(directory or Path(composed.hydra.run.dir), verb)


def leave_record(composed: DictConfig, directory: Path) -> None:
    """Leave in a run directory what Hydra leaves there of a command line."""
    parts = {
        "config.yaml": without_hydra(composed),
        "hydra.yaml": OmegaConf.masked_copy(composed, "hydra"),
        "overrides.yaml": composed.hydra.overrides.task,
    }
    folder = directory / ".hydra"
    folder.mkdir(exist_ok=True)
    for name, part in parts.items():
        (folder / name).write_text(OmegaConf.to_yaml(part), encoding="utf-8")


def list_experiments_in_folders() -> None:
    """Let Hydra list them as they are chosen, book/alexnet, in help and completion: to it a folder is another group."""

    def options(repository: ConfigRepository, group_name: str, results_filter: Any = ObjectType.CONFIG) -> list[str]:
        found = _group_options(repository, group_name, results_filter)
        if group_name != "experiment":
            return found
        if results_filter == ObjectType.GROUP:
            return []
        folders = _group_options(repository, group_name, ObjectType.GROUP)
        return found + [
            f"{folder}/{name}"
            for folder in folders
            for name in _group_options(repository, f"{group_name}/{folder}", ObjectType.CONFIG)
        ]

    ConfigRepository.get_group_options = options  # type: ignore[assignment, method-assign]  # it is how Hydra is told


_group_options = ConfigRepository.get_group_options  # as Hydra has it


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


class RunDirectoryCallback(Callback):
    """Hydra calls it when a single run is composed, before any directory is made or log opened."""

    claimed: ClassVar[RunDirectory | None]  # None: of an attempt before torchrun restarted, which goes on

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration, then claim a run directory and tell Hydra its name.

        Hydra turns an Exception of a callback into a warning, so errors leave as SystemExit.
        """
        try:
            verb = "benchmark" if config.hydra.job.config_name == "benchmark" else "train"
            earlier = _earlier_attempt(config)
            run = None if earlier else claim_checked(config, verb=verb)
        except Exception as error:
            raise SystemExit(report(error)) from error
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(earlier or (run and run.path))
        type(self).claimed = run


def without_hydra(composed: DictConfig) -> DictConfig:
    """What Hydra has composed, less what it keeps there for itself."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def _earlier_attempt(composed: DictConfig) -> Path | None:
    """The directory of this run, if torchrun has restarted in the middle of it: its own name may hold the time."""

    def values(text: str) -> dict[str, Any]:
        return {**config.parse(text), "sweep": None}

    directory = Path(composed.hydra.run.dir)
    named = any(each.startswith("hydra.run.dir=") for each in composed.hydra.overrides.hydra)
    for attempt in reversed(of_this_launch(directory if named else directory.with_name("*"))):
        written = attempt / "config.yaml"
        wanted = values(config.to_yaml(config.load(config.to_plain(composed))))
        if not written.exists() or values(read_text(written)) == wanted:
            return attempt
    return None


def conf_folder() -> Path:
    """conf/: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def check(settings: config.Config) -> None:
    from cnnbench.training.preflight import check  # numpy, which --help need not wait for

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


def log_to_file(line: str) -> None:
    """Write a line to train.log alone, where the log has a file."""
    record = log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
