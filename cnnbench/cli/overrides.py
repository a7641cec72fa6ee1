"""Overrides as they are written: on command lines, in files, in the records of sweeps."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from omegaconf import DictConfig, ListConfig, OmegaConf

from cnnbench import config
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import job_directory_name
from cnnbench.runs.reading import read_text
from cnnbench.runs.sweep import Jobs

__all__ = [
    "Consent",
    "Overrides",
    "as_written",
    "check_number_of_jobs",
    "directory_name",
    "every_combination",
    "quoted",
    "read_pairs",
]

MOST_JOBS = 10_000  # of a sweep

Overrides = list[str]


def as_written(overrides: ListConfig) -> Overrides:
    """Overrides as they were written, with their interpolations."""
    return [str(each) for each in OmegaConf.to_container(overrides, resolve=False) or ()]


def directory_name(overrides: Sequence[str]) -> str:
    """The name of a job's directory, as hydra.sweep.subdir in conf/train.yaml has it."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return job_directory_name(get_overrides_dirname(parsed, list(config.NOT_OF_THE_JOB), ",", "="))


def every_combination(overrides: Sequence[str]) -> list[Overrides]:
    """The overrides of each job of a sweep; of several for one key the last counts."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    return combinations


def read_pairs(path: Path) -> list[Overrides]:
    """The overrides of each job, from a file with a line for each, as typed on a command line.

    Raises:
        ConfigError: it cannot be read, or a line has something else.
    """
    try:
        lines = read_text(path).removeprefix("\ufeff").splitlines()
        pairs = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--pairs {path} cannot be read: {str(error).rstrip('.')}.") from error
    for number, pair in enumerate(pairs, start=1):
        for word in pair:
            if "=" not in word or word.startswith(("-", "hydra", "sweep=")):
                raise ConfigError(
                    f"{path}, line {number}: '{word}' is not a value of one job. Each line is a job, as on the command "
                    "line: optimizer.lr=0.1 train.batch_size=64"
                )
    pairs = [pair for pair in pairs if pair]
    if not pairs:
        raise ConfigError(f"{path} has no line with overrides, such as: optimizer.lr=0.1 train.batch_size=64")
    return pairs


@dataclass(frozen=True)
class Consent:
    """What a sweep that may be anyone's may do beside training with values: what the user has said here and now."""

    directory: Path
    given: Sequence[str]
    allow_custom_model: bool

    def check_words(self, jobs: Jobs) -> None:
        """Check the record of the jobs, before any of it is composed.

        Raises:
            ConfigError: it would look into this machine, change how Hydra works, or lead out of its directory.
        """
        for name, overrides in jobs.items():
            if (self.directory / name).is_symlink():
                raise ConfigError(f"{self.directory / name} is a link, and is not followed.")
            for override in overrides:
                key, _, value = override.partition("=")
                path = key not in config.NEED_CONSENT and (".." in value or value.lstrip("'\"").startswith("/"))
                if path or "hydra" in key or "@" in key or "${" in override:
                    raise ConfigError(
                        f"{self.directory} asks for {override}, which is more than values to train with. "
                        "Give the command of the sweep itself again."
                    )

    def check_composed(self, composed: DictConfig, plain: DictConfig) -> None:
        """Check what a job was composed to; `plain` is without any of its overrides.

        Raises:
            ConfigError: it would run code, write elsewhere, or change how Hydra works.
        """
        again = ["cnnbench", "resume", str(self.directory)]
        name = OmegaConf.select(composed, "model.name")
        if ":" in str(name) and not self.allow_custom_model:
            raise ConfigError(
                f"{self.directory} asks for model.name={name}, code that is not cnnbench's. If you trust it: "
                f"{shlex.join([*again, '--allow-custom-model'])}"
            )
        for key, what in config.NEED_CONSENT.items():
            value = OmegaConf.select(composed, key)
            if value is not None and f"{key}={value}" not in self.given:
                command = shlex.join([*again, *self.given, f"{key}={value}"])
                raise ConfigError(f"{self.directory} {what}: {key}={value}. If that is yours: {command}")
        if _of_hydra(composed) != _of_hydra(plain):
            raise ConfigError(f"{self.directory} asks for more than values to train with: it changes how Hydra works.")


def _of_hydra(composed: DictConfig) -> Any:
    """What Hydra does with a job, less which job it is."""
    hydra: Any = OmegaConf.to_container(composed.hydra, resolve=False)
    for key in ("mode", "overrides", "runtime"):
        del hydra[key]
    for key in ("override_dirname", "num", "id"):
        hydra["job"].pop(key, None)
    hydra["sweeper"].pop("params", None)  # which jobs an experiment proposes: nothing to one of them
    return hydra


def quoted(path: Path) -> str:
    """The path as the value of an override."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def check_number_of_jobs(overrides: Sequence[str], jobs: int) -> None:
    """Check that a sweep, of which there are `jobs` without its overrides, is not too large to be listed.

    Raises:
        ConfigError: it is.
    """
    for override in OverridesParser.create().parse_overrides(list(overrides)):
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
