"""Overrides as they are written: on command lines, in files, in the records of sweeps."""

import re
import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from omegaconf import ListConfig, OmegaConf

from cnnbench import config
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import job_directory_name
from cnnbench.runs.reading import read_text
from cnnbench.runs.sweep import Jobs

__all__ = [
    "Overrides",
    "as_written",
    "check_number_of_jobs",
    "directory_name",
    "quoted",
    "read_pairs",
    "require_harmless",
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


def read_pairs(path: Path) -> list[Overrides]:
    """The overrides of each job, from a file with a line for each, as typed on a command line.

    Raises:
        ConfigError: it cannot be read, or a line has something else.
    """
    try:
        lines = read_text(path).splitlines()
        pairs = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--pairs {path} cannot be read: {error}.") from error
    for number, pair in enumerate(pairs, start=1):
        for word in pair:
            if "=" not in word or word.startswith("-"):
                raise ConfigError(
                    f"{path}, line {number}: '{word}' is not an override. Each line is a job, as on the command line: "
                    "optimizer.lr=0.1 train.batch_size=64"
                )
    pairs = [pair for pair in pairs if pair]
    if not pairs:
        raise ConfigError(f"{path} has no line with overrides, such as: optimizer.lr=0.1 train.batch_size=64")
    return pairs


def require_harmless(directory: Path, jobs: Jobs, given: Sequence[str], allow_custom_model: bool) -> None:
    """Check that a sweep which may be anyone's says what to train with and nothing else.

    Raises:
        ConfigError: it would run code, look into this machine, write elsewhere, or leads out of its directory.
    """
    for name, overrides in jobs.items():
        if (directory / name).is_symlink():
            raise ConfigError(f"{directory / name} is a link, and is not followed.")
        for override in overrides:
            key, _, value = override.lstrip("+~").partition("=")
            if re.match(r"hydra\b", key) or re.search(r"\$\{[^}]*:", value):
                raise ConfigError(
                    f"{directory} asks for {override}, which is more than values to train with. Give it yourself."
                )
            if key == "model.name" and ":" in value and not allow_custom_model:
                raise ConfigError(
                    f"{directory} asks for {override}, code that is not cnnbench's. If you trust it: "
                    f"{shlex.join(['cnnbench', 'resume', str(directory), '--allow-custom-model'])}"
                )
            if key == "data.root" and override not in given:
                raise ConfigError(
                    f"{directory} keeps its data in a folder of its own, {override}. If that is yours: "
                    f"{shlex.join(['cnnbench', 'resume', str(directory), override])}"
                )


def quoted(path: Path) -> str:
    """The path as the value of an override."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
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
