"""Types of configuration fields: groups of keys, and numbers with their ranges."""

import sys
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "FINITE",
    "Auto",
    "Choice",
    "Group",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Pixels",
    "PositiveFloat",
    "PositiveInt",
    "Ratio",
    "Share",
    "Text",
]

FINITE = sys.float_info.max  # upper bound of open ranges, so that inf and nan are refused

PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0, le=FINITE)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=FINITE)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Pixels = Annotated[int, Meta(ge=1, le=4096)]
Auto = Literal["auto"]
Text = Annotated[str, Meta(min_length=1)]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of keys."""


class Choice(Group, frozen=True, tag_field="name"):
    """A group whose keys depend on the choice. The class of each choice has its name as the tag."""

    @property
    def name(self) -> str:
        return str(self.__struct_config__.tag)
