"""`cnnbench --help` and `cnnbench COMMAND --help`, with any other words on the line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cnnbench.cli.hydra_app import conf_folder
from cnnbench.cli.options import PARSERS
from cnnbench.cli.parser import format_rows

__all__ = ["HELP_FLAGS", "print_help"]

HELP_FLAGS = {"--help", "-h"}

OVERVIEW = """\
usage: cnnbench [COMMAND] [KEY=VALUE ...] [options]. Train and compare CNNs:
{commands}
Examples:
  cnnbench                                 train LeNet on Fashion-MNIST
  cnnbench experiment=smoke                seconds, on the CPU, no network
  cnnbench model=alexnet data.resize=96    another network, another image size
  cnnbench -m optimizer.lr=0.1,0.5         a sweep: a run for each value
  cnnbench evaluate latest                 the newest run on its test set
More: COMMAND --help, --info, --cfg job, cnnbench models, cnnbench data, docs/."""


def print_help(command: str | None, arguments: Sequence[str]) -> None:
    """Print the help of a command, or the overview of all commands."""
    if command is None:
        lines = [f"  {name:<11}{build().summary}" for name, build in PARSERS.items()]
        print(OVERVIEW.format(commands="\n".join(lines)))
        return
    print(PARSERS[command]().format_help(), end="")
    if command == "train":
        folders = [conf_folder(), *_find_user_folders(arguments)]
        print(f"\nchoices (GROUP=NAME):\n{format_rows(_list_choices(folders))}")


def _find_user_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folder that --config-dir names, even if it does not exist."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", nargs="?", type=Path)
    folder = parser.parse_known_args(arguments)[0].config_dir
    return [] if folder is None else [folder]


def _list_choices(folders: Sequence[Path]) -> list[tuple[str, str]]:
    """Return each group and its choices, written as in experiment=book/alexnet."""
    choices: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.glob("*/**/*.yaml"):
            group, *names = path.relative_to(folder).with_suffix("").parts
            if group != "hydra":
                choices.setdefault(group, set()).add("/".join(names))
    return [(group, ", ".join(sorted(choices[group]))) for group in sorted(choices)]
