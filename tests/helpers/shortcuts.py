"""Shortcuts of commands in tests: they measure briefly, draw small white curves, compose once.

tests/analysis/test_timing.py and tests/trackers/test_curves.py test the full work, and so does
each command that a test runs by `run_command`.
"""

from typing import Any, BinaryIO

from hydra._internal.hydra import Hydra
from PIL import Image

from cnnbench.analysis import timing
from cnnbench.trackers import curves

__all__ = ["SHORTCUTS"]


def draw_nothing(rows: object, title: str, file: BinaryIO, *_: object) -> None:
    Image.new("L", (4, 4), 255).save(file, format="png")


find_mode = Hydra.get_mode


def find_mode_quickly(hydra: Hydra, config_name: str | None, overrides: list[str]) -> object:
    """Return the mode without composing the configuration, as no YAML sets hydra.mode."""
    if any("hydra.mode" in override for override in overrides):
        return find_mode(hydra, config_name, overrides)
    return None


SHORTCUTS: dict[tuple[Any, str], object] = {
    (timing, "WARM_UP_S"): 0.01,
    (timing, "ROUND_S"): 0.01,
    (curves, "write_curves"): draw_nothing,
    (Hydra, "get_mode"): find_mode_quickly,
}
