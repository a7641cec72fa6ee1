"""Overrides, KEY=VALUE, as all commands read and write them.

The grammar is Hydra's. In addition, a text is what was typed.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException

from cnnbench.config.schema import Config, Schema
from cnnbench.errors import ConfigError

__all__ = [
    "GROUPS",
    "HOW_TO_QUOTE",
    "KEYS",
    "TEXT_KEYS",
    "format_override",
    "leads_out",
    "parse_override",
    "quote",
    "quote_texts",
]

HOW_TO_QUOTE = "Quote a text with special characters: \"data.path='a, b'\"."


def _list_keys(schema: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a dataclass and the types of their values.

    A group with variants has the keys of all of them.
    """
    for name, hint in typing.get_type_hints(schema).items():
        for kind in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
            if dataclasses.is_dataclass(kind):
                yield from _list_keys(kind, f"{above}{name}.")
            elif kind is not types.NoneType:
                yield f"{above}{name}", kind


# arguments of the network are keys of model itself
KEYS = frozenset(key for key, _ in _list_keys(Config)) - {"model.arguments"}
TEXT_KEYS = frozenset(key for key, kind in _list_keys(Config) if kind is str)
GROUPS = frozenset(field.name for field in dataclasses.fields(Schema)) - KEYS - {"train"}
GROUPS |= {"experiment"}

BLANKS = " \t"  # around a value, they are no part of it
PIECE = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\$\{[^}]*\}|\\.|[^,()])+""", re.DOTALL)


def parse_override(override: str) -> Override:
    """Parse an override of a command line, in which a text is what was typed.

    Raises:
        ConfigError: it is not in the grammar.
    """
    try:
        return _parse(_quote_text(override))
    except HydraException as error:
        raise ConfigError(f"{override} has no value that can be read. {HOW_TO_QUOTE}") from error


def _parse(override: str) -> Override:
    try:
        return OverridesParser.create().parse_override(override)
    except (RecursionError, ValueError) as error:  # deep nesting, a number of too many digits
        raise HydraException(str(error)) from error


def quote_texts(overrides: Sequence[str]) -> list[str]:
    """Quote the values of text keys and groups that Hydra would take for something else.

    Such are 2024_11_24, 1e3, true. What means something to the grammar keeps its meaning: null,
    quotes, the commas of a sweep, functions.
    """
    return [_quote_text(override) for override in overrides]


@lru_cache(1 << 14)  # the jobs of a sweep share most of theirs
def _quote_text(override: str) -> str:
    sign_and_key, equals, typed = override.partition("=")
    key = sign_and_key.lstrip("+")
    if not equals or key not in TEXT_KEYS | GROUPS:
        return override
    try:
        value = _parse(f"{key}={typed}").value()
    except HydraException:  # such as photos (1), a=b, ~/photos
        is_text = not set(",'\"").intersection(typed)
        return f"{sign_and_key}={quote(typed.strip(BLANKS))}" if is_text else override
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    if not any(isinstance(value, (bool, int, float)) for value in values):
        return override
    return f"{sign_and_key}={PIECE.sub(lambda piece: _quote_piece(key, piece[0]), typed)}"


def _quote_piece(key: str, piece: str) -> str:
    """Quote a value, or one of those of a sweep, if Hydra would read it as a number or truth value.

    A number that is spelled as Python does needs no quotes, unless it names a choice.
    """
    text = piece.strip(BLANKS)
    try:
        value = _parse(f"{key}={text}").value()
    except HydraException:
        return piece
    is_no_text = isinstance(value, (bool, int, float))
    return quote(text) if is_no_text and (key in GROUPS or str(value) != text) else piece


def leads_out(path: str) -> bool:
    """Return whether a path leads out of the folder in which it is used."""
    return path.startswith(("/", "~")) or ".." in PurePosixPath(path).parts


def quote(text: str) -> str:
    """Quote a text as the value of an override."""
    return QuotedString(text, Quote.single).with_quotes()


def format_override(key: str, value: str) -> str:
    """Write an override that gives this value, quoted where a text needs it."""
    override = f"{key}={value}"
    if key not in TEXT_KEYS:
        return override
    try:
        given = parse_override(override).value()
    except ConfigError:
        given = None
    is_same = isinstance(given, (str, int, float)) and str(given) == value
    return override if is_same else f"{key}={quote(value)}"
