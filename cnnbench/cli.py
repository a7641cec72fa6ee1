"""The command line: argv to a verb, errors to a message and an exit code. The only importer of Hydra."""

import argparse
import gc
import logging.config
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import cnnbench
from cnnbench import config
from cnnbench.errors import CnnbenchError, ConfigError, did_you_mean, from_machine
from cnnbench.runs.directory import RunDirectory, claim, claim_exactly, claim_new, job_directory_name
from cnnbench.runs.reading import find_runs
from cnnbench.runs.stopping import SIGTERM_CODE
from cnnbench.runs.stopwatch import Stopwatch

__all__ = ["RunDirectoryCallback", "main"]

SIGINT_CODE = 130

# What `_as_cnnbench_error` has words for wherever it comes from.
EXPLAINED = (CnnbenchError, HydraException, OmegaConfBaseException, YAMLError, OSError)

MOST_JOBS = 10_000  # of a sweep


def main() -> int:
    """Run the verb that sys.argv names; returns the exit code."""
    ended_before = signal.signal(signal.SIGTERM, _end)
    logging.raiseExceptions = (
        False  # a line that a full disk does not take is lost, and what is lost with it will be told
    )
    arguments = sys.argv[1:]
    verb = arguments[0] if arguments and _is_word(arguments[0]) else "train"
    rest = arguments[1:] if verb in arguments[:1] else arguments
    try:
        if rest[:1] == ["--version"]:
            print(f"cnnbench {cnnbench.__version__}")
            return 0
        if verb not in VERBS:
            raise ConfigError(f"There is no verb '{verb}'. {did_you_mean(verb, VERBS)}")
        return VERBS[verb](rest)
    except BrokenPipeError:
        _leave_the_reader()
        return 0
    except KeyboardInterrupt:
        print("cnnbench: interrupted", file=sys.stderr)
        return SIGINT_CODE
    except Exception as error:
        return _report(error)
    finally:
        signal.signal(signal.SIGTERM, ended_before)  # an exception while Python ends would be shown with its traceback


def _leave_the_reader() -> None:
    """Nobody reads on, as in `cnnbench summary | head`: not to be told again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(number: int, frame: FrameType | None) -> None:
    print("cnnbench: terminated", file=sys.stderr)
    raise SystemExit(SIGTERM_CODE)


def _is_word(argument: str) -> bool:
    """Whether an argument is a bare word, meant as a verb: neither a flag nor a Hydra override, if half of one."""
    return not any(sign in argument for sign in "=.@/") and argument[:1] not in ("-", "~", "+")


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _train(arguments: list[str]) -> int:
    """Train: one run, or the jobs of a sweep."""
    return _compose("train", arguments, _train_one)


def _compose(config_name: str, arguments: list[str], job: Callable[[DictConfig], float | None]) -> int:
    """Let Hydra compose a configuration and give it to `job`, or several, one after the other."""
    failures: list[int] = []

    def guarded(composed: DictConfig) -> float | None:
        gc.enable()
        try:
            return job(composed)
        except BrokenPipeError:
            _leave_the_reader()
            return None
        except Exception as error:
            failures.append(_report(error))  # the other jobs of a sweep go on
            return None

    sys.argv[1:] = sorted(arguments, key=_is_override)  # argparse fails on a flag between overrides
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors to `main` instead of printing them
    ConfigStore.instance().store("schema", config.Schema)
    OmegaConf.register_new_resolver("job_directory", job_directory_name, replace=True)
    _share_config_store()
    gc.disable()  # composing and the import of PyTorch leave no garbage; looking for it takes an eighth of their time
    try:
        hydra.main(config_path=str(_conf_folder()), config_name=config_name, version_base="1.3")(guarded)()
    except EXPLAINED:
        raise
    except Exception as error:  # an assertion or the like in Hydra: what is our own is guarded
        raise ConfigError(f"Hydra cannot work with this command line: {str(error) or type(error).__name__}") from error
    finally:
        gc.enable()
    return failures[0] if failures else 0


def _share_config_store() -> None:
    """Keep Hydra from copying its store of configurations, which holds what nobody changes.

    It is copied whenever a group is looked at: 90 times for --help, half of the time that takes.
    """

    def itself(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
        return store

    ConfigStore.__deepcopy__ = itself  # type: ignore[attr-defined]  # Hydra has none of its own


def _train_one(composed: DictConfig) -> float:
    watch = Stopwatch(time.perf_counter() if _sweeps() else cnnbench.STARTED)
    directory = Path(HydraConfig.get().runtime.output_dir)
    run = claim(directory) if _sweeps() else RunDirectoryCallback.claimed
    if run is None:
        settings = config.load(composed)
        from cnnbench.commands import resume

        with _told_how_to_go_on(lambda: _this_command(settings)):
            return resume.repeat(directory, settings, watch)
    with run.recorded_status():
        settings = config.load(composed)
        run.write_text("config.yaml", config.to_yaml(settings))  # from here on the run can go on, whatever happens
        _check(settings)
        from cnnbench.commands import resume, train

        go_on = _this_command if _sweeps() else partial(resume.command, directory)
        with _told_how_to_go_on(lambda: go_on(settings)):
            return train.run(settings, run, watch)


@contextmanager
def _told_how_to_go_on(command: Callable[[], str]) -> Iterator[None]:
    """If a signal ends the block, print the command that goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print(f"To go on: {command()}", file=sys.stderr)
        raise


