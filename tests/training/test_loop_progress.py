"""Progress within an epoch, as log lines or as a progress bar."""

import logging
import re
import sys

import pytest
from helpers.devices import EACH_DEVICE
from helpers.training_states import StartTraining, collect_rows

from cnnbench.training import loop


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_logged_within_an_epoch_without_a_progress_bar(
    is_terminal: bool,
    start_training: StartTraining,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(loop, "REFRESH_S", -1.0)
    monkeypatch.setattr(loop, "PROGRESS_S", 0.0)  # log after each of the three steps of an epoch
    monkeypatch.setattr(loop, "format_time_left", "{:.6f}".format)
    rows = collect_rows(start_training)
    if is_terminal:
        assert caplog.messages == []
        return
    pattern = re.compile(r"epoch (./2, .*) %, (\S+) left \(in the run (\S+)\)")
    matches = [pattern.fullmatch(message) for message in caplog.messages]
    progress = [match and match[1] for match in matches]
    assert progress == ["1/2, 33", "1/2, 67", "2/2, 33", "2/2, 67"]
    for match, row in zip(matches, (rows[0], rows[0], rows[1], rows[1]), strict=True):
        assert match is not None
        epoch_left, run_left = float(match[2]), float(match[3])
        assert 0 < epoch_left < row["epoch_s"] * 3
        assert (run_left > epoch_left) == (row["epoch"] == 1)


def test_short_epoch_logs_no_progress(
    start_training: StartTraining, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(loop, "REFRESH_S", -1.0)
    collect_rows(start_training)
    assert caplog.messages == []


@EACH_DEVICE
def test_progress_bar_is_cleared_from_the_terminal(
    start_training: StartTraining,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    collect_rows(start_training)
    shown = capsys.readouterr().err
    assert "examples/s" in shown
    assert shown.rpartition("\r")[2] == ""  # the next line is written over blanks
