"""The contents of trackers, read by their own packages, and a server of MLflow."""

import csv
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnbench.trackers.base import VARIABLES

__all__ = [
    "READERS",
    "read_events",
    "read_mlflow",
    "read_recorded",
    "read_wandb",
    "run_mlflow_server",
]

Point = tuple[str, int, float]  # name, epoch, value
START_S = 120.0


def read_recorded(run: Path) -> list[Point]:
    """Return the points of the run directory: metrics.csv, and the final figures of result.json."""
    result = json.loads((run / "result.json").read_text())
    figures = {f"best_{key}": result["best"][key] for key in ("epoch", "validation_accuracy")}
    figures["best_validation_loss"] = result["best"]["validation_loss"]
    figures["wall_s"] = result["wall_s"]["total"]
    for name in ("test_accuracy", "test_loss", "parameters"):
        figures[name] = result[name]
    points = [(name, result["final"]["epoch"], value) for name, value in figures.items()]
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            epoch = int(row.pop("epoch"))
            points += [(name, epoch, float(value)) for name, value in row.items()]
    return sorted(points)


def read_events(run: Path) -> Any:
    """Return TensorBoard's reader of the event files of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(run / "tensorboard"), size_guidance=everything).Reload()


def read_tensorboard(run: Path) -> list[Point]:
    events, points = read_events(run), []
    for tag in events.Tags()["scalars"]:
        name = "_".join(reversed(tag.removeprefix("final/").split("/")))
        points += [(name, point.step, point.value) for point in events.Scalars(tag)]
    return points


def read_mlflow(uri: str) -> dict[str, dict[str, Any]]:
    """Return the runs of a store by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        experiments = {found.experiment_id: found.name for found in client.search_experiments()}
        runs = {}
        for run in client.search_runs(list(experiments)):
            points = []
            for name in run.data.metrics:
                history = client.get_metric_history(run.info.run_id, name)
                points += [(name, point.step, point.value) for point in history]
            runs[run.info.run_name] = {
                "experiment": experiments[run.info.experiment_id],
                "status": run.info.status,
                "parameters": run.data.params,
                "tags": run.data.tags,
                "points": sorted(points),
                "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            }
        return runs


def read_wandb(run: Path) -> list[list[Any]]:
    """Return the protobuf records of each .wandb file, which is one block of LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = []
    for path in sorted(run.glob("wandb/*/*.wandb")):
        data, at, records = path.read_bytes(), 7, []
        while at < len(data) < 32768:
            (length,) = struct.unpack_from("<H", data, at + 4)
            at += 7 + length
            records.append(Record.FromString(data[at - length : at]))
        files.append(records)
    return files


def read_offline(run: Path) -> list[Point]:
    """Return the metrics of all offline files, and the figures of the summary."""
    points: list[Point] = []
    for record in (record for records in read_wandb(run) for record in records):
        for item in record.history.item:
            name = item.nested_key[0]
            if not name.startswith("_"):
                points.append((name, record.history.step.num, json.loads(item.value_json)))
        for item in record.summary.update:
            if item.key not in ("", "_runtime", "curves"):
                points.append((item.key, points[-1][1], json.loads(item.value_json)))
    return points


READERS = {
    "tensorboard": read_tensorboard,
    "mlflow": lambda run: read_mlflow(f"sqlite:///{run.parent}/outputs/mlflow.db")["run"]["points"],
    "wandb": read_offline,
}


@contextmanager
def run_mlflow_server(folder: Path) -> Iterator[str]:
    """Run `mlflow server` with a new store in `folder`, and give the block its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = f"--port {port} --workers 1 --backend-store-uri sqlite:///server.db"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "mlflow", "server", *words.split()],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | VARIABLES,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up_at = time.monotonic() + START_S
        while not is_healthy(f"http://127.0.0.1:{port}"):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < give_up_at, "the server does not answer"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        while _accepts_connections(port):  # its workers end a moment later
            time.sleep(0.01)


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_healthy(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health").close()
    except urllib.error.URLError:
        return False
    return True
