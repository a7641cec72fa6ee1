"""MLflow: a run in a tracking server or in a local store, by MLflow's client."""

import getpass
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.lock import Lock
from cnnbench.trackers.base import Row, Rows, Tracker

__all__ = ["Client"]

STORE = Path("outputs")  # in the current folder, shared by all runs that are started there
FILES = ("config.yaml", "curves.png", "result.json")
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
MAX_METRICS = 1000  # of one request
MAX_WAIT_S = 30.0  # seconds to wait while another run creates the store


class Client(Tracker):
    """The client of a run in MLflow. mlflow.json in the run directory has the run's id."""

    def start(self) -> str:
        place = self.config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if place:
            experiment_id = self._open_experiment(place)
        else:
            store = STORE.absolute()
            store.mkdir(exist_ok=True)
            uri, artifacts = f"sqlite:///{quote(str(store))}/mlflow.db", (store / "mlruns").as_uri()
            with Lock(store / ".mlflow.lock").taken(MAX_WAIT_S):
                experiment_id = self._open_experiment(uri, artifacts)
            place = f"mlflow ui --backend-store-uri sqlite:///{STORE}/mlflow.db"
        self._open_run(experiment_id)
        self.logged_losses = self._read_metric("train_loss")
        self.logged_step_losses = self._read_metric("steps/train_loss") if self.step_history else {}
        self.log_rows(self.history)
        self.log_steps(self.step_history)
        return str(place)

    def _open_experiment(self, uri: str, artifacts: str | None = None) -> str:
        """Return the id of the experiment, and create it if there is none."""
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(uri)
        name = self.config.experiment
        if self.client.get_experiment_by_name(name) is None:
            try:
                self.client.create_experiment(name, artifacts)
            except MlflowException as error:
                # another run may have created it since
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        experiment: Any = self.client.get_experiment_by_name(name)
        return str(experiment.experiment_id)

    def _open_run(self, experiment_id: str) -> None:
        """Resume MLflow's run of this directory or create one, and log the configuration.

        MLflow keeps the first value of a parameter, so that a changed value becomes a tag.
        """
        from mlflow.entities import Param, RunTag

        directory, tags = self.directory, dict(self.tags)
        with suppress(OSError, KeyError):  # a container may not know the user
            tags["mlflow.user"] = getpass.getuser()
        query = f"attributes.run_id = '{self.read_id('mlflow.json')}'"
        run = next(iter(self.client.search_runs([experiment_id], query)), None)
        if run is None or run.data.tags.get("run_directory") != str(directory):
            run = self.client.create_run(experiment_id, run_name=directory.name)
        self.run_id = run.info.run_id
        self.client.update_run(self.run_id, status="RUNNING")
        RunDirectory(directory).write_json("mlflow.json", {"run_id": self.run_id})
        known, params = run.data.params, []
        for key, value in self.parameters.items():
            changed = f"changed.{key}"
            if key not in known:
                params.append(Param(key, str(value)))
            elif known[key] != str(value) or changed in run.data.tags:
                tags[changed] = str(value)
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        self.client.log_batch(self.run_id, params=params, tags=run_tags)

    def log_rows(self, rows: Rows) -> None:
        """Log rows, except those that were logged before: MLflow would keep both."""
        from mlflow.entities import Metric

        metrics = []
        for row, ended_at in rows:
            epoch = int(row["epoch"])
            if self.logged_losses.get(epoch) != row["train_loss"]:
                for name in row.keys() - {"epoch"}:
                    metrics.append(Metric(name, row[name], int(ended_at * 1000), epoch))
        self._log_metrics(metrics)

    def log_steps(self, rows: Rows) -> None:
        """Log rows of steps.csv, except those that were logged before."""
        from mlflow.entities import Metric

        metrics = []
        for row, ended_at in rows:
            step = int(row["step"])
            if self.logged_step_losses.get(step) != row["train_loss"]:
                for name in row.keys() - {"step", "epoch"}:
                    metrics.append(Metric(f"steps/{name}", row[name], int(ended_at * 1000), step))
        self._log_metrics(metrics)

    def _read_metric(self, name: str) -> dict[int, float]:
        """Return the values of a metric that were logged, by step."""
        history = self.client.get_metric_history(self.run_id, name)
        return {metric.step: metric.value for metric in history}

    def _log_metrics(self, metrics: list[Any]) -> None:
        for first in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + MAX_METRICS])

    def log_result(self, figures: Row, last_row: Row) -> None:
        for name in figures.keys() - last_row.keys():
            step = int(last_row["epoch"])
            self.client.log_metric(self.run_id, name, figures[name], step=step)

    def end(self, state: str) -> None:
        self.client.set_terminated(self.run_id, STATUS[state])
        for name in FILES:  # at the end, since not every server stores artifacts
            if (self.directory / name).exists():
                self.client.log_artifact(self.run_id, str(self.directory / name))
