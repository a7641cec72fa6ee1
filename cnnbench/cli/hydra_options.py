"""The options that Hydra reads in the commands that compose a configuration."""

from collections.abc import Sequence
from typing import NoReturn

from cnnbench.cli.parser import INFO_TOPICS, Parser, choice
from cnnbench.errors import ConfigError

__all__ = ["CFG_PARTS", "MULTIRUN", "VALUES_HELP", "build_hydra_options", "refuse_multirun"]

CFG_PARTS = ("job", "hydra", "all")
MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
VALUES_HELP = "values and choices, as for cnnbench train"


def build_hydra_options(multirun: str = "") -> Parser:
    """Return the options of Hydra; `multirun` is the help of -m."""
    parser = Parser("", "")
    parser.flag("-m", multirun, "--multirun")
    cfg, info = choice("--cfg", CFG_PARTS), choice("--info", INFO_TOPICS)
    whole = "print the configuration alone; --resolve fills in references"
    parser.option("--cfg job", whole, "-c", type=cfg)
    parser.option("--info defaults", "print how the configuration is composed", "-i", type=info)
    parser.option("--config-dir DIR", "add your own groups and choices", "-cd")
    complete = 'complete words: eval "$(cnnbench -sc install=bash)"'
    parser.flag("-sc", complete, "--shell-completion")
    parser.flag("--hydra-help", "print Hydra's help")
    # The help omits options without a text.
    parser.flag("--resolve")
    parser.flag("--version")
    parser.flag("--run", "", "-r")
    parser.option("--config-path DIR", "", "-cp", type=_refuse_config_path)
    parser.option("--config-name NAME", "", "-cn")
    parser.option("--package NAME", "", "-p")
    parser.option("--experimental-rerun FILE")
    return parser


def refuse_multirun(command: str, words: Sequence[str]) -> None:
    """Refuse a sweep for a command that looks at one network.

    Raises:
        ConfigError: one of the words asks for a sweep.
    """
    if not MULTIRUN.isdisjoint(words):
        raise ConfigError(f"cnnbench {command} looks at one network: -m is for cnnbench train.")


def _refuse_config_path(_: str) -> NoReturn:
    raise ConfigError(
        "--config-path would hide those of cnnbench. Add your own configurations: --config-dir DIR."
    )
