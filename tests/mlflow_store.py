"""What MLflow's client finds in a store, and a server of MLflow's."""

import os
import socket
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

__all__ = ["read_runs", "server"]

START_S = 120.0


def read_runs(uri: str) -> dict[str, dict[str, Any]]:
    """Return the runs of a store by name. Metrics are lists of step and value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(uri)
        experiments = {found.experiment_id: found.name for found in client.search_experiments()}
        return {
            run.info.run_name: {
                "experiment": experiments[run.info.experiment_id],
                "status": run.info.status,
                "parameters": run.data.params,
                "tags": run.data.tags,
                "metrics": read_metrics(client, run),
                "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            }
            for run in client.search_runs(list(experiments))
        }


def read_metrics(client: Any, run: Any) -> dict[str, list[tuple[int, float]]]:
    metrics = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        metrics[name] = [(point.step, point.value) for point in history]
    return metrics


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run `mlflow server` with a store of its own in `folder`; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [
        "--backend-store-uri",
        "sqlite:///server.db",
        "--artifacts-destination",
        "artifacts",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--port", str(port), *words],
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


def is_healthy(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health").close()
    except urllib.error.URLError:
        return False
    return True
