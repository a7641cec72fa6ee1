"""Overrides, KEY=VALUE, as all commands read and write them, and what they make of a configuration.

The grammar is Hydra's. In addition, a text is what was typed. Interpolations are OmegaConf's. This
module alone knows either, below the command line and sweeps.
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
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    GrammarParseError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from cnnbench.config.fields import allowed_by, fields_of, list_keys
from cnnbench.config.load import (
    COMES_WITH,
    explain_unknown_key,
    find_key,
    flatten,
    format_value,
    load,
)
from cnnbench.config.schema import TRACKERS, Config
from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "GROUPS",
    "KEYS",
    "apply_overrides",
    "expand_groups",
    "explain_omegaconf",
    "explain_syntax",
    "format_override",
    "join_words",
    "leads_out",
    "load_composed",
    "parse_changes",
    "parse_override",
    "quote",
    "quote_texts",
    "to_plain",
    "without_hydra",
]

HINTS = dict(list_keys(Config))
KEYS = frozenset(HINTS) - {"model.arguments"}  # arguments of the network are keys of model itself
FOLDER_KEYS = frozenset({"hydra.run.dir", "hydra.sweep.dir"})
TEXT_KEYS = FOLDER_KEYS.union(key for key in KEYS if allowed_by(HINTS[key]).scalars == {str})
GROUPS = frozenset(fields_of(Config)) - KEYS - {"train"} | {"experiment"}
COMBINED = frozenset({"tracker", "experiment"})  # groups of which several may be chosen
NEEDED = (KEYS | GROUPS | {"train"}) - COMBINED - COMES_WITH.keys()

BLANKS = " \t"  # around a value, they are no part of it
SHELL_SIGNS = frozenset('"$`\\!')  # mean something to a shell between double quotes
KEY = re.compile(r"[+~]*[\w$][\w/.@:${}\[\]-]*")
SIMPLE = re.compile(r"[\w.+-]{1,100}", re.ASCII)  # values that are in the grammar
# text up to a comma or bracket outside quotes and interpolations
PIECE = re.compile(r"""(?s:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\$\{[^}]*\}|\\.|[^,()])+""")


def parse_override(override: str) -> Override:
    """Parse an override of a command line, in which a text is what was typed.

    Raises:
        ConfigError: it is not in the grammar.
    """
    try:
        return _parse(_quote_text(override))
    except HydraException as error:
        raise ConfigError(explain_syntax(override)) from error


def explain_syntax(override: str) -> str:
    """Say what is wrong with an override that is not in the grammar."""
    key, equals, typed = override.partition("=")
    if not equals or not key:
        return f"'{override}' is not an override. Write KEY=VALUE, such as train.epochs=3."
    if not KEY.fullmatch(key):
        return f"'{key}' is no key. Write KEY=VALUE, such as train.epochs=3."
    value = format_value(typed)
    if typed.strip(BLANKS).startswith(("[", "{")):
        return f"{key}={value} cannot be read. Close its brackets, and quote the texts in it."
    return f"{key}={value} cannot be read. {_advise_quotes(key, value)}"


def _advise_quotes(key: str, typed: str) -> str:
    """Propose the override that gives what was typed as one text, unless the key takes no text."""
    if key in KEYS - TEXT_KEYS:
        return "Give one value."
    override = f"{key}={quote(typed)}"
    is_plain = SHELL_SIGNS.isdisjoint(override)
    return "Quote a text: " + (f'"{override}"' if is_plain else shlex.quote(override))


def _parse(override: str) -> Override:
    try:
        return OverridesParser.create().parse_override(override)
    except (RecursionError, ValueError) as error:  # deep nesting, a number of too many digits
        raise HydraException(str(error)) from error


def quote_texts(overrides: Sequence[str]) -> list[str]:
    """Quote the values of text keys and groups that Hydra would take for something else.

    Such are 2024_11_24, 1e3, true. So is any value that the grammar does not know, such as a=b.
    What means something to the grammar keeps its meaning: null, quotes, the commas of a sweep,
    functions.

    Raises:
        ConfigError: an override has no key, deletes what is needed, or chooses several of a group.
    """
    return [_quote_text(override) for override in overrides]


@lru_cache(1 << 14)  # the jobs of a sweep share most of theirs
def _quote_text(override: str) -> str:
    sign_and_key, equals, typed = override.partition("=")
    key = sign_and_key.lstrip("+~")
    if sign_and_key.startswith("~"):
        if key in NEEDED:
            advice = f"Give another value: {key}=..."
            raise ConfigError(f"{override} deletes what every run needs. {advice}")
        return override
    if not equals or sign_and_key.startswith("-"):  # a flag
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
        path = os.path.expanduser(str(value))  # noqa: PTH111  # Path's fails without a home
        return f"{sign_and_key}={quote(path)}"
    if key in GROUPS - COMBINED and isinstance(value, list):
        each = f"-m {key}={','.join(map(str, value))}"
        raise ConfigError(f"{override}: choose one, or train with each: {each}")
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    if not is_text_key or not any(isinstance(value, (bool, int, float)) for value in values):
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


def join_words(words: Iterable[str]) -> str:
    """Return the words as a line for the shell, quoted as a person would, where it needs that."""
    return " ".join(map(_quote_word, words))


def _quote_word(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    is_plain_in_double_quotes = not set('"\\$`!').intersection(word)
    return f'"{word}"' if "'" in word and is_plain_in_double_quotes else shlex.quote(word)


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


def parse_changes(words: Sequence[str], changeable: Sequence[str], where: str) -> dict[str, Any]:
    """Return keys and values from words KEY=VALUE, of keys that are `changeable`.

    `where` ends the message about another key.

    Raises:
        ConfigError: it is not of that form, or a key that may not change.
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
    """Return changes to keys, in place of those to groups, such as data=mnist.

    A choice stands for the keys of its YAML in the folder `conf`. Keys that this does not have get
    their defaults: those of a choice before shall not stay.

    Raises:
        ConfigError: there is no such choice.
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
    """Return the configuration with these plain values, after changes to some keys.

    Raises:
        ConfigError: there is no such key, or as `load`.
    """
    load(values)  # in what is not a configuration, keys cannot be changed
    try:
        merged = OmegaConf.create(dict(values))
        if "tracker" in changes:  # first: its other keys change what was chosen
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
    return load(to_plain(merged))


def _check_name(group: str, name: str, allowed: Sequence[str]) -> None:
    if name not in allowed:
        raise ConfigError(f"{group}={name} is not known. {did_you_mean(name, allowed)}")


def without_hydra(composed: DictConfig) -> DictConfig:
    """Return what was composed, less Hydra's own settings."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def to_plain(composed: DictConfig) -> dict[str, Any]:
    """Return the plain values of what was composed, without Hydra's own.

    Raises:
        ConfigError: an interpolation leads nowhere, or a value is missing.
    """
    try:
        # in place: in a copy ${now:} might be a second later
        values = {str(key): composed[key] for key in composed if key != "hydra"}
        return {key: _to_plain_value(value) for key, value in values.items()}
    except OmegaConfBaseException as error:
        raise ConfigError(explain_omegaconf(error)) from error


