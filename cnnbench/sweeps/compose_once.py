"""Composing the jobs of a sweep quickly: reading the YAML files takes Hydra 0.1 s, changing a value nothing."""

import copy
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

__all__ = ["ComposeOnce"]

MAX_COMPOSED = 20  # configurations, of 1 MiB each


class ComposeOnce:
    """Hydra's loader of configurations, which here composes once what jobs of the same choices share.

    A job's plain values are set in a copy of that, as Hydra sets them. All else is left to `loader`.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.groups = frozenset(loader.list_groups(""))
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave behind what is composed, as jobs elsewhere take few or one of it."""
        return ComposeOnce, (self.loader,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """Compose a job: `master_config` with its overrides."""
        overrides = OverridesParser.create().parse_overrides(list(sweep_overrides))
        groups = self.groups.union(master_config.hydra.runtime.choices)
        values = [override for override in overrides if _is_plain_value(override, groups)]
        choices = [override for override in overrides if override.key_or_group in groups]
        if len(values) + len(choices) < len(overrides):
            return self.loader.load_sweep_config(master_config, list(sweep_overrides))
        chosen = tuple(str(choice.input_line) for choice in choices)
        if chosen not in self.composed:
            if len(self.composed) == MAX_COMPOSED:
                self.composed.clear()
            self.composed[chosen] = self.loader.load_sweep_config(master_config, list(chosen))
        composed = copy.deepcopy(self.composed[chosen])
        try:
            for override in values:
                OmegaConf.update(composed, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # Hydra says what is wrong
            return self.loader.load_sweep_config(master_config, list(sweep_overrides))
        lines = [str(override.input_line) for override in overrides]
        composed.hydra.overrides.task = lines
        names = composed.hydra.job.config.override_dirname
        kept = [line for line in lines if line.partition("=")[0] not in names.exclude_keys]
        composed.hydra.job.override_dirname = names.item_sep.join(sorted(kept)).replace(
            "=", names.kv_sep
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=composed)
        return composed


def _is_plain_value(override: Override, groups: frozenset[str]) -> bool:
    """Return whether it is KEY=VALUE of a key that is no group of choices and not Hydra's."""
    key = override.key_or_group
    is_change = not (override.is_add() or override.is_force_add() or override.is_delete())
    is_value = is_change and override.package is None and not override.is_sweep_override()
    return is_value and key not in groups and "/" not in key and not override.is_hydra_override()
