"""The arguments of a network from YAML, checked against its constructor."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["check_arguments"]

# the deepest published networks have about 1,200; these take seconds to build, not minutes
MAX_LAYERS = 10_000

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    type(None): "null",
}


def check_arguments(
    name: str, factory: Callable[..., object], arguments: Mapping[str, Any]
) -> None:
    """Check that `factory` takes the arguments, that their types are those of its annotations, and their depth.

    Raises:
        ConfigError: an argument that it does not take, of another type, or that asks for more
            than MAX_LAYERS.
    """
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    own = [key for key in parameters if key not in ("in_channels", "num_classes", "image_size")]
    function = factory.func if isinstance(factory, partial) else factory
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    for key, value in arguments.items():
        shown = f"model.{key}={'null' if value is None else value}"
        if key not in own:
            allowed = did_you_mean(key, own) if own else "It takes none."
            if ":" in name:
                allowed += f"\nStart from a network that brings no arguments: model=simple_cnn model.name={name}"
            raise ConfigError(f"{name} takes no argument 'model.{key}'. {allowed}")
        if key in hints and not _fits(value, hints[key]):
            if typing.get_origin(hints[key]) is typing.Literal:
                choices = [str(choice) for choice in typing.get_args(hints[key])]
                raise ConfigError(f"{shown} is not known. {did_you_mean(str(value), choices)}")
            raise ConfigError(f"{shown} has the wrong type. {name} wants {_in_words(hints[key])}.")
        if ":" not in name:  # a network of one's own may mean something else by its words
            _check_depth(key, value)


def _check_depth(key: str, value: object) -> None:
    """A network is built to be checked: one of a million layers would be at that for minutes, without a word."""
    if key == "depth" and isinstance(value, int):
        layers, shown = value, f"model.depth={value}"
    elif isinstance(value, list):
        layers, shown = len(value), f"model.{key} with {len(value):,} entries"
    else:
        return
    if layers > MAX_LAYERS:
        raise ConfigError(
            f"{shown} is out of range. It must be at most {MAX_LAYERS:,}: "
            "the deepest published networks have about 1,200 layers."
        )


def _fits(value: object, hint: Any) -> bool:
    """Return whether a plain value from YAML may stand for an argument annotated with `hint`."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    except TypeError:  # a type of a custom model that msgspec does not know
        return True
    return True


def _in_words(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(each) for each in inner)
    if origin is not None:
        return f"a list of {_in_words(inner[0]).removeprefix('a ')}s"
    return WORDS.get(hint) or str(hint)
