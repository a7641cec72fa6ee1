"""The process that draws: its pictures, and what happens if it fails."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_metrics import make_epochs

from cnnbench.trackers import curves
from cnnbench.trackers.curves import Curves, write_curves
from cnnbench.trackers.drawing_process import DrawingProcess

ROWS = make_epochs([0.2, 0.4, 0.3], [0.3, 0.5, 0.4])
STEPS = [{"epoch": 0.5, "lr": 0.1, "train_loss": 2.0, "train_accuracy": 0.3}]


@pytest.fixture
def drawing() -> Iterator[DrawingProcess]:
    process = DrawingProcess()
    yield process
    process.close()


def test_pictures_are_those_of_this_process(drawing: DrawingProcess) -> None:
    for picture in ((ROWS, "lenet", [], "accuracy"), (ROWS[:1], "照片", STEPS, "loss")):
        rows, title, *others = picture
        write_curves(rows, title, file := io.BytesIO(), *others)
        assert drawing.draw(*picture) == file.getvalue()


def test_killed_process_draws_nothing(drawing: DrawingProcess) -> None:
    os.kill(drawing._process.pid, signal.SIGKILL)
    assert drawing.draw(ROWS, "lenet", [], "accuracy") is None


def test_process_that_fails_draws_nothing(drawing: DrawingProcess) -> None:
    assert drawing.draw("no rows", "lenet", [], "accuracy") is None
    assert drawing._process.returncode is not None


def test_process_that_does_not_answer_is_closed(
    drawing: DrawingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnbench.trackers.drawing_process.TIMEOUT_S", 0.01)
    os.kill(drawing._process.pid, signal.SIGSTOP)
    assert drawing.draw(ROWS, "lenet", [], "accuracy") is None
    assert drawing._process.returncode == -signal.SIGKILL


def test_process_ends_with_its_pipe(drawing: DrawingProcess) -> None:
    assert drawing._process.stdin is not None
    drawing._process.stdin.close()
    drawing._process.stdin = None
    assert drawing._process.wait(timeout=60) == 0


def test_run_draws_by_itself_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Failing:
        def draw(self, *picture: Any) -> None:
            monkeypatch.setattr(
                curves, "write_curves", lambda rows, title, file, *_: file.write(b"here")
            )

    monkeypatch.setattr(curves, "_drawing", Failing())
    picture = Curves(tmp_path / "curves.png", "lenet")
    picture.draw(ROWS)
    assert (tmp_path / "curves.png").read_bytes() == b"here"
    assert curves._drawing is None
