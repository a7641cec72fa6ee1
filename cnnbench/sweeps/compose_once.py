"""Compose the jobs of a sweep quickly, as Hydra takes 0.1 s to read the YAML files of a job."""

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
    """Hydra's loader of configurations, which composes jobs with the same choices only once.

    It sets the plain values of a job in a copy, as Hydra does. `loader` does everything else.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.groups = frozenset(loader.list_groups(""))
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the composed configurations: a job in another process uses few of them."""
        return ComposeOnce, (self.loader,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """Return `master_config` with the overrides of a job."""
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
        except OmegaConfBaseException:  # let Hydra raise the error
            return self.loader.load_sweep_config(master_config, list(sweep_overrides))
        lines = [str(override.input_line) for override in overrides]
        composed.hydra.overrides.task = lines
        names = composed.hydra.job.config.override_dirname
        kept = [line for line in lines if line.partition("=")[0] not in names.exclude_keys]
        dirname = names.item_sep.join(sorted(kept))
        composed.hydra.job.override_dirname = dirname.replace("=", names.kv_sep)
        OmegaConf.copy_cache(from_config=master_config, to_config=composed)
        return composed


def _is_plain_value(override: Override, groups: frozenset[str]) -> bool:
    """Return whether an override is KEY=VALUE of a key that is neither a group nor of Hydra."""
    key = override.key_or_group
    is_change = not (override.is_add() or override.is_force_add() or override.is_delete())
    is_value = is_change and override.package is None and not override.is_sweep_override()
    return is_value and key not in groups and "/" not in key and not override.is_hydra_override()
