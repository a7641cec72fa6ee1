"""TensorBoard's own reader finds in the event files what the run directory has."""

import csv
import json
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from forking import ForkServer
from in_process import run_in_process
from installed import Command
from PIL import Image
from same_run import differences
from small_runs import SMALL, Runs

from cnnbench.trackers.tensorboard import Client, except_writer, tag_of

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

TRACKED = (*SMALL, "tracker=tensorboard", "hydra.run.dir=run")


def read_events(run: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(run / "tensorboard"), size_guidance=everything).Reload()


def read_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = read_events(run)
    tags = events.Tags()["scalars"]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def scalars_of_epochs(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The metrics of metrics.csv, by tag and in single precision."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        tag_of(name): [(int(row["epoch"]), float(np.float32(row[name]))) for row in rows]
        for name in rows[0]
        if name != "epoch"
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    done = run_in_process(*TRACKED, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Tracked by tensorboard: tensorboard --logdir run\n" in done.stdout
    return folder / "run"


def test_scalars_are_the_metrics_of_each_epoch_and_the_final_figures(run: Path) -> None:
    scalars = read_scalars(run)
    final = {tag: scalars.pop(tag) for tag in list(scalars) if tag.startswith("final/")}
    assert scalars == scalars_of_epochs(run)
    result = json.loads((run / "result.json").read_text())
    figures = {name: result[name] for name in ("test_accuracy", "test_loss", "parameters")}
    figures["wall_s"] = result["wall_s"]["total"]
    for name in ("epoch", "validation_accuracy", "validation_loss"):
        figures[f"best_{name}"] = result["best"][name]
    single = {f"final/{name}": float(np.float32(value)) for name, value in figures.items()}
    assert final == {tag: [(2, value)] for tag, value in single.items()}


def test_metrics_are_grouped_by_quantity() -> None:
    tags = [tag_of(name) for name in ("train_loss", "validation_accuracy", "epoch_s", "lr")]
    assert tags == ["loss/train", "accuracy/validation", "epoch_s", "lr"]


def test_curves_and_configuration_are_shown(run: Path) -> None:
    events = read_events(run)
    (curves,) = events.Images("curves")
    with Image.open(run / "curves.png") as picture:
        assert (curves.step, curves.width, curves.height) == (2, *picture.size)
    (text,) = events.Tensors("configuration/text_summary")
    shown = yaml.safe_load(text.tensor_proto.string_val[0].decode())
    assert shown == yaml.safe_load((run / "config.yaml").read_text())


def test_an_epoch_is_in_the_file_at_once(runs: Runs, tmp_path: Path) -> None:
    client = Client(None, runs.copy("finished", tmp_path / "run"), {}, {}, [])
    client.start()
    client.log_epoch({"epoch": 1, "lr": 0.5}, 0.0)
    assert read_scalars(tmp_path / "run") == {"lr": [(1, 0.5)]}
    client.end("finished")


def test_parameters_are_hparams_of_the_same_run(run: Path) -> None:
    content = read_events(run).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["optimizer.lr"].number_value == 0.01
    assert start.hparams["device.compile"].string_value == "false"
    assert [path.parent.name for path in run.rglob("*tfevents*")] == ["tensorboard"]


def test_tracking_changes_no_number(run: Path, runs: Runs) -> None:
    differ = differences(run, runs.folder / "finished")
    assert [name for name in differ if ".config.tracker" not in name] == []


def test_a_resumed_run_has_each_epoch_once(forks: ForkServer, tmp_path: Path) -> None:
    interruption = [(int(signal.SIGINT), "step", 6)]
    done = forks.run(*TRACKED, folder=tmp_path, strikes=interruption)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr
    run = tmp_path / "run"
    early = Path(shutil.copytree(run / "checkpoints", tmp_path / "early"))
    for _ in range(2):
        time.sleep(1)  # TensorBoard reads files by the second in their names
        assert run_in_process("resume", "run", folder=tmp_path).returncode == 0
        scalars = read_scalars(run)
        assert {tag: scalars[tag] for tag in scalars_of_epochs(run)} == scalars_of_epochs(run)
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(early, run / "checkpoints")


def test_a_tracker_that_is_added_later_has_all_epochs(runs: Runs, tmp_path: Path) -> None:
    run = runs.copy("finished", tmp_path / "run")
    done = run_in_process("resume", "run", "tracker=tensorboard", "train.epochs=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    scalars = read_scalars(run)
    assert {tag: scalars[tag] for tag in scalars_of_epochs(run)} == scalars_of_epochs(run)
    first, second, _ = read_events(run).Scalars("loss/train")
    epoch_s = scalars["epoch_s"][1][1]
    assert second.wall_time - first.wall_time == pytest.approx(epoch_s, abs=1e-4)


def test_a_full_disk_is_one_warning(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    written: list[bytes] = []

    def write(writer: RecordWriter, data: bytes) -> None:
        written.append(data)
        if len(written) > 5:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", write)
    done = within(*TRACKED)
    assert (done.returncode, done.stderr) == (0, "")
    warnings = [line for line in done.stdout.splitlines() if line.startswith("The tracker ")]
    assert len(warnings) == 1
    assert warnings[0].endswith("without it: OSError: [Errno 28] No space left on device")


def test_errors_of_other_threads_are_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr("cnnbench.trackers.tensorboard.report_thread_error", reported.append)
    monkeypatch.setattr(threading, "excepthook", except_writer)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert [error.exc_type for error in reported] == [ZeroDivisionError]
