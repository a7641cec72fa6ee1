"""Changes to a frozen configuration, in tests whose fixtures share it."""

from typing import Any

from msgspec.structs import force_setattr


def change(config: Any, **values: Any) -> None:
    """Change values in place without checks. Two underscores stand for a dot in a key."""
    for key, value in values.items():
        *groups, name = key.split("__")
        group = config
        for inner in groups:
            group = getattr(group, inner)
        force_setattr(group, name, value)
