"""Trackers show a run while it trains. If one fails, it is turned off and the run continues."""

import json
import logging
import os
import re
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cnnbench.analysis.format import truncate
from cnnbench.config import TRACKERS, Config, as_dict, flatten, job_identity
from cnnbench.data.user_folders import expand_user
from cnnbench.runs.reading import read_json_or_empty
from cnnbench.runs.signals import SignalGuard
from cnnbench.runs.sweep import JOBS

__all__ = ["Row", "Rows", "Tracker", "Trackers", "live_client", "start_trackers"]

log = logging.getLogger("cnnbench")

# keys of environment.json
TAGS = ("cnnbench", "commit", "host", "device", "chip", "precision", "engine", "world_size")
# defaults of environment variables, for the clients
VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_ERROR_REPORTING": "false",
}
MAX_REASON = 300  # characters, since the errors of clients quote whole requests

Row = Mapping[str, float]
Rows = Sequence[tuple[Row, float]]  # a row, and the time in s at which its epoch or steps ended
SEND_S = 5.0  # seconds between the rows of steps.csv that are sent within an epoch


@dataclass
class Tracker(ABC):
    """The client of a tracker, for one run. All methods may raise any error.

    `config` has the settings of the tracker, `parameters` the whole configuration, flat. `history`
    has the rows that a resumed run starts with, `step_history` those of steps.csv. A run without
    train.log_every has no steps_per_epoch.
    """

    config: Any
    directory: Path
    parameters: Mapping[str, int | float | str]
    tags: dict[str, str]
    history: Rows
    step_history: Rows = ()
    steps_per_epoch: int | None = None

    @abstractmethod
    def start(self) -> str:
        """Start or resume the run in the tracker; return where it is shown."""

    @abstractmethod
    def log_rows(self, rows: Rows) -> None:
        """Log rows of metrics.csv."""

    @abstractmethod
    def log_steps(self, rows: Rows) -> None:
        """Log rows of steps.csv."""

    @abstractmethod
    def log_result(self, figures: Row, last_row: Row) -> None:
        """Log the final figures. curves.png and result.json have been written before."""

    @abstractmethod
    def end(self, state: str) -> None:
        """End the run as finished, interrupted or failed."""

    def read_id(self, name: str) -> str:
        """Return the id in a file of the run directory, or "" if there is none.

        The directory is untrusted, so that only hexadecimal digits and hyphens are accepted.
        """
        run_id = str(read_json_or_empty(self.directory / name).get("run_id"))
        return run_id if re.fullmatch("[0-9a-f-]+", run_id) else ""


# makes the display of the run that starts in this context; it is no tracker of its configuration
live_client: ContextVar[Callable[..., Tracker] | None] = ContextVar("live_client", default=None)


@dataclass
class Trackers:
    """The trackers of a run that have not failed."""

    clients: dict[str, Tracker]
    unsent_steps: list[tuple[Row, float]] = field(default_factory=list)
    sent_at: float = 0.0

    def log_step(self, row: Row) -> None:
        """Log a row of steps.csv, together with others that are as recent."""
        now = time.time()
        self.unsent_steps.append((row, now))
        if now - self.sent_at >= SEND_S:
            self._send_steps()

    def _send_steps(self) -> None:
        if self.unsent_steps:
            last = self.unsent_steps[-1][0]
            self.call(f"step {last['step']}", "log_steps", self.unsent_steps)
        self.unsent_steps, self.sent_at = [], time.time()

    def log_epoch(self, row: Row) -> None:
        self._send_steps()
        self.call(f"epoch {row['epoch']}", "log_rows", [(row, time.time())])

    def log_result(self, result: Mapping[str, Any]) -> None:
        """Log the figures of result.json."""
        figures = {key: result[key] for key in ("test_accuracy", "test_loss", "parameters")}
        for key in ("epoch", "validation_accuracy", "validation_loss"):
            if result["best"]:
                figures[f"best_{key}"] = result["best"][key]
        figures["wall_s"] = result["wall_s"]["total"]
        self.call("the final figures", "log_result", figures, result["final"])

    @contextmanager
    def ended_after(self, signals: SignalGuard) -> Iterator[None]:
        """End the trackers after the block, unless a second signal ends the run at once."""
        state = "failed"
        try:
            yield
            state = "finished"
        except (KeyboardInterrupt, SystemExit):
            state = "interrupted"
            raise
        finally:
            if not signals.at_once:
                self.call("the end", "end", state)

    def call(self, moment: str, method: str, *values: Any) -> dict[str, Any]:
        """Call a method of each tracker and return the results by tracker.

        A tracker that fails is turned off, and a warning is logged.
        """
        returned = {}
        for name, tracker in list(self.clients.items()):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    returned[name] = getattr(tracker, method)(*values)
            except Exception as error:
                del self.clients[name]
                cause = _root_cause(error)
                reason = _remove_password(f"{type(cause).__name__}: {cause}")
                event = f"The tracker {name} failed at {moment}, and the run continues without it"
                with tqdm.external_write_mode():
                    log.warning(f"{event}: {truncate(reason, MAX_REASON)}")
        return returned


def start_trackers(
    config: Config,
    directory: Path,
    environment: Mapping[str, Any],
    rows: Sequence[Row],
    step_rows: Sequence[Row] = (),
    steps_per_epoch: int | None = None,
) -> Trackers:
    """Start the configured trackers; `rows` has the rows that a resumed run starts with.

    `step_rows` are those of steps.csv.
    """
    tags = {key: str(environment[key]) for key in TAGS if environment[key] is not None}
    tags["run_directory"] = str(directory.absolute())
    if (directory.parent / JOBS).exists():
        tags["sweep"] = config.sweep
    seconds = [row["epoch_s"] for row in rows]
    ended_at = accumulate(seconds[1:], initial=time.time() - sum(seconds[1:]))
    history = list(zip(rows, ended_at, strict=False))
    step_history = [(row, time.time()) for row in step_rows]
    parameters = flatten(job_identity(as_dict(config)))
    for key, value in parameters.items():
        if type(value) not in (int, float, str):
            parameters[key] = json.dumps(value)
    run = (directory.absolute(), parameters, tags, history, step_history, steps_per_epoch)
    trackers = Trackers({})
    for name in TRACKERS:
        settings = getattr(config.tracker, name)
        if settings is not None:
            client = import_module(f"cnnbench.trackers.{name}").Client
            trackers.clients[name] = client(settings, *run)
    if trackers.clients:  # clients read the variables when `start` imports them
        for variable, value in VARIABLES.items():
            os.environ.setdefault(variable, value)
        if expand_user("~") == Path("~"):  # MLflow fails without a home directory
            os.environ["HOME"] = "/nonexistent"
    for name, place in trackers.call("the start", "start").items():
        log.info(f"Tracked by {name}: {_remove_password(place)}")
    make_live = live_client.get()
    if make_live is not None:
        trackers.clients["live"] = make_live(*run)
    return trackers


def _root_cause(error: BaseException) -> BaseException:
    """Return the original exception if the text of `error` only quotes it."""
    cause = error.__cause__ or error.__context__
    if cause is None or not str(cause) or str(cause) not in str(error):
        return error
    return _root_cause(cause)


def _remove_password(text: str) -> str:
    """Return the text without user names and passwords in URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
