"""The display of a run in a notebook, on an IPython.display that records what it is given."""

import base64
import io
import math
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import IPython
import IPython.display
import pytest
from helpers.command import TINY, Command, find_only_run
from helpers.compare_runs import find_differences
from PIL import Image
from tqdm import tqdm

from cnnbench.api import Row, train
from cnnbench.trackers import live
from cnnbench.trackers.live import Screen, show_live

Outputs = list[list[dict[str, str]]]  # of each display, what it showed
STEPS = (*TINY, "train.log_every=1")
ONE_EPOCH = (*TINY, "train.epochs=1", "train.fail_if_not_learning=false")


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Outputs:
    """Return the outputs of a cell. The test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    shown: Outputs = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool, **options: Any) -> Any:
        assert (raw, display_id) == (True, True)
        contents = [data]
        shown.append(contents)
        return SimpleNamespace(update=lambda data, raw, **options: contents.append(data))

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    return shown


def lines(outputs: Outputs) -> list[str]:
    return [data["text/plain"] for data in outputs[0]]


def pictures(outputs: Outputs) -> list[bytes]:
    return [base64.b64decode(data["image/png"]) for data in outputs[1]]


def test_cell_has_a_line_and_a_picture_below(outputs: Outputs) -> None:
    train(*ONE_EPOCH, live=True)
    assert [set(contents[0]) for contents in outputs] == [
        {"text/plain"},
        {"text/plain", "image/png"},
    ]
    with Image.open(io.BytesIO(pictures(outputs)[-1])) as picture:
        assert picture.size == (2 * live.SIZE["width"], 2 * live.SIZE["height"])


def test_line_is_the_progress_bar_and_then_the_result(outputs: Outputs) -> None:
    result = train(*TINY, live=True)
    bars, last = lines(outputs)[:-1], lines(outputs)[-1]
    assert any(bar.startswith("epoch 1/2: ") and "examples/s" in bar for bar in bars)
    assert last == f"Finished: test accuracy {result.test_accuracy:.4f}"


def test_last_picture_is_that_of_the_finished_run(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, str]] = []
    monkeypatch.setattr(
        "cnnbench.trackers.curves.write_curves",
        lambda rows, title, *_: drawn.append((len(rows), title)),
    )
    result = train(*TINY, live=True)
    title = f"lenet_relu on sample, 28 px: test accuracy {result.test_accuracy:.4f}"
    assert drawn[-1] == (2, title)


def test_curves_grow_after_each_epoch(outputs: Outputs, drawn: list[tuple[int, int]]) -> None:
    train(*TINY, live=True)
    assert drawn == [(1, 0), (2, 0), (2, 0)]


def test_curves_grow_within_epochs_by_log_every(
    outputs: Outputs, drawn: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnbench.trackers.base.SEND_S", 0.0)
    train(*ONE_EPOCH, "train.log_every=2", live=True)
    assert drawn == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 4), (1, 4)]  # of eight steps


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the list of pictures: how many epochs and steps each shows. Drawing takes no time."""
    sizes: list[tuple[int, int]] = []
    keep = live._ScreenCurves.draw

    def draw(curves: Any, rows: Any, accuracy: float | None = None, **options: Any) -> None:
        sizes.append((len(rows), len(options["steps"])))
        keep(curves, rows, accuracy, **options)

    monkeypatch.setattr(live._ScreenCurves, "draw", draw)
    monkeypatch.setattr("cnnbench.trackers.curves.write_curves", lambda *values: None)
    monkeypatch.setattr("cnnbench.trackers.curves.MAX_SHARE", math.inf)
    return sizes


def test_numbers_and_files_are_those_without_a_display(outputs: Outputs) -> None:
    plain, shown = train(*STEPS).directory, train(*STEPS, live=True).directory
    assert find_differences(plain, shown) == []
    assert {path.relative_to(plain) for path in plain.rglob("*")} == {
        path.relative_to(shown) for path in shown.rglob("*")
    }


def test_display_restores_the_process(outputs: Outputs) -> None:
    before = (sys.stderr, os.environ.get("TQDM_DISABLE"))
    train(*ONE_EPOCH, live=True)
    num_outputs = len(outputs)
    train(*ONE_EPOCH)
    assert (sys.stderr, os.environ.get("TQDM_DISABLE")) == before
    assert len(outputs) == num_outputs


@pytest.mark.filterwarnings("default")
def test_interrupted_run_leaves_its_picture_and_can_be_resumed(
    outputs: Outputs, within: Command, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(*STEPS, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGINT), live=True)
    run = find_only_run(tmp_path)
    command = f"cnnbench resume {run.relative_to(tmp_path)}"
    assert lines(outputs)[-1] == f"Stopped after 1 of 2 epochs. To resume: {command}"
    assert pictures(outputs)[-1].startswith(b"\x89PNG")
    assert within(*command.split()[1:]).returncode == 0
    assert find_differences(run, train(*STEPS).directory) == []


def test_resumed_run_shows_the_epochs_before_it(
    outputs: Outputs, drawn: list[tuple[int, int]]
) -> None:
    train(*TINY, "train.epochs=3", on_epoch=lambda row: row["epoch"] < 2, directory="run")
    train(*TINY, "train.epochs=3", directory="run", live=True)
    assert [epochs for epochs, _ in drawn][-1] == 3


def test_run_that_on_epoch_stops_says_how_to_resume(outputs: Outputs) -> None:
    train(*TINY, on_epoch=lambda row: False, live=True)
    assert "Stopped after 1 of 2 epochs. To resume: cnnbench resume " in lines(outputs)[-1]


def test_failed_run_leaves_its_picture_and_a_sentence(outputs: Outputs) -> None:
    def fail(row: Row) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # it has no message
        train(*TINY, on_epoch=fail, live=True)
    assert lines(outputs)[-1] == "Failed after 1 of 2 epochs."
    assert pictures(outputs)[-1].startswith(b"\x89PNG")


def test_run_continues_if_the_display_fails(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*values: object, **options: object) -> None:
        raise RuntimeError("no front end")

    monkeypatch.setattr(IPython.display, "display", fail)
    result = train(*ONE_EPOCH, live=True)
    assert result.test_accuracy is not None
    logged = (result.directory / "train.log").read_text()
    assert logged.count("The tracker live failed at epoch 1, and the run continues") == 1


def test_screen_passes_on_what_is_no_progress_bar(outputs: Outputs) -> None:
    errors = io.StringIO()
    screen = Screen(errors, str)
    screen.write("a warning\n")
    for _ in tqdm(range(3), file=screen, disable=None, desc="some"):
        pass
    assert errors.getvalue().strip() == "a warning"
    assert lines(outputs)[-1].startswith("some: 100%|██████████| 3/3 ")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_outside_of_a_notebook_only_a_terminal_has_a_bar(
    is_terminal: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    train(*ONE_EPOCH, live=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("examples/s" in printed.err) is is_terminal


def test_terminal_of_ipython_is_no_notebook(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IPython, "get_ipython", SimpleNamespace)
    before = sys.stderr
    with show_live(""):
        assert sys.stderr is before


def test_ipython_is_not_imported_outside_of_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "IPython")
    train(*ONE_EPOCH, live=True)
    assert "IPython" not in sys.modules
