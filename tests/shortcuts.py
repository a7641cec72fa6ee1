"""What commands do quicker in tests: measuring briefly, and drawing learning curves as a small white picture.

tests/training/test_measure.py and tests/reports/test_curves.py test what is cut short here, and so does every command
that a test runs by `run_command`.
"""

from typing import Any, BinaryIO

from PIL import Image

from cnnbench.reports import curves
from cnnbench.training import measure

__all__ = ["SHORTCUTS"]


def draw_nothing(rows: object, title: str, file: BinaryIO) -> None:
    Image.new("L", (4, 4), 255).save(file, format="png")


SHORTCUTS: list[tuple[Any, str, object]] = [
    (measure, "WARM_UP_S", 0.01),
    (measure, "ROUND_S", 0.01),
    (curves, "draw", draw_nothing),
]
