"""The picture of a run."""

import io
import subprocess
import sys

import pytest

from cnnbench.reports.curves import draw

DRAW_ALONE = """
import sys
from cnnbench.reports.curves import draw
draw(eval(sys.argv[1]), "of three epochs", sys.stdout.buffer)
"""


def rows(epochs: int, held_out: str) -> list[dict[str, float]]:
    names = ("train_loss", "train_accuracy", f"{held_out}_loss", f"{held_out}_accuracy")
    return [{"epoch": epoch, **{name: len(name) / epoch for name in names}} for epoch in range(1, epochs + 1)]


def test_a_picture_has_nothing_of_the_one_before() -> None:
    alone = subprocess.run(
        [sys.executable, "-c", DRAW_ALONE, repr(rows(3, "test"))], capture_output=True, check=True, timeout=120
    ).stdout
    after_another = io.BytesIO()
    draw(rows(40, "validation"), "of forty epochs", io.BytesIO())
    draw(rows(3, "test"), "of three epochs", after_another)
    assert after_another.getvalue() == alone


@pytest.mark.parametrize("title", ["mlp on $x$, 28 px", r"mlp on $\nothing{, 28 px", "mlp on 照片, 28 px"])
def test_a_folder_may_have_any_name(title: str) -> None:
    draw(rows(2, "test"), title, file := io.BytesIO())
    assert file.getvalue().startswith(b"\x89PNG")
