"""Jobs that the directory of a sweep records: it may be someone else's, so it is not obeyed blindly."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cnnbench import config
from cnnbench.analysis.format import truncate
from cnnbench.errors import ConfigError
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import refuse_ways_out
from cnnbench.runs.sweep import JOBS, Jobs

__all__ = ["UntrustedSweepPolicy"]

# a parser that knows no functions: neither casts nor sweeps
PLAIN = OverridesParser(functions=type(OverridesParser.create().functions)())

PATH = "data.path"  # needs confirmation if it leads out of the working folder
CHOICE = re.compile(r"\w[\w .+-]*(/\w[\w .+-]*)*")  # the name of a YAML, which may be in folders


@dataclass(frozen=True)
class UntrustedSweepPolicy:
    """Let recorded jobs train with plain values. Refuse all else that the user has not confirmed.

    `arguments` are those of `cnnbench resume`, `given` the overrides among them.
    """

    directory: Path
    arguments: Sequence[str]
    given: Sequence[str]
    allow_custom_model: bool
    config_dir: str | None

    @cached_property
    def _confirmed(self) -> set[tuple[str, str]]:
        """Return the keys and values that the user has given."""
        changes = [
            config.parse_changes([word], config.RESUME_OVERRIDES, "in a run that is resumed") for word in self.given
        ]
        return {(key, str(value)) for change in changes for key, value in change.items()}

    def only_confirms(self, jobs: Jobs) -> bool:
        """Return whether the overrides that the user has given confirm recorded values."""
        words = {word for overrides in jobs.values() for word in overrides if PATH in word}
        overrides = [_parse_plain(word) for word in words]
        paths = {str(override.value()) for override in overrides if override is not None}
        new = {key for key, value in self._confirmed if key != PATH or value not in paths}
        return new <= config.KEYS_NEEDING_CONFIRMATION.keys()

    def check_overrides(self, jobs: Jobs) -> None:
        """Check recorded jobs before any is composed: plain values of known keys, and choices.

        Raises:
            ConfigError: a job would read this machine's environment, change how Hydra works, or
                leave its directory.
        """
        refuse_ways_out(self.directory)  # Hydra writes there before a job begins
        outside: dict[str, None] = {}
        for word in dict.fromkeys(word for overrides in jobs.values() for word in overrides):
            key, value = self._check_override(word)
            if key == PATH and _leads_out(value) and (key, str(value)) not in self._confirmed:
                outside[config.format_override(key, str(value))] = None
        if outside:
            raise ConfigError(
                f"{self.directory} reads images from elsewhere: {', '.join(outside)}. "
                f"If that is yours: {self._again(*outside)}"
            )

    def _check_override(self, word: str) -> tuple[str, Any]:
        """Return key and value of a recorded override; refuse all but a plain value or a choice."""
        refused = ConfigError(
            f"Refused override {truncate(word, 200)} from {self.directory / JOBS}: recorded "
            "jobs may only set training values. Run the original sweep command again."
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
        """Return the command with more confirmed."""
        return shlex.join([*processes().program(), "resume", *self.arguments, *more])

    def check_composed(self, composed: DictConfig, shared: DictConfig) -> None:
        """Check what a job is composed to; `shared` is composed without any of its overrides.

        Raises:
            ConfigError: it would run code, write elsewhere, or change how Hydra works.
        """
        name = OmegaConf.select(composed, "model.name")
        if ":" in str(name) and not self.allow_custom_model:
            raise ConfigError(
                f"{self.directory} asks for model.name={name}, code that is not cnnbench's. "
                f"If you trust it: {self._again('--allow-custom-model')}"
            )
        for key, what in config.KEYS_NEEDING_CONFIRMATION.items():
            value = OmegaConf.select(composed, key)
            if value is not None and (key, str(value)) not in self._confirmed:
                command = self._again(config.format_override(key, str(value)))
                raise ConfigError(f"{self.directory} {what}: {key}={value}. If that is yours: {command}")
        if _hydra_settings(composed) != _hydra_settings(shared):
            raise ConfigError(f"{self.directory} asks for more than training values: it changes how Hydra works.")


def _parse_plain(word: str) -> Override | None:
    """Parse a recorded override; return None if it is not in the grammar, or calls a function."""
    try:
        return PLAIN.parse_override(word)
    except (HydraException, RecursionError, ValueError):  # the last for numbers of too many digits
        return None


def _list_values(value: Any) -> list[Any]:
    """Return the plain values in a value: those of a list, none of null."""
    if isinstance(value, list):
        return [inner for item in value for inner in _list_values(item)]
    return [] if value is None else [value]


def _is_plain(value: Any) -> bool:
    """Return whether it is texts without references, numbers, truth values, nulls or lists of these."""
    values = _list_values(value)
    return all(isinstance(item, (str, int, float)) and "${" not in str(item) for item in values)


def _leads_out(value: Any) -> bool:
    """Return whether a text in it is a path that leads out of the folder where it is used."""
    return any(config.leads_out(item) for item in _list_values(value) if isinstance(item, str))


def _hydra_settings(composed: DictConfig) -> object:
    """Return what Hydra does with a job, less which job it is."""
    hydra: Any = OmegaConf.to_container(composed.hydra, resolve=False)
    for key in ("mode", "overrides", "runtime"):
        del hydra[key]
    for key in ("override_dirname", "num", "id"):
        hydra["job"].pop(key, None)
    hydra["sweeper"].pop("params", None)  # which jobs an experiment proposes: nothing to one of them
    return hydra