def _to_plain_value(value: Any) -> Any:
    if not OmegaConf.is_config(value):
        return value
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)


def load_composed(composed: DictConfig) -> Config:
    """Type and check what Hydra has composed. An error names the user's YAML that has its key.

    Raises:
        ConfigError: as `load`.
    """
    try:
        return load(to_plain(composed))
    except ConfigError as error:
        key = re.sub(r"^(?:There is no key ')?([\w.]*).*", r"\1", str(error), flags=re.DOTALL)
        path = _find_own_file(composed, key)
        if path is None:
            raise
        if key == "experiment":
            message = f"{path} needs '# @package _global_' as its first line, as all experiments."
            raise ConfigError(message) from error
        raise ConfigError(f"{path}: {error}") from error


def _find_own_file(composed: DictConfig, key: str) -> Path | None:
    """Return the YAML from outside the package that gives a key; of experiment, its choice."""
    hydra = composed.hydra if "hydra" in composed else HydraConfig.get()
    runtime = hydra.runtime
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)
    is_typed = any(override.lstrip("+").startswith(f"{key}=") for override in overrides)
    if is_typed and key not in runtime.choices:
        return None
    own = [source.path for source in runtime.config_sources if source.provider != "main"]
    for group, choice in runtime.choices.items():
        for folder in own:
            path = Path(folder, group, f"{choice}.yaml")
            if not path.is_file():
                continue
            values: Any = OmegaConf.to_container(OmegaConf.load(path))
            keys = flatten(values) if isinstance(values, dict) else ()
            if group == key or any(f".{key}".endswith(f".{given}") for given in keys):
                return path
    return None


# what OmegaConf refuses, and words for it
OMEGACONF_REFUSALS = {
    r"Environment variable '(.+)' not found": "the environment variable {} is not set.",
    r"Interpolation key '(.+)' not found": "there is no key '{}', to which it refers.",
    r"Unsupported interpolation type (\S+)": "there is no resolver '{}'. Use ${{oc.env:NAME}}.",
}


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Return what OmegaConf refuses, in words for people."""
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
