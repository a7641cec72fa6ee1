"""Plain values of configurations: composed from conf/, and with changes."""

from typing import Any

from helpers.paths import CONF
from hydra import compose, initialize_config_dir

from cnnbench import config


def compose_values(*overrides: str) -> dict[str, Any]:
    """Compose overrides to plain values, with Hydra set up as by the command line."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return config.to_plain(compose("train", overrides=list(overrides)))


def replace_values(values: dict[str, Any], **by_key: object) -> dict[str, Any]:
    """Change some values in place; two underscores in a key stand for a dot."""
    for key, value in by_key.items():
        *groups, last = key.split("__")
        node = values
        for group in groups:
            node = node[group]
        node[last] = value
    return values
