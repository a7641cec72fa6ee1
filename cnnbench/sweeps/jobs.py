"""The jobs of a sweep: all combinations of the values, for each line of a jobs file."""

import itertools
import logging
import math
import random
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from cnnbench import config
from cnnbench.analysis.format import format_time_left
from cnnbench.errors import ConfigError
from cnnbench.runs.reading import read_text

if TYPE_CHECKING:
    from cnnbench.sweeps.untrusted import UntrustedSweepPolicy

__all__ = [
    "Overrides",
    "SweepProgress",
    "SweepRequest",
    "list_jobs",
    "quote_path",
    "read_jobs_file",
]

log = logging.getLogger("cnnbench")

MAX_JOBS = 10_000

Overrides = list[str]


@dataclass
class SweepRequest:
    """The request of a command for a sweep, and its outcome.

    `command` has the words that the user typed. `jobs` replace the jobs of the overrides. `policy`
    checks them. `is_reproduction` is for cnnbench reproduce, which prints a table of experiments.
    The sweep sets the last three fields.
    """

    command: Sequence[str]
    jobs: Sequence[Overrides] | None = None
    policy: "UntrustedSweepPolicy | None" = None
    is_reproduction: bool = False
    launched: bool = False
    progress: "SweepProgress | None" = None
    exit_code: int | None = None


@dataclass(frozen=True)
class SweepProgress:
    """The progress of a sweep of `total` jobs. `finished` of them had finished at the start.

    `parallel` is the number of jobs that run at once. `started` is a value of time.time(), which
    other processes share.
    """

    total: int
    finished: int
    parallel: int
    started: float

    def log(self, number: int) -> None:
        """Log "3 of 12, about 8 min left" when job `number` begins, if other jobs have ended."""
        if number < self.parallel:
            return
        ended = number - (self.parallel - 1) / 2  # jobs that still run are half done on average
        left = self.total - self.finished - ended
        left_s = (time.time() - self.started) / ended * left
        place = f"{self.finished + number + 1:,} of {self.total:,}"
        log.info(f"{place}, about {format_time_left(left_s)} left")


def list_jobs(
    overrides: Sequence[str],
    proposed: Mapping[str, Any] | None = None,
    lines: Sequence[Sequence[str]] = ((),),
    loader: ConfigLoader | None = None,
) -> list[Overrides]:
    """Return the overrides of each job: all combinations of the values, for each of the lines.

    The last override of a key counts. `proposed` are the values of an experiment, in its
    hydra.sweeper.params. Other values of the same key replace them. glob(*) needs a `loader`.

    Raises:
        ConfigError: a key has no value, or is in `overrides` and `lines`; or there are more than
            MAX_JOBS jobs.
    """
    in_lines = {word.partition("=")[0].lstrip("+") for line in lines for word in line}
    defaults = [f"{key}={value}" for key, value in (proposed or {}).items() if key not in in_lines]
    parser = OverridesParser.create(loader)
    values: dict[str, Overrides] = {}
    for override in parser.parse_overrides(config.quote_texts([*defaults, *overrides])):
        values[override.get_key_element()] = _expand(override)
    for key in values:
        if key.lstrip("+") in in_lines:
            raise ConfigError(
                f"{key} is given by the jobs file and on the command line. Leave one out."
            )
    num_jobs = len(lines) * math.prod(map(len, values.values()))
    if num_jobs > MAX_JOBS:
        longest = max(values, key=lambda key: len(values[key]))
        num_values = min(len(values[longest]), MAX_JOBS)
        raise ConfigError(
            f"This is a sweep of more than {MAX_JOBS:,} jobs, which is too many: {longest} alone "
            f"has {num_values:,} values or more. "
            "Give fewer values, or several sweeps of the same name (sweep=NAME)."
        )
    combinations = list(itertools.product(*values.values()))
    # Quote texts again, as choice(...) removes their quotes.
    return [config.quote_texts([*line, *job]) for line in lines for job in combinations]


def _expand(override: Override) -> Overrides:
    """Return an override for each value of a sweep. A range gives at most MAX_JOBS + 1."""
    key, typed = override.get_key_element(), override.input_line
    if override.is_interval_sweep():
        raise ConfigError(
            f"{typed}: an interval has no values to list. Give values, such as {key}=0.01,0.1 or "
            f"{key}=range(1,5). Sweepers that search take intervals, such as hydra/sweeper=optuna."
        )
    if override.is_delete():
        return [str(typed)]
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_range_sweep():
        values = list(override.sweep_string_iterator())
    else:
        try:
            sweep: Any = override.value()
            numbers = list(itertools.islice(sweep.range(), MAX_JOBS + 1))
        except ValueError as error:  # the step is 0
            raise ConfigError(f"{typed} is not a range: its step is 0.") from error
        if sweep.shuffle and len(numbers) <= MAX_JOBS:
            random.shuffle(numbers)
        # 12 digits are without the rounding errors of the steps.
        values = [
            str(float(f"{number:.12g}")) if isinstance(number, float) else str(number)
            for number in numbers
        ]
    if not values:
        raise ConfigError(f"{typed} has no values: nothing matches, or the range is empty.")
    return [f"{key}={value}" for value in values]


def read_jobs_file(path: Path) -> list[Overrides]:
    """Read the overrides of each job: a line for each job, as on a command line.

    Raises:
        ConfigError: the file cannot be read, or a line is not the values of one job.
    """
    try:
        lines = read_text(path).removeprefix("\ufeff").splitlines()
        jobs = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"The jobs file {path} cannot be read: {reason}.") from error
    for number, job in enumerate(jobs, start=1):
        keys = [word.partition("=")[0].lstrip("+") for word in job]
        for word, key in zip(job, keys, strict=True):
            is_value = "=" in word and not key.startswith(("-", "~", "hydra"))
            if not is_value or key == "sweep" or config.parse_override(word).is_sweep_override():
                raise ConfigError(
                    f"{path}, line {number}: '{word}' is not a value of one job. Each line is a "
                    "job, as on the command line: optimizer.lr=0.1 train.batch_size=64"
                )
            if keys.count(key) > 1:
                raise ConfigError(f"{path}, line {number}: {key} is given twice. Leave one out.")
    if not any(jobs):
        raise ConfigError(
            f"{path} has no line with overrides, such as: optimizer.lr=0.1 train.batch_size=64"
        )
    return [job for job in jobs if job]


def quote_path(path: Path) -> str:
    """Quote a path as the value of an override, and escape ${ in it."""
    return config.quote(re.sub(r"(\\*)\$\{", r"\1\1\\${", str(path)))
