"""Overrides, KEY=VALUE: parse, quote and apply them, in the same way in all commands.

The grammar is Hydra's, except that the value of a text key is the text as typed.
"""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench.config.composed import explain_omegaconf, to_plain
from cnnbench.config.fields import allowed_by, fields_of, list_keys
from cnnbench.config.load import COMES_WITH, find_key, format_value, load_config
from cnnbench.config.schema import TRACKERS, Config
from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "GROUPS",
    "KEYS",
    "apply_overrides",
    "expand_groups",
    "explain_syntax",
    "format_override",
    "join_words",
    "leads_out",
    "parse_changes",
    "parse_override",
    "quote",
    "quote_texts",
]

HINTS = dict(list_keys(Config))
KEYS = frozenset(HINTS) - {"model.arguments"}  # constructor arguments are keys of the group model
FOLDER_KEYS = frozenset({"hydra.run.dir", "hydra.sweep.dir"})
TEXT_KEYS = FOLDER_KEYS.union(key for key in KEYS if allowed_by(HINTS[key]).scalars == {str})
GROUPS = frozenset(fields_of(Config)) - KEYS - {"train"} | {"experiment"}
COMBINED = frozenset({"tracker", "experiment"})  # groups that allow several choices
NEEDED = (KEYS | GROUPS | {"train"}) - COMBINED - COMES_WITH.keys()

BLANKS = " \t"  # stripped from both ends of a value
SHELL_SIGNS = frozenset('"$`\\!')  # special to a shell within double quotes
KEY = re.compile(r"[+~]*[\w$][\w/.@:${}\[\]-]*")
SIMPLE = re.compile(r"[\w.+-]{1,100}", re.ASCII)  # values that need no parsing
# text up to a comma or bracket outside quotes and interpolations
PIECE = re.compile(r"""(?s:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\$\{[^}]*\}|\\.|[^,()])+""")


def parse_override(override: str) -> Override:
    """Parse an override. The value of a text key is the text as typed.

    Raises:
        ConfigError: the grammar does not allow it.
    """
    try:
        return _parse(_quote_text(override))
    except HydraException as error:
        raise ConfigError(explain_syntax(override)) from error


def explain_syntax(override: str) -> str:
    """Return the error message for an override that the grammar does not allow."""
    key, equals, typed = override.partition("=")
    if not equals or not key:
        return f"'{override}' is not an override. Write KEY=VALUE, such as train.epochs=3."
    if not KEY.fullmatch(key):
        return f"'{key}' is not a key. Write KEY=VALUE, such as train.epochs=3."
    value = format_value(typed)
    if typed.strip(BLANKS).startswith(("[", "{")):
        return f"{key}={value} cannot be read. Close its brackets, and quote the texts in it."
    return f"{key}={value} cannot be read. {_advise_quotes(key, value)}"


def _advise_quotes(key: str, typed: str) -> str:
    """Return the advice to quote the typed value as one text, or to give one value."""
    if key in KEYS - TEXT_KEYS:
        return "Give one value."
    override = f"{key}={quote(typed)}"
    is_plain = SHELL_SIGNS.isdisjoint(override)
    return "Quote a text: " + (f'"{override}"' if is_plain else shlex.quote(override))


def _parse(override: str) -> Override:
    try:
        return OverridesParser.create().parse_override(override)
    except (RecursionError, ValueError) as error:  # deep nesting, or a number with too many digits
        raise HydraException(str(error)) from error


def quote_texts(overrides: Sequence[str]) -> list[str]:
    """Quote the values of text keys and groups that Hydra would not read as texts.

    Examples are 2024_11_24, 1e3 and true, and values that the grammar does not allow, such as a=b.
    Syntax of the grammar keeps its meaning: null, quotes, the commas of a sweep, functions.

    Raises:
        ConfigError: an override has no key, deletes a required key, or gives several choices to a
            group that allows one.
    """
    return [_quote_text(override) for override in overrides]


@lru_cache(1 << 14)  # the jobs of a sweep share most of their overrides
def _quote_text(override: str) -> str:
    sign_and_key, equals, typed = override.partition("=")
    key = sign_and_key.lstrip("+~")
    if sign_and_key.startswith("~"):
        if key in NEEDED:
            advice = f"Give another value: {key}=..."
            raise ConfigError(f"{override} deletes what every run needs. {advice}")
        return override
    if not equals or sign_and_key.startswith("-"):  # it is a flag
        return override
    if not key:
        raise ConfigError(explain_syntax(override))
    is_text_key = key in TEXT_KEYS | GROUPS
    if not is_text_key and SIMPLE.fullmatch(typed):
        return override
    try:
        value = _parse(f"{key}={typed}").value()
    except HydraException:  # such as photos (1), a=b, ~/photos
        value = text = typed.strip(BLANKS)
        if "," in text or text.startswith(("'", '"')):
            return override
        override = f"{sign_and_key}={quote(text)}"
    if key in FOLDER_KEYS and str(value).startswith("~"):
        path = os.path.expanduser(str(value))  # noqa: PTH111  # Path's fails without a home folder
        return f"{sign_and_key}={quote(path)}"
    if key in GROUPS - COMBINED and isinstance(value, list):
        sweep = f"-m {key}={','.join(map(str, value))}"
        raise ConfigError(f"{override}: choose one, or train with each: {sweep}")
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    if not is_text_key or not any(isinstance(value, (bool, int, float)) for value in values):
        return override
    return f"{sign_and_key}={PIECE.sub(lambda piece: _quote_piece(key, piece[0]), typed)}"


