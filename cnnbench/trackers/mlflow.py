"""MLflow: a run in a tracking server or in a local store, which a process of its own talks to.

In a thread its import would take a second of the lock that training needs for every operation, and would change
warnings and logging of this process; and a call that a server does not answer could not be broken off.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnbench.config import MlflowConfig
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.reading import read_json
from cnnbench.trackers.worker import Row, Told, TrackerError

__all__ = ["Mlflow", "address"]

REMEMBERED = "mlflow.json"
# With -m it would import from the current folder first, which may hold an html.py of somebody's.
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from cnnbench.trackers.mlflow_process import main; main()"
# Of each call, where the environment does not say: with these a server that is gone is known in half a minute, not in
# four to fourteen.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}

LAST_WORDS_S = 2.0  # for telling MLflow that a run is not followed any further, after a failure


def address(config: MlflowConfig) -> str | None:
    """Where runs are tracked: as configured, or as the environment says; None: in the local store."""
    return config.uri or os.environ.get("MLFLOW_TRACKING_URI") or None


class Mlflow:
    """Has MLflow told of a run by `mlflow_process`, and remembers in the run directory which of its runs that is."""

    def __init__(self, config: MlflowConfig, store: Path) -> None:
        """`store` is the folder of the local store."""
        self._uri = address(config)
        self._experiment = config.experiment
        self._store = store.absolute()
        self._process: subprocess.Popen[str] | None = None

    def start(self, told: Told) -> None:
        local = self._uri is None
        if local:
            self._store.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{quote(str(self._store / 'mlflow.db'))}" if local else self._uri
        environment = {
            **PATIENCE,
            **os.environ,
            "MLFLOW_TRACKING_URI": str(uri),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONWARNINGS": "ignore",  # those of MLflow and of what it is made of are not this project's
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the run, which says how it ended
        )
        remembered = _remembered(told.directory)
        run_id = self._ask(
            "start",
            store=str(self._store) if local else None,
            experiment=self._experiment,
            directory=str(told.directory),
            run_id=remembered,
            began_at=told.began_at,
            parameters={
                key: each if isinstance(each, str) else json.dumps(each) for key, each in told.parameters.items()
            },
            tags=told.tags,
            rows=list(told.rows),
        )
        if run_id != remembered:
            RunDirectory(told.directory).write_json(REMEMBERED, {"run_id": run_id})

    def epoch(self, row: Row, ended_at: float) -> None:
        self._ask("epoch", row=row, ended_at=ended_at)

    def result(self, figures: Mapping[str, float], epoch: int) -> None:
        self._ask("result", figures=figures, epoch=epoch)

    def end(self, state: str) -> None:
        self._ask("end", state=state)
        self.abandon()  # all is delivered: its process has no more to do

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with suppress(OSError):  # it did not read all that it was sent
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORDS_S)
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def abandon(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _ask(self, method: str, **values: Any) -> Any:
        """Have the other process do something; returns what it answers.

        Raises:
            TrackerError: it could not do it, or is gone.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([method, values]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise TrackerError("the process that talks to MLflow has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise TrackerError(answer["error"])
        return answer["value"]


def _remembered(directory: Path) -> str | None:
    """The id of the run that was begun for this directory, if it is one."""
    try:
        run_id = read_json(directory / REMEMBERED).get("run_id")
    except (OSError, ValueError):
        return None
    return run_id if isinstance(run_id, str) and re.fullmatch("[0-9a-f]{32}", run_id) else None
