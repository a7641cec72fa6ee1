"""TensorBoard: its tags, pictures, texts and files."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.command import Command
from helpers.small_runs import SMALL, Runs
from helpers.tracker_contents import READERS, read_events, read_recorded
from PIL import Image

from cnnbench.trackers.tensorboard import Client, except_writer, make_tag

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def test_metrics_are_grouped_by_quantity() -> None:
    tags = [make_tag(name) for name in ("train_loss", "validation_accuracy", "epoch_s", "lr")]
    assert tags == ["loss/train", "accuracy/validation", "epoch_s", "lr"]


def test_tensorboard_shows_curves_and_configuration(tracked: Path) -> None:
    events = read_events(tracked)
    (curves,) = events.Images("curves")
    with Image.open(tracked / "curves.png") as picture:
        assert (curves.step, curves.width, curves.height) == (3, *picture.size)
    *_, text = events.Tensors("configuration/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert shown.startswith("    ")
    assert yaml.safe_load(shown) == yaml.safe_load((tracked / "config.yaml").read_text())


def test_parameters_are_hparams_of_the_same_run(tracked: Path) -> None:
    content = read_events(tracked).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["optimizer.lr"].number_value == 0.01
    assert start.hparams["device.compile"].string_value == "false"
    assert {path.parent.name for path in tracked.rglob("*tfevents*")} == {"tensorboard"}


def test_resumed_run_has_each_epoch_once(runs: Runs, tmp_path: Path) -> None:
    run = runs.copy("finished", tmp_path / "run")
    rows = [({"epoch": epoch, "lr": 0.5}, 0.0) for epoch in (1, 2, 3)]
    for history in (rows[:1], rows[:2]):
        client = Client(None, run, {}, {}, history)
        assert client.start() == f"tensorboard --logdir {os.path.relpath(run)}"
        client.log_rows(rows[len(history) :])
        assert READERS["tensorboard"](run) == [("lr", epoch, 0.5) for epoch in (1, 2, 3)]
        client.end("interrupted")


def test_steps_have_an_axis_of_their_own(runs: Runs, tmp_path: Path) -> None:
    run = runs.copy("finished", tmp_path / "run")
    steps = [({"step": step, "epoch": step / 4, "train_loss": 0.5}, 0.0) for step in (2, 4)]
    client = Client(None, run, {}, {}, [], steps[:1])
    client.start()
    client.log_steps(steps[1:])
    client.end("finished")
    points = read_events(run).Scalars("steps/train_loss")
    assert [(point.step, point.value) for point in points] == [(2, 0.5), (4, 0.5)]


def test_tracker_added_on_resume_has_all_epochs(tracked: Path) -> None:
    found, recorded = sorted(READERS["tensorboard"](tracked)), read_recorded(tracked)
    assert [point[:2] for point in found] == [point[:2] for point in recorded]
    values = [value for *_, value in recorded]  # TensorBoard has them in single precision
    assert [value for *_, value in found] == pytest.approx(values, rel=1e-6)
    first, second, _ = read_events(tracked).Scalars("loss/train")
    (epoch_s,) = (value for name, epoch, value in recorded if (name, epoch) == ("epoch_s", 2))
    assert second.wall_time - first.wall_time == pytest.approx(epoch_s, abs=1e-4)


def test_full_disk_gives_one_warning(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    written: list[bytes] = []

    def write(writer: RecordWriter, data: bytes) -> None:
        written.append(data)
        if len(written) > 5:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", write)
    done = within(*SMALL, "tracker=tensorboard")
    assert (done.returncode, done.stderr) == (0, "")
    (warning,) = (line for line in done.stdout.splitlines() if line.startswith("The tracker "))
    assert warning.endswith("without it: OSError: [Errno 28] No space left on device")


def test_errors_of_other_threads_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr("cnnbench.trackers.tensorboard.report_thread_error", reported.append)
    monkeypatch.setattr(threading, "excepthook", except_writer)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert [error.exc_type for error in reported] == [ZeroDivisionError]
