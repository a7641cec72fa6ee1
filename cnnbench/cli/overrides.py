"""Overrides as they are written: on command lines, in files, in the records of sweeps."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from cnnbench import config
from cnnbench.analysis.format import truncate
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import job_directory_name
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import read_text, refuse_ways_out
from cnnbench.runs.sweep import Jobs

__all__ = [
    "Consent",
    "Overrides",
    "as_written",
    "check_number_of_jobs",
    "directory_name",
    "every_combination",
    "parse_texts",
    "quoted",
    "read_jobs_file",
]

MOST_JOBS = 10_000  # of a sweep

# a parser that knows no functions: neither casts nor sweeps
PLAIN = OverridesParser(functions=type(OverridesParser.create().functions)())

Overrides = list[str]


def as_written(overrides: ListConfig) -> Overrides:
    """Overrides as they were written, with their interpolations."""
    return [str(each) for each in OmegaConf.to_container(overrides, resolve=False) or ()]


def directory_name(overrides: Sequence[str]) -> str:
    """The name of a job's directory, as hydra.sweep.subdir in conf/train.yaml has it."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return job_directory_name(get_overrides_dirname(parsed, list(config.BOOKKEEPING_KEYS), ",", "="))


def every_combination(overrides: Sequence[str]) -> list[Overrides]:
    """The overrides of each job of a sweep; of several for one key the last counts."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = OverridesParser.create().parse_overrides(config.quote_texts(overrides))
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    # choice(...) takes the quotes away from its texts
    return [config.quote_texts(job) for job in combinations]


def parse_texts(overrides: Sequence[Override]) -> list[Override]:
    """Parse overrides again that Hydra has parsed, so that each text is what was typed."""
    loader = overrides[0].config_loader if overrides else None
    typed = [str(override.input_line) for override in overrides]
    return OverridesParser.create(loader).parse_overrides(config.quote_texts(typed))


def read_jobs_file(path: Path) -> list[Overrides]:
    """The overrides of each job, from a file with a line for each, as typed on a command line.

    Raises:
        ConfigError: it cannot be read, or a line has something else.
    """
    try:
        lines = read_text(path).removeprefix("\ufeff").splitlines()
        pairs = [shlex.split(line, comments=True) for line in lines]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--jobs-file {path} cannot be read: {str(error).rstrip('.')}.") from error
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


PATH = "data.path"  # it needs consent where it leads out of the folder
CHOICE = re.compile(r"\w[\w .+-]*(/\w[\w .+-]*)*")  # the name of a YAML, which may be in folders


@dataclass(frozen=True)
class Consent:
    """What a sweep that may be anyone's may do beside training with values.

    It is what the user has said here and now.

    `arguments` are those of `cnnbench resume`, and `given` the overrides among them.
    """

    directory: Path
    arguments: Sequence[str]
    given: Sequence[str]
    allow_custom_model: bool
    config_dir: str | None

    @cached_property
    def _agreed(self) -> set[tuple[str, str]]:
        """Return the keys and values that the user has given."""
        changes = [config.parse_changes([word], config.RESUME_OVERRIDES, "") for word in self.given]
        return {(key, str(value)) for change in changes for key, value in change.items()}

    def changes_nothing(self, jobs: Jobs) -> bool:
        """Return whether what the user has given lets the jobs go on as they are recorded."""
        words = {word for overrides in jobs.values() for word in overrides if PATH in word}
        overrides = [_parse_plain(word) for word in words]
        paths = {str(override.value()) for override in overrides if override is not None}
        new = {(key, value) for key, value in self._agreed if key != PATH or value not in paths}
        return {key for key, _ in new} <= config.KEYS_NEEDING_CONFIRMATION.keys()

    def check_words(self, jobs: Jobs) -> None:
        """Check the record of the jobs, before any of it is composed: plain values of known keys.

        Raises:
            ConfigError: it would look into this machine, change how Hydra works, or lead out of
                its directory.
        """
        refuse_ways_out(self.directory)  # Hydra writes there before a job begins
        outside: dict[str, None] = {}
        for word in dict.fromkeys(word for overrides in jobs.values() for word in overrides):
            key, value = self._check_word(word)
            if key == PATH and _leads_out(value) and (key, str(value)) not in self._agreed:
                outside[config.format_override(key, str(value))] = None
        if outside:
            raise ConfigError(
                f"{self.directory} reads images from elsewhere: {', '.join(outside)}. "
                f"If that is yours: {self._again(*outside)}"
            )

    def _check_word(self, word: str) -> tuple[str, Any]:
        """Return the key and the value of a recorded override.

        Raises:
            ConfigError: it is more than a plain value of a known key, or the name of a choice.
        """
        refused = ConfigError(
            f"{self.directory} asks for {truncate(word, 200)}, which is more than values to train with. "
            "Give the command of the sweep itself again."
        )
        override = _parse_plain(word)
        if override is None:
            raise refused
        key, value = override.key_or_group, override.value()
        of_model = key.startswith("model.") and key not in config.KEYS
        if self._is_group(key):
            names = _list_values(value)
            is_allowed = all(isinstance(name, str) and CHOICE.fullmatch(name) for name in names)
        else:
            is_allowed = (key in config.KEYS or of_model) and _is_plain(value)
            is_allowed &= key in (*config.KEYS_NEEDING_CONFIRMATION, PATH) or not _leads_out(value)
        if not is_allowed or override.is_delete() or override.package is not None:
            raise refused
        if of_model and override.get_key_element() != key and not self.allow_custom_model:
            raise ConfigError(
                f"{self.directory} asks for {word}, an argument of a custom model. "
                f"If you trust it: {self._again('--allow-custom-model')}"
            )
        return key, value

    def _is_group(self, key: str) -> bool:
        """Return whether the key chooses a configuration of cnnbench, or one of the user's."""
        if key in config.GROUPS:
            return True
        is_hydras = key.partition("/")[0].partition(".")[0] == "hydra"
        if not key or is_hydras or self.config_dir is None:
            return False
        return Path(self.config_dir, key).is_dir()

    def _again(self, *more: str) -> str:
        """Return the command with more consent."""
        return shlex.join([*processes().program(), "resume", *self.arguments, *more])

    def check_composed(self, composed: DictConfig, plain: DictConfig) -> None:
        """Check what a job was composed to; `plain` is without any of its overrides.

        Raises:
            ConfigError: it would run code, write elsewhere, or change how Hydra works.
        """
        name = OmegaConf.select(composed, "model.name")
        if ":" in str(name) and not self.allow_custom_model:
            raise ConfigError(
                f"{self.directory} asks for model.name={name}, code that is not cnnbench's. If you trust it: "
                f"{self._again('--allow-custom-model')}"
            )
        for key, what in config.KEYS_NEEDING_CONFIRMATION.items():
            value = OmegaConf.select(composed, key)
            if value is not None and (key, str(value)) not in self._agreed:
                command = self._again(config.format_override(key, str(value)))
                raise ConfigError(f"{self.directory} {what}: {key}={value}. If that is yours: {command}")
        if _of_hydra(composed) != _of_hydra(plain):
            raise ConfigError(f"{self.directory} asks for more than values to train with: it changes how Hydra works.")


def _parse_plain(word: str) -> Override | None:
    """Parse a recorded override; return None if it is not in the grammar, or calls a function."""
    try:
        return PLAIN.parse_override(word)
    except (HydraException, RecursionError, ValueError):  # the last for numbers of too many digits
        return None


def _list_values(value: Any) -> list[Any]:
    """Return the plain values in a value: those of a list, none of null."""
    if isinstance(value, list):
        return [inner for each in value for inner in _list_values(each)]
    return [] if value is None else [value]


def _is_plain(value: Any) -> bool:
    """Return whether it is a text, a number, a truth value or null, or a list of these.

    A text with a reference is none.
    """
    values = _list_values(value)
    return all(isinstance(each, (str, int, float)) and "${" not in str(each) for each in values)


def _leads_out(value: Any) -> bool:
    """Return whether a text in it is a path that leads out of the folder where it is used."""
    texts = [each for each in _list_values(value) if isinstance(each, str)]
    return any(config.leads_out(text) for text in texts)


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
    """Quote a path as the value of an override that holds no reference."""
    return config.quote(re.sub(r"(\\*)\$\{", r"\1\1\\${", str(path)))


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
