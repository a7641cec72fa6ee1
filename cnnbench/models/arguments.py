"""Check the arguments of a network, which come from YAML, against its constructor."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["check_arguments"]

# The deepest published networks have about 1,200 layers. Building 10,000 layers takes seconds.
MAX_LAYERS = 10_000

TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    type(None): "null",
}


def check_arguments(
    name: str, factory: Callable[..., object], arguments: Mapping[str, Any]
) -> None:
    """Check names and types of the arguments by the signature of `factory`, and the depth.

    A `factory` that takes any keyword is not checked. The depth of a custom model is not limited.

    Raises:
        ConfigError: `factory` does not take an argument, or takes another type, or an argument asks
            for more than MAX_LAYERS layers.
    """
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    common = ("in_channels", "num_classes", "image_size")
    accepted = [key for key in parameters if key not in common]
    function = factory.func if isinstance(factory, partial) else factory
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    for key, value in arguments.items():
        shown = f"model.{key}={'null' if value is None else value}"
        if key not in accepted:
            allowed = did_you_mean(key, accepted) if accepted else "It takes none."
            if ":" in name:
                allowed += (
                    "\nStart from a network that has no arguments: "
                    f"model=simple_cnn model.name={name}"
                )
            raise ConfigError(f"{name} takes no argument 'model.{key}'. {allowed}")
        if key in hints and not _has_type(value, hints[key]):
            if typing.get_origin(hints[key]) is typing.Literal:
                choices = [str(choice) for choice in typing.get_args(hints[key])]
                raise ConfigError(f"{shown} is not known. {did_you_mean(str(value), choices)}")
            wanted = _describe_type(hints[key])
            raise ConfigError(f"{shown} has the wrong type. {name} wants {wanted}.")
        if ":" not in name:  # in a custom model "depth" may mean something else
            _check_depth(key, value)


def _check_depth(key: str, value: object) -> None:
    """Refuse networks that take minutes to build.

    The preflight check builds the network, and prints nothing until it is built.
    """
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


def _has_type(value: object, hint: Any) -> bool:
    """Return whether a plain value from YAML is valid for the annotation `hint`."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    except TypeError:  # a type of a custom model that msgspec does not know
        return True
    return True


def _describe_type(hint: Any) -> str:
    """Return words for an annotation, such as "a list of whole numbers or null"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe_type(part) for part in inner)
    if origin is not None:
        return f"a list of {_describe_type(inner[0]).removeprefix('a ')}s"
    return TYPE_NAMES.get(hint) or str(hint)