def _this_command(settings: config.Config) -> str:
    """The command line of a sweep, with the name under which its jobs go on."""
    given = any(argument.startswith("sweep=") for argument in sys.argv)
    return shlex.join(["cnnbench", *sys.argv[1:], *([] if given else [f"sweep={settings.sweep}"])])


def _resume(arguments: list[str]) -> int:
    """Go on with what is unfinished in a run directory, or in those of a sweep."""
    parser = argparse.ArgumentParser(
        prog="cnnbench resume",
        description="Go on with a training run from its last checkpoint. It ends with the numbers of a run that was "
        "never interrupted. Given the directory of a sweep, go on with every run in it that is not finished.",
        epilog="Example: cnnbench resume outputs/lenet-fashion_mnist-28px/2026-11-24_10-00-00 train.epochs=20",
    )
    parser.add_argument("directory", type=Path, help="a run or sweep directory, such as those under outputs/")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help=f"change {', '.join(config.CHANGEABLE)}")
    parser.add_argument("--allow-custom-model", action="store_true", help="let it run a network that is not cnnbench's")
    options = parser.parse_intermixed_args(arguments)
    changes = config.parse_changes(options.changes)
    failures = []
    for directory in find_runs(options.directory):
        from cnnbench.commands import resume

        watch = Stopwatch(time.perf_counter())
        try:
            with _told_how_to_go_on(lambda: shlex.join(["cnnbench", *sys.argv[1:]])):
                resume.run(directory, changes, options.allow_custom_model, watch, partial(_log_to, directory))
        except Exception as error:
            failures.append(_report(error))  # the other jobs of a sweep go on
    return failures[0] if failures else 0


def _log_to(directory: Path) -> None:
    """Log as a run does that Hydra starts."""
    plain = OmegaConf.load(_conf_folder() / "hydra" / "job_logging" / "plain.yaml")
    settings = OmegaConf.merge(plain, {"hydra": {"runtime": {"output_dir": str(directory)}}})
    logging.config.dictConfig(cast("dict[str, Any]", OmegaConf.to_container(settings, resolve=True)))


def _sweeps() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _check(settings: config.Config) -> None:
    from cnnbench.commands.check import check  # numpy, which --help need not wait for

    check(settings)


class RunDirectoryCallback(Callback):
    """Hydra calls it when a single run is composed, before any directory is made or log opened."""

    claimed: ClassVar[RunDirectory]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweep of too many jobs: Hydra lists all before the first, until the memory is full."""
        try:
            _check_number_of_jobs(list(config.hydra.overrides.task))
        except Exception as error:
            raise SystemExit(_report(error)) from error

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the configuration, then claim a run directory and tell Hydra its name.

        Hydra turns an Exception of a callback into a warning, so errors leave as SystemExit.
        """
        try:
            composed = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            _check(cnnbench.config.load(composed))
            named = any(override.startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra)
            verb = "benchmark" if config.hydra.job.config_name == "benchmark" else "train"
            run = (claim_exactly if named else claim_new)(Path(config.hydra.run.dir), verb)
        except Exception as error:
            raise SystemExit(_report(error)) from error
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


