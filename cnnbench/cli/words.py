"""What is wrong with words of a command line that are no overrides: flags, blanks, bare names."""

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NoReturn

from cnnbench import config
from cnnbench.errors import ConfigError, did_you_mean, find_similar

__all__ = ["Flags", "check_words", "explain_command"]

KEY_VALUE = "Values are KEY=VALUE"
# Hydra's flags that take no value, and those that do
SWITCHES = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc"),
)
VALUED = (
    *(("--cfg", "-c"), ("--package", "-p"), ("--config-path", "-cp"), ("--config-name", "-cn")),
    *(("--config-dir", "-cd"), ("--experimental-rerun",)),
)
# a key and its value in several words, which are joined by \0
SPACED = re.compile(r"(?:^|\0)([^=\0]+)(?:\0=\0?|=\0)([^=\0]+)(?=\0|$)")
CHOICES = {
    "cfg": ("job", "hydra", "all"),
    "info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}


class Flags(argparse.ArgumentParser):
    """The flags of a command that are not Hydra's."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        wrong_type = re.match(r"argument (\S+): invalid (int|float) value: '(.*)'", message)
        if wrong_type is None:
            raise ConfigError(f"{message}.")
        flag, kind, value = wrong_type.groups()
        wanted = "a whole number" if kind == "int" else "a number"
        raise ConfigError(f"{flag} {value} is not {wanted}.")


def check_words(words: Sequence[str]) -> None:
    """Check the words of a command that composes, less the flags of its own.

    Raises:
        ConfigError: a flag that Hydra does not have, blanks around =, or a name without a key.
    """
    parser = Flags()
    for switch in SWITCHES:
        parser.add_argument(switch, action="store_true")
    for names in VALUED:
        parser.add_argument(*names)
    parser.add_argument("--info", "-i", nargs="?")
    known, rest = parser.parse_known_args(words)
    if known.config_path is not None:
        advice = "Add configurations of your own: --config-dir DIR."
        raise ConfigError(f"--config-path would hide those of cnnbench. {advice}")
    for flag, choices in CHOICES.items():
        choice = getattr(known, flag)
        if choice is not None and choice not in choices:
            raise ConfigError(f"--{flag} {choice} is not known. {did_you_mean(choice, choices)}")
    for number, word in enumerate(rest):
        if re.match(r"-[^\d.]", word):
            raise ConfigError(_explain_flag(word, "".join(rest[number + 1 : number + 2])))
    _check_blanks(rest)
    for word in rest:
        if "=" not in word and not word.startswith("~"):
            meant = _suggest(word) or "Write KEY=VALUE, such as train.epochs=3."
            raise ConfigError(f"'{word}' is not an override. {meant}")


def _check_blanks(words: Sequence[str]) -> None:
    """Refuse blanks around =, as in train.epochs = 3, which are three words."""
    spaced = SPACED.search("\0".join(words))
    if spaced:
        raise ConfigError(f"{KEY_VALUE}, without blanks around =: {'='.join(spaced.groups())}")


def _explain_flag(flag: str, following: str) -> str:
    name, equals, value = flag.lstrip("-").partition("=")
    if not equals and not following.startswith("-"):
        value = following
    known = [*SWITCHES, *(names[0] for names in VALUED)]
    similar = find_similar(name, known, cutoff=0.75)
    key = config.find_key(name, cutoff=0.8)
    if key is None and similar is not None:
        advice = f"Did you mean '{similar}'?"
    elif key is None:
        advice = f"{KEY_VALUE}, such as train.epochs=3."
    else:
        advice = f"{KEY_VALUE}: {shlex.quote(config.format_override(key, value or '...'))}"
    return f"There is no flag '{flag.partition('=')[0]}'. {advice}"


def _suggest(word: str) -> str:
    """Return the override that was meant by a name alone, or nothing."""
    from cnnbench.cli.hydra_app import conf_folder  # which imports this

    for group in sorted(config.GROUPS):
        folder = conf_folder() / group
        paths = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml")]
        name = find_similar(word, [path.as_posix() for path in paths], cutoff=1)
        if name is not None:
            return f"Did you mean {group}={name}?"
    key = config.find_key(word, cutoff=1)
    return f"Did you mean {key}=...?" if key else ""


def explain_command(command: str, arguments: Sequence[str], commands: Iterable[str]) -> str:
    """Say that there is no such command, and what was meant.

    Raises:
        ConfigError: it is a key, with blanks around its =.
    """
    _check_blanks([command, *arguments])
    is_command = find_similar(command, commands, cutoff=1) is not None
    suggestion = "" if is_command else _suggest(command)
    meant = suggestion or did_you_mean(command, commands)
    return f"There is no command '{command}'. {meant}"
