"""`cnnbench COMMAND --help` of the commands that compose: usage, choices, and the configuration.

Hydra's own help copies all its configurations for each group that it lists, 0.4 s in all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from cnnbench import config
from cnnbench.cli.hydra_app import compose_config, conf_folder, is_override
from cnnbench.errors import ConfigError

__all__ = ["print_help"]


def print_help(config_name: str, arguments: Sequence[str]) -> None:
    """Print the help of the command that composes `config_name`, as the overrides change it.

    Raises:
        ConfigError: an override is wrong, or --config-dir is no folder.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    options, words = parser.parse_known_args(arguments)
    folders = [conf_folder()]
    overrides = [word for word in words if is_override(word)]
    if options.config_dir is not None:
        if not options.config_dir.is_dir():
            raise ConfigError(f"--config-dir {options.config_dir} is not a folder.")
        folders.append(options.config_dir.absolute())
        overrides.append(f"hydra.searchpath=['file://{folders[-1]}']")
    composed = compose_config(overrides, config_name)
    values = {
        "APP_CONFIG_GROUPS": _list_choices(folders),
        "CONFIG": OmegaConf.to_yaml(config.without_hydra(composed)),
    }
    print(Template(composed.hydra.help.template).safe_substitute(values))


def _list_choices(folders: Sequence[Path]) -> str:
    """Return a line for each group, with its choices as they are typed: experiment=book/alexnet."""
    choices: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("*/**/*.yaml"):
            group, *names = path.relative_to(folder).with_suffix("").parts
            if group != "hydra":
                choices.setdefault(group, set()).add("/".join(names))
    return "".join(f"{group}: {', '.join(sorted(choices[group]))}\n" for group in sorted(choices))