def _conf_folder() -> Path:
    """conf/: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


class _Flags(argparse.ArgumentParser):
    """The flags of a verb that are not Hydra's."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}.")


def _summary(arguments: list[str]) -> int:
    """Look at the network of a composed configuration. Flags that are not summary's own are Hydra's."""
    parser = _Flags()
    parser.add_argument("--depth", type=int)
    parser.add_argument("--layer")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options, rest = parser.parse_known_args(arguments)
    if options.depth is not None and options.depth < 1:
        raise ConfigError(f"--depth {options.depth} is out of range. It must be at least 1.")
    if options.layer is not None and options.depth is not None:
        raise ConfigError("--layer looks at one convolution and --depth folds all layers: choose one.")
    if {"-m", "--multirun"}.intersection(rest):
        raise ConfigError("cnnbench summary looks at one network: -m is for cnnbench train.")

    def job(composed: DictConfig) -> None:
        settings = config.load(composed)
        from cnnbench.commands import summary  # torch, which a mistake need not wait for

        summary.run(settings, **vars(options))

    return _compose("summary", rest, job)


def _benchmark(arguments: list[str]) -> int:
    """Measure networks. Flags that are not benchmark's own are Hydra's."""
    parser = _Flags()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epoch-limit", type=float, default=60.0, dest="epoch_limit_s")
    options, rest = parser.parse_known_args(arguments)
    if options.rounds < 1:
        raise ConfigError(f"--rounds {options.rounds} is out of range. It must be at least 1.")
    if not options.epoch_limit_s >= 0:
        raise ConfigError(f"--epoch-limit {options.epoch_limit_s:g} is out of range. It must be at least 0.")
    results: list[dict[str, Any]] = []

    def job(composed: DictConfig) -> None:
        directory = Path(HydraConfig.get().runtime.output_dir)
        run = claim_exactly(directory, "benchmark") if _sweeps() else RunDirectoryCallback.claimed
        with run.recorded_status():
            settings = config.load(composed)
            _check(settings)
            from cnnbench.commands import benchmark

            overrides = list(HydraConfig.get().overrides.task)
            results.append(benchmark.run(settings, run, overrides, **vars(options)))

    try:
        return _compose("benchmark", rest, job)
    finally:  # what was measured before an interruption, too
        if results:
            from cnnbench.commands.benchmark import print_table

            print_table(results)


def _models(arguments: list[str]) -> int:
    from cnnbench.commands import models

    models.run(arguments, _conf_folder())
    return 0


def _data(arguments: list[str]) -> int:
    from cnnbench.commands import data

    data.run(arguments)
    return 0


VERBS = {
    "train": _train,
    "resume": _resume,
    "summary": _summary,
    "benchmark": _benchmark,
    "models": _models,
    "data": _data,
}


def _report(error: Exception) -> int:
    """Print an error as one block on stderr, with a traceback only if it is a bug; returns the exit code."""
    known = _as_cnnbench_error(error)
    if known is None or os.environ.get("CNNBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    if known is None:
        print("cnnbench: this is a bug in cnnbench; the lines above say where.", file=sys.stderr)
        return 1
    print(f"cnnbench: {known}", file=sys.stderr)
    return known.exit_code


def _as_cnnbench_error(error: Exception) -> CnnbenchError | None:
    """The error as one for people, or None if it is a bug."""
    match error:
        case CnnbenchError():
            return error
        case HydraException():
            return ConfigError(_explain_hydra(error))
        case OmegaConfBaseException():
            return ConfigError(config.explain(error))
        case YAMLError():
            return ConfigError(f"A configuration file is not YAML: {error}")
    return from_machine(error)


def _explain_hydra(error: HydraException) -> str:
    cause = error.__cause__
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if not group:
            return f"There is no primary configuration '{name}'."
        return f"{group}={name} is not known. {did_you_mean(name, error.options or [])}"
    if isinstance(error, OverrideParseException):
        return (
            f"'{error.override}' is not an override. Write KEY=VALUE, such as train.epochs=3, "
            "and quote values with special characters: \"data.root='/my folder'\"."
        )
    if isinstance(cause, OmegaConfBaseException):
        return config.explain(cause)
    multiple = re.match(r"Multiple values for (\S+?)\.", str(error))
    if multiple:
        return f"{multiple[1]} has a choice already. Change it without the +: {multiple[1]}=NAME."
    return str(error).strip()