def _quote_piece(key: str, piece: str) -> str:
    """Quote one value, perhaps of a sweep, if Hydra would read it as a number or truth value.

    A number in Python's spelling needs no quotes, unless it names a choice.
    """
    text = piece.strip(BLANKS)
    try:
        value = _parse(f"{key}={text}").value()
    except HydraException:
        return piece
    is_number = isinstance(value, (bool, int, float))
    needs_quotes = is_number and (key in GROUPS or str(value) != text)
    return quote(text) if needs_quotes else piece


def leads_out(path: str) -> bool:
    """Return whether a path leads out of the folder in which it is used."""
    return path.startswith(("/", "~")) or ".." in PurePosixPath(path).parts


def quote(text: str) -> str:
    """Quote a text as the value of an override."""
    return QuotedString(text, Quote.single).with_quotes()


def join_words(words: Iterable[str]) -> str:
    """Return the words as a line for the shell, quoted only where necessary."""
    return " ".join(map(_quote_word, words))


def _quote_word(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    is_plain_in_double_quotes = not set('"\\$`!').intersection(word)
    return f'"{word}"' if "'" in word and is_plain_in_double_quotes else shlex.quote(word)


def format_override(key: str, value: str) -> str:
    """Return the override that sets a key to this value, quoted only where necessary."""
    override = f"{key}={value}"
    if key not in TEXT_KEYS:
        return override
    try:
        given = parse_override(override).value()
    except ConfigError:
        given = None
    is_same = isinstance(given, (str, int, float)) and str(given) == value
    return override if is_same else f"{key}={quote(value)}"


def parse_changes(words: Sequence[str], changeable: Sequence[str], where: str) -> dict[str, Any]:
    """Return the keys and values of words KEY=VALUE.

    `changeable` are patterns of the allowed keys. `where` ends the message about another key.

    Raises:
        ConfigError: a word is not KEY=VALUE, or its key may not change.
    """
    changes = {}
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not key:
            raise ConfigError(explain_syntax(word))
        if not any(fnmatch(key, pattern) for pattern in changeable):
            meant = find_key(key, cutoff=0.8) if key not in KEYS | GROUPS else None
            guess = f"Did you mean '{meant}'? " if meant else ""
            allowed = f"{guess}Allowed: {', '.join(changeable)}."
            raise ConfigError(f"{key} cannot be changed {where}. {allowed}")
        parsed = parse_override(word)
        if parsed.is_sweep_override():
            advice = _advise_quotes(key, word.partition("=")[2])
            raise ConfigError(f"{word} gives several values, as for a sweep. {advice}")
        changes[key] = to_plain(OmegaConf.create({key: parsed.value()}))[key]
    return changes


def expand_groups(changes: Mapping[str, Any], conf: Path) -> dict[str, Any]:
    """Replace changes to groups, such as data=mnist, by changes to their keys.

    The values are in the YAML file of the choice, in the folder `conf`. Keys that are missing there
    get their defaults, so that no value of the previous choice remains.

    Raises:
        ConfigError: the choice is unknown.
    """
    keys: dict[str, Any] = {}
    for group, name in changes.items():
        if "." in group:
            continue
        _check_name(group, str(name), [path.stem for path in (conf / group).glob("*.yaml")])
        values = {
            field.name: field.default
            for field in msgspec.structs.fields(fields_of(Config)[group])
            if field.default is not msgspec.NODEFAULT
        }
        chosen: Any = OmegaConf.to_container(OmegaConf.load(conf / group / f"{name}.yaml"))
        keys |= {f"{group}.{key}": value for key, value in {**values, **chosen}.items()}
    return keys | {key: value for key, value in changes.items() if "." in key}


def apply_overrides(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """Return the configuration with these plain values and changes to some keys.

    Raises:
        ConfigError: a key is unknown, or see `load_config`.
    """
    load_config(values)  # a clear error if the recorded values are no configuration
    try:
        merged = OmegaConf.create(dict(values))
        if "tracker" in changes:  # before the keys of the new trackers
            choice = changes["tracker"]
            names = choice if isinstance(choice, list) else [choice]
            for name in names:
                _check_name("tracker", str(name), (*TRACKERS, "none"))
            trackers: dict[str, Any] = {name: {} for name in names if name != "none"}
            OmegaConf.update(merged, "tracker", trackers, merge=False)
        for key, value in changes.items():
            if key != "tracker":
                OmegaConf.update(merged, key, value)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_omegaconf(error)) from error
    return load_config(to_plain(merged))


def _check_name(group: str, name: str, allowed: Sequence[str]) -> None:
    if name not in allowed:
        raise ConfigError(f"{group}={name} is not known. {did_you_mean(name, allowed)}")
