"""Parse the options and words of a command; format its errors and its help."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from cnnbench.cli.words import check_overrides, suggest_flag
from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["INFO_TOPICS", "Parser", "choice", "format_rows", "number", "picture"]

INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
PICTURE_SUFFIXES = (".svg", ".png")
MIN_WIDTH, MAX_WIDTH = 40, 100
LABEL = 24  # width of the column of names in the help, in characters

Rows = list[tuple[str, str]]


class Parser(argparse.ArgumentParser):
    """A parser for the options of one command and the words between them.

    argparse reads the options, wherever they are. The other words keep their order. If the command
    has a parser `hydra`, Hydra gets the words and its own options. Otherwise the number of words
    is checked.
    """

    hydra: "Parser | None" = None

    def __init__(self, command: str, summary: str, *examples: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False, exit_on_error=False)
        self.prog = f"cnnbench {command}"
        self.summary = summary
        self.examples = examples
        self.details = ""
        self.words: Rows = []
        self.options: Rows = []
        self.more: dict[str, Rows] = {}  # further sections of the help
        self._needs: dict[str, str] = {}
        self._flags = ["--help"]
        self._metavars: dict[str, str] = {}
        self._lists: list[str] = []

    def word(self, name: str, text: str, needs: str = "") -> None:
        """Declare a word, or several (`NAME ...`). `needs` describes a required one."""
        self.words.append((name, text))
        if needs:
            self._needs[name] = needs

    def flag(self, name: str, text: str = "", *others: str, **how: Any) -> None:
        """Declare an option without a value; `others` are its other names."""
        self.add_argument(name, *others, action="store_true", **how)
        self._describe(name, text, (name, *others))

    def option(self, label: str, text: str = "", *others: str, **how: Any) -> None:
        """Declare an option with a value: "--topk K", or with several: "--images I[,I...]"."""
        name, metavar = label.split()
        names = (name, *others)
        self.add_argument(*names, **how)
        self._metavars |= dict.fromkeys(names, metavar)
        self._lists += names if "..." in metavar else ()
        default = f" (default: {how['default']})" if "default" in how else ""
        self._describe(label, text and text + default, names)

    def _describe(self, label: str, text: str, names: Sequence[str]) -> None:
        """Add an option to the help if it has a text."""
        if text:
            self.options.append((label, text))
            self._flags += [name for name in names if name.startswith("--")]

    def read(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments; return the options, and the words in their order.

        Raises:
            ConfigError: an option is unknown or has a missing or wrong value, or there are too few
                or too many words.
        """
        options, words = self._read_options(self._join_lists(arguments))
        left = words
        if self.hydra is not None:
            words = _complete_info(words)
            left = self.hydra._read_options(words)[1]
        end = left.index("--") if "--" in left else len(left)
        for number, word in enumerate(left[:end]):
            if re.match(r"-(?![\d.])", word):  # a flag, not a negative number
                raise ConfigError(self._explain_flag(word, "".join(left[number + 1 : number + 2])))
        if self.hydra is not None:
            check_overrides([word for word in left if word != "--"])
        else:
            words = [*left[:end], *left[end + 1 :]]
            self._check_words(words)
        return options, words

    def _explain_flag(self, word: str, following: str) -> str:
        flag = word.partition("=")[0]
        known = [*self._flags, *(() if self.hydra is None else self.hydra._flags)]
        if any(name.startswith("KEY=VALUE") for name, _ in self.words):
            advice = suggest_flag(word, following, known)
        else:
            advice = did_you_mean(flag, known)
        return f"There is no option {flag} of {self.prog}. {advice}"

    def _join_lists(self, arguments: Sequence[str]) -> list[str]:
        """Join by commas the numbers after an option with several values, as in --topk 2 3."""
        joined: list[str] = []
        for word in arguments:
            if joined[-2:-1] and joined[-2] in self._lists and word.isdecimal():
                joined[-1] += f",{word}"
            else:
                joined.append(word)
        return joined

    def _read_options(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        try:
            return self.parse_known_args(arguments)
        except argparse.ArgumentError as error:  # `number` and `choice` raise ConfigError
            flag = str(error.argument_name).partition("/")[0]
            metavar = self._metavars.get(flag)
            wrong = "takes no value" if metavar is None else f"needs a value: {flag} {metavar}"
            raise ConfigError(f"{flag} {wrong}.") from error

    def _check_words(self, words: Sequence[str]) -> None:
        for name, _ in self.words[len(words) :]:
            if name in self._needs:
                form = " ".join([self.prog, *self._needs])
                raise ConfigError(f"Name {self._needs[name]}: {form}")
        takes_more = bool(self.words) and self.words[-1][0].endswith("...")
        if len(words) > len(self.words) and not takes_more:
            extra = words[len(self.words)]
            raise ConfigError(f"'{extra}' is one word too many: {self.usage_line()}")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}.")

    def usage_line(self) -> str:
        """Return the usage of the command in one line."""
        words = [name if name in self._needs else f"[{name}]" for name, _ in self.words]
        return " ".join([self.prog, *words, "[options]"])

    def format_help(self) -> str:
        """Return the help, wrapped to the width of the terminal."""
        options = [*self.options, *(() if self.hydra is None else self.hydra.options)]
        options.append(("-h, --help", "print this help"))
        parts = [f"usage: {self.usage_line()}", _fill(f"{self.summary}. {self.details}")]
        for title, rows in {"arguments": self.words, "options": options, **self.more}.items():
            if rows:
                parts.append(f"{title}:\n{format_rows(rows)}")
        parts.append("\n  ".join(["examples:", *self.examples]))
        return "\n\n".join(parts) + "\n"


