"""Checks of the recorded jobs of a sweep, whose directory may be untrusted."""

import re
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
from cnnbench.runs.reading import reject_escaping_links
from cnnbench.runs.sweep import JOBS, Jobs
from cnnbench.runs.torchrun_env import processes

__all__ = ["UntrustedSweepPolicy"]

# a parser without functions: neither casts nor sweeps
PLAIN = OverridesParser(functions=type(OverridesParser.create().functions)())

CHOICE = re.compile(r"\w[\w .+-]*(/\w[\w .+-]*)*")  # the name of a YAML file, perhaps in folders


@dataclass(frozen=True)
class UntrustedSweepPolicy:
    """The policy for recorded jobs: they may set training values, and the user confirms the rest.

    `arguments` are the words after `cnnbench resume`. `given` are the overrides among them.
    """

    directory: Path
    arguments: Sequence[str]
    given: Sequence[str]
    allow_custom_model: bool
    config_dir: str | None

    @cached_property
    def _confirmed(self) -> set[tuple[str, str]]:
        """Return the keys and values of the overrides that the user has given."""
        allowed, where = config.RESUME_OVERRIDES, "in a run that is resumed"
        confirmed = set()
        for word in self.given:
            changes = config.parse_changes([word], allowed, where)
            confirmed |= {(key, str(value)) for key, value in changes.items()}
        return confirmed

    def only_confirms(self, jobs: Jobs) -> bool:
        """Return whether all overrides that the user has given only confirm recorded values."""
        words = {word for overrides in jobs.values() for word in overrides if "data.path" in word}
        recorded = {str(override.value()) for override in map(_parse_plain, words) if override}
        new = {key for key, value in self._confirmed if key != "data.path" or value not in recorded}
        return new <= config.KEYS_NEEDING_CONFIRMATION.keys() - {"data.path"}

    def check_overrides(self, jobs: Jobs) -> None:
        """Check that recorded jobs only have plain values of known keys, and choices.

        Raises:
            ConfigError: a job would read the environment of this machine, change how Hydra
                works, or write outside its directory.
        """
        reject_escaping_links(self.directory)  # Hydra writes into it before a job begins
        for word in dict.fromkeys(word for overrides in jobs.values() for word in overrides):
            override = _parse_plain(word)
            if override is None or not self._is_allowed(override):
                raise ConfigError(
                    f"Refused override {truncate(word, 200)} from {self.directory / JOBS}: recorded"
                    " jobs may only set training values. Run the original sweep command again."
                )

    def _is_allowed(self, override: Override) -> bool:
        """Return whether an override gives a key a plain value, or chooses a configuration."""
        if override.is_delete() or override.package is not None:
            return False
        key, values = override.key_or_group, _list_values(override.value())
        if self._is_group(key):
            return all(isinstance(name, str) and CHOICE.fullmatch(name) for name in values)
        if not (key in config.KEYS or key.startswith("model.")):
            return False
        return all(
            isinstance(value, (str, int, float)) and "${" not in str(value) for value in values
        )

    def _is_group(self, key: str) -> bool:
        """Return whether the key is a group of cnnbench or of the user."""
        is_of_hydra = key.partition("/")[0].partition(".")[0] in ("", "hydra")
        is_of_user = self.config_dir is not None and Path(self.config_dir, key).is_dir()
        return key in config.GROUPS or (is_of_user and not is_of_hydra)

    def check_job(self, composed: DictConfig, shared: DictConfig, settings: config.Config) -> None:
        """Check the composed configuration of a job. `shared` is composed without its overrides.

        Raises:
            ConfigError: the job would run code, use places outside its directory, or change how
                Hydra works.
        """
        if _hydra_settings(composed) != _hydra_settings(shared):
            raise ConfigError(
                f"Refused {self.directory / JOBS}: a recorded job may not change how Hydra works. "
                "Run the original sweep command again."
            )
        command = [*processes().program(), "resume", *self.arguments]
        trusts = self.allow_custom_model
        config.check_trust(self.directory, settings, self._confirmed, trusts, command)


def _parse_plain(word: str) -> Override | None:
    """Parse a recorded override. Return None if it is invalid or calls a function."""
    try:
        return PLAIN.parse_override(word)
    except (HydraException, RecursionError, ValueError):  # ValueError: a number has too many digits
        return None


def _list_values(value: Any) -> list[Any]:
    """Return the scalars of a value: all items of a list, or none for null."""
    if isinstance(value, list):
        return [inner for item in value for inner in _list_values(item)]
    return [] if value is None else [value]


def _hydra_settings(composed: DictConfig) -> object:
    """Return the settings of Hydra for a job, without those that identify the job."""
    hydra: Any = OmegaConf.to_container(composed.hydra, resolve=False)
    for key in ("mode", "overrides", "runtime"):
        del hydra[key]
    for key in ("override_dirname", "num", "id"):
        hydra["job"].pop(key, None)
    hydra["sweeper"].pop("params", None)  # the values that an experiment proposes
    return hydra
