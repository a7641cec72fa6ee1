"""Composed configurations: to plain values and to a `Config`, with errors in plain words.

Hydra composes them. OmegaConf holds them and resolves their interpolations.
"""

import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    GrammarParseError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from cnnbench.config.load import explain_unknown_key, flatten, format_value, load_config
from cnnbench.config.schema import Config
from cnnbench.errors import ConfigError

__all__ = ["explain_omegaconf", "load_composed", "to_plain", "without_hydra"]

# messages of OmegaConf, and the words that replace them
OMEGACONF_REFUSALS = {
    r"Environment variable '(.+)' not found": "the environment variable {} is not set.",
    r"Interpolation key '(.+)' not found": "there is no key '{}', to which it refers.",
    r"Unsupported interpolation type (\S+)": "there is no resolver '{}'. Use ${{oc.env:NAME}}.",
}


def without_hydra(composed: DictConfig) -> DictConfig:
    """Return a composed configuration without the settings of Hydra."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def to_plain(composed: DictConfig) -> dict[str, Any]:
    """Return the plain values of a composed configuration, without the settings of Hydra.

    Raises:
        ConfigError: an interpolation cannot be resolved, or a value is missing.
    """
    try:
        # not in a copy, in which ${now:} could be a second later
        values = {str(key): composed[key] for key in composed if key != "hydra"}
        return {key: _to_plain_value(value) for key, value in values.items()}
    except OmegaConfBaseException as error:
        raise ConfigError(explain_omegaconf(error)) from error


def _to_plain_value(value: Any) -> Any:
    if not OmegaConf.is_config(value):
        return value
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)


def load_composed(composed: DictConfig) -> Config:
    """Return the `Config` of a composed configuration.

    Raises:
        ConfigError: see `load_config`. The message names the user's YAML file that sets the key.
    """
    try:
        return load_config(to_plain(composed))
    except ConfigError as error:
        key = re.sub(r"^(?:There is no key ')?([\w.]*).*", r"\1", str(error), flags=re.DOTALL)
        path = _find_user_file(composed, key)
        if path is None:
            raise
        if key == "experiment":
            message = f"{path} needs '# @package _global_' as its first line, as all experiments."
            raise ConfigError(message) from error
        raise ConfigError(f"{path}: {error}") from error


def _find_user_file(composed: DictConfig, key: str) -> Path | None:
    """Return the YAML file outside the package that sets a key or is the choice of a group."""
    hydra = composed.hydra if "hydra" in composed else HydraConfig.get()
    runtime = hydra.runtime
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)
    is_typed = any(override.lstrip("+").startswith(f"{key}=") for override in overrides)
    if is_typed and key not in runtime.choices:
        return None
    folders = [source.path for source in runtime.config_sources if source.provider != "main"]
    for group, choice in runtime.choices.items():
        for folder in folders:
            path = Path(folder, group, f"{choice}.yaml")
            if not path.is_file():
                continue
            values: Any = OmegaConf.to_container(OmegaConf.load(path))
            keys = flatten(values) if isinstance(values, dict) else ()
            if group == key or any(f".{key}".endswith(f".{given}") for given in keys):
                return path
    return None


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Return an error of OmegaConf in plain words."""
    key = str(error.full_key or "")
    if isinstance(error, MissingMandatoryValue):
        return f"{key} has no value. Set {key}=..."
    parent = error.parent_node
    if isinstance(error, (ConfigKeyError, AttributeError)) and isinstance(parent, DictConfig):
        siblings = dict(parent.items_ex(resolve=False))
        siblings.pop("hydra", None)
        return explain_unknown_key(key, siblings)
    place = f"{key}: " if key else "An override: "
    for pattern, words in OMEGACONF_REFUSALS.items():
        refused = re.search(pattern, str(error.msg or error))
        if refused:
            return place + words.format(*refused.groups())
    if isinstance(error, (InterpolationResolutionError, GrammarParseError)):
        return f"{place}its value cannot be resolved. Check what is in ${{...}}."
    return f"{key}={format_value(error.value)} does not fit: it takes another kind of value."
