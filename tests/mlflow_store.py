"""MLflow's own client and server, in processes of their own: what they import warns, and takes a second.

Run as a script this is the client: it answers each line on stdin, the address of a store, with what that holds.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["Reader", "Server"]

START_S = 120.0
Run = dict[str, Any]


def quiet() -> dict[str, str]:
    """An environment in which MLflow asks nobody else, and what it warns of is not this project's."""
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore", "no_proxy": "127.0.0.1"}


class Reader:
    """Tells of the runs in a store."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=quiet(),
        )

    def read(self, store: Path | str) -> list[Run]:
        """The runs in the store of an ``outputs`` folder, or at an address, in the order they were begun in."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        uri = f"sqlite:///{store}/mlflow.db" if isinstance(store, Path) else store
        self._process.stdin.write(f"{uri}\n")
        self._process.stdin.flush()
        runs: list[Run] = json.loads(self._process.stdout.readline())
        return runs

    def close(self) -> None:
        self._process.communicate()


class Server:
    """`mlflow server` with a store of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        words = ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "artifacts", "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *words],
            cwd=folder,
            env=quiet() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Until it answers."""
        give_up_at = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health").close()
                return
            except urllib.error.URLError:
                assert self._process.poll() is None, "the server ended"
                assert time.monotonic() < give_up_at, "the server does not answer"
                time.sleep(0.05)

    def kill(self) -> None:
        """With the processes that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _read(uri: str) -> list[Run]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiments = {each.experiment_id: each.name for each in client.search_experiments()}
    found = client.search_runs(list(experiments), order_by=["attributes.start_time"])
    return [
        {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "experiment": experiments[run.info.experiment_id],
            "status": run.info.status,
            "parameters": run.data.params,
            "tags": run.data.tags,
            "metrics": {
                name: [[each.step, each.value] for each in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
            "files": sorted(each.path for each in client.list_artifacts(run.info.run_id)),
        }
        for run in found
    ]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_read(line.strip())), flush=True)
