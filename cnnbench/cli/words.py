"""Explain the words of a command line that are not overrides: flags, blanks, bare names."""

import re
import shlex
from collections.abc import Iterable, Sequence

from cnnbench import config
from cnnbench.errors import ConfigError, did_you_mean, find_similar

__all__ = ["check_overrides", "explain_command", "suggest_flag"]

KEY_VALUE = "Values are KEY=VALUE"
# A key and its value in several words. The words are joined by \0.
SPACED = re.compile(r"(?:^|\0)([^=\0]+)(?:\0=\0?|=\0)([^=\0]+)(?=\0|$)")


def check_overrides(words: Sequence[str]) -> None:
    """Check that words are overrides, KEY=VALUE or ~KEY.

    Raises:
        ConfigError: there are blanks around an =, or a word is a bare name.
    """
    _check_blanks(words)
    for word in words:
        if "=" not in word and not word.startswith("~"):
            suggestion = _suggest(word) or "Write KEY=VALUE, such as train.epochs=3."
            raise ConfigError(f"'{word}' is not an override. {suggestion}")


def _check_blanks(words: Sequence[str]) -> None:
    """Refuse blanks around =, as in train.epochs = 3, which are three words."""
    spaced = SPACED.search("\0".join(words))
    if spaced:
        raise ConfigError(f"{KEY_VALUE}, without blanks around =: {'='.join(spaced.groups())}")


def suggest_flag(flag: str, following: str, known: Iterable[str]) -> str:
    """Suggest an override or a flag in place of an unknown flag and the word that follows it."""
    name, equals, value = flag.lstrip("-").partition("=")
    if not equals and not following.startswith("-"):
        value = following
    similar = find_similar(name, known, cutoff=0.75)
    key = config.find_key(name, cutoff=0.8)
    if key is not None:
        return f"{KEY_VALUE}: {shlex.quote(config.format_override(key, value or '...'))}"
    if similar is not None:
        return f"Did you mean '{similar}'?"
    return f"{KEY_VALUE}, such as train.epochs=3."


def _suggest(word: str) -> str:
    """Suggest an override in place of a bare name; return "" if there is none."""
    from cnnbench.cli.hydra_app import conf_folder  # that module imports this one

    for group in sorted(config.GROUPS):
        folder = conf_folder() / group
        paths = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml")]
        name = find_similar(word, [path.as_posix() for path in paths], cutoff=1)
        if name is not None:
            return f"Did you mean {group}={name}?"
    key = config.find_key(word, cutoff=1)
    return f"Did you mean {key}=...?" if key else ""


def explain_command(command: str, arguments: Sequence[str], commands: Iterable[str]) -> str:
    """Return the message for an unknown command, with a suggestion.

    Raises:
        ConfigError: the command is a key, with blanks around its =.
    """
    _check_blanks([command, *arguments])
    is_command = find_similar(command, commands, cutoff=1) is not None
    override = "" if is_command else _suggest(command)
    suggestion = override or did_you_mean(command, commands)
    return f"There is no command '{command}'. {suggestion}"