def format_rows(rows: Rows) -> str:
    """Return a line for each name and its text. The text of a long name begins below it."""
    lines = []
    for name, text in rows:
        label = f"  {name}".ljust(LABEL)
        if not label.endswith("  "):
            lines.append(label.rstrip())
            label = " " * LABEL
        lines.append(_fill(text, initial_indent=label, subsequent_indent=" " * LABEL))
    return "\n".join(lines)


def _fill(text: str, initial_indent: str = "", subsequent_indent: str = "") -> str:
    width = max(MIN_WIDTH, min(shutil.get_terminal_size().columns, MAX_WIDTH))
    return textwrap.fill(
        text,
        width,
        initial_indent=initial_indent,
        subsequent_indent=subsequent_indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _complete_info(words: Sequence[str]) -> list[str]:
    """Add a topic to a bare --info. Hydra would take the next override for its topic."""
    completed = []
    for word, after in pairwise([*words, ""]):
        is_bare = word in ("--info", "-i") and after not in INFO_TOPICS
        completed.append("--info=all" if is_bare else word)
    return completed


def number(
    flag: str,
    minimum: float,
    maximum: float | None = None,
    why: str = "",
    kind: type[int | float] = int,
) -> Callable[[str], Any]:
    """Return a function that parses a number and checks that it is in a range."""
    allowed = f"from {minimum} to {maximum}"
    if maximum is None:
        allowed = f"at least {minimum}{why}"

    def read(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            kind_name = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{flag} {word} is not {kind_name}. It must be {allowed}.") from None
        if not value >= minimum or (maximum is not None and value > maximum):  # also if it is NaN
            raise ConfigError(f"{flag} {word} is out of range. It must be {allowed}.")
        return value

    return read


def choice(flag: str, allowed: Iterable[str]) -> Callable[[str], str]:
    """Return a function that checks that a word is allowed and returns it."""

    def read(word: str) -> str:
        if word not in allowed:
            raise ConfigError(f"{flag} {word} is not known. {did_you_mean(word, allowed)}")
        return word

    return read


def picture(flag: str) -> Callable[[str], Path]:
    """Return a function that checks format and folder of a file, before PyTorch is imported."""

    def read(word: str) -> Path:
        path = Path(word)
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            allowed = " or ".join(PICTURE_SUFFIXES)
            raise ConfigError(f"{flag} {word} must end in {allowed}.")
        if not path.parent.is_dir():
            raise ConfigError(f"{flag} {word}: there is no folder {path.parent}. Create it first.")
        return path

    return read
