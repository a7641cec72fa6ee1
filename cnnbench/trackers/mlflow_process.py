"""The process that talks to MLflow for a run: lines of JSON on stdin are done, and answered on stdout.

If stdin ends before the run does, the run was killed, and that is what MLflow is told.
"""

import getpass
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from cnnbench.runs.lock import Lock
from cnnbench.runs.stopping import STOP_SIGNALS

__all__ = ["main"]

FILES = ("config.yaml", "curves.png", "result.json")
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
WAIT_S = 60.0  # for another run that makes the local store
MOST_PARAMETERS, MOST_METRICS = 100, 1000  # of a call
LONGEST_KEY, LONGEST_VALUE = 240, 6000  # characters; MLflow takes 250 of a key, and of a tag made of it

Row = Mapping[str, float]


class Client:
    """MLflow's client for one run."""

    def __init__(self) -> None:
        self.columns: set[str] = set()  # of the rows, which final figures may be called like
        self.there: dict[int, float] = {}  # the training loss of epochs that MLflow had before, by their number

    def start(
        self,
        store: str | None,
        experiment: str,
        directory: str,
        run_id: str | None,
        began_at: float,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        rows: Sequence[tuple[Row, float]],
    ) -> str:
        """Begin a run in MLflow, or go on with the one that `run_id` names; returns its id."""
        from mlflow.tracking import MlflowClient

        self.directory = Path(directory)
        with nullcontext() if store is None else _alone(Path(store, ".mlflow.lock")):
            self.client = MlflowClient()
            experiment_id = self._experiment(experiment, None if store is None else Path(store, "mlruns").as_uri())
        run = None if run_id is None else self._earlier(run_id, experiment_id)
        if run is None:
            run = self.client.create_run(experiment_id, int(began_at * 1000), {**_user(), **tags}, self.directory.name)
        else:
            self.client.update_run(run.info.run_id, status="RUNNING")
        self.run_id = str(run.info.run_id)
        self._log_parameters(run, parameters, tags)
        self.there = {each.step: each.value for each in self.client.get_metric_history(self.run_id, "train_loss")}
        self._log(rows)
        return self.run_id

    def epoch(self, row: Row, ended_at: float) -> None:
        self._log([(row, ended_at)])

    def result(self, figures: Row, epoch: int) -> None:
        new = {name: value for name, value in figures.items() if name not in self.columns}
        self._log([({"epoch": epoch, **new}, time.time())])

    def end(self, state: str) -> None:
        """The files come last: not every server has a place for them."""
        self.client.set_terminated(self.run_id, STATUS[state])
        for path in (self.directory / name for name in FILES):
            if path.exists():
                self.client.log_artifact(self.run_id, str(path))

    def _experiment(self, name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifacts))
            except MlflowException:  # another run has made it at this moment, or what follows fails as well
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _earlier(self, run_id: str, experiment_id: str) -> Any:
        """The run of that id, if it is there and of this run directory: the id may be anyone's."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        ours = run.data.tags.get("run_directory") == str(self.directory)
        return run if ours and (run.info.experiment_id, run.info.lifecycle_stage) == (experiment_id, "active") else None

    def _log_parameters(self, run: Any, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """What MLflow does not allow in a name becomes an underscore; what cannot be changed there becomes a tag."""
        from mlflow.entities import Param, RunTag

        there, tags_there = run.data.params, run.data.tags
        new, changed = [], {}
        for key, value in parameters.items():
            name, value = re.sub(r"[^\w\-. :/]", "_", key)[:LONGEST_KEY], value[:LONGEST_VALUE]
            if name not in there:
                new.append(Param(name, value))
            elif there[name] != value or f"changed.{name}" in tags_there:
                changed[f"changed.{name}"] = value
        for first in range(0, len(new), MOST_PARAMETERS):
            self.client.log_batch(self.run_id, params=new[first : first + MOST_PARAMETERS])
        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in {**tags, **changed}.items()])

    def _log(self, rows: Sequence[tuple[Row, float]]) -> None:
        """Log rows, less those of a run that goes on which are there already: MLflow would keep both."""
        from mlflow.entities import Metric

        self.columns.update(*(row for row, _ in rows))
        metrics = [
            Metric(name, value, int(ended_at * 1000), int(row["epoch"]))
            for row, ended_at in rows
            if "train_loss" not in row or self.there.get(int(row["epoch"])) != row["train_loss"]
            for name, value in row.items()
            if name != "epoch"
        ]
        for first in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + MOST_METRICS])


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from making the tables of the local store at the same time, at which MLflow fails."""
    lock = Lock(path)
    lock.acquire(WAIT_S)
    try:
        yield
    finally:
        lock.release()


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (OSError, KeyError):  # a container may know none
        return {}


def name_home() -> None:
    """Name a home folder if there is none: MLflow does not start without one."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"


def main() -> None:
    for number in STOP_SIGNALS:  # a scheduler sends them to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    name_home()
    client, ended = Client(), False
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    for line in sys.stdin:
        method, values = json.loads(line)
        try:
            answer = {"value": getattr(client, method)(**values)}
            ended = method == "end"
        except BaseException as error:
            answer = {"error": _reason(error)}
        with suppress(BrokenPipeError):  # the run was killed meanwhile
            print(json.dumps(answer), file=answers, flush=True)
    if not ended:
        client.end("interrupted")


def _reason(error: BaseException) -> str:
    """What an exception comes from, where it says the same with more around it, as ten lines of a closed port."""
    whole = str(error)
    while (inner := error.__cause__ or error.__context__) is not None and str(inner) in whole:
        error = inner
    return f"{type(error).__name__}: {error}"
