"""Start the trackers of a run, and pass on to them what it records while it trains."""

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cnnbench.analysis.format import printable
from cnnbench.config import Config, as_dict, job_identity, to_yaml
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.stopping import Stopping
from cnnbench.runs.sweep import JOBS
from cnnbench.trackers.worker import Row, Told, Worker, finish

__all__ = ["Trackers", "tracked"]

log = logging.getLogger("cnnbench")

STORE = Path("outputs")  # of the current folder: the local store that all runs begun there share
TAGS = ("cnnbench", "commit", "host", "device", "chip", "precision", "engine", "world_size")  # of environment.json


class Trackers:
    """Those of a run, if it has any. Nothing that happens to them is heard here."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def start(self, told: Told) -> None:
        self._give("the start", "start", told)

    def epoch(self, row: Row) -> None:
        """A row of metrics.csv."""
        self._give(f"epoch {row['epoch']}", "epoch", dict(row), time.time())

    def result(self, result: Mapping[str, Any]) -> None:
        """What result.json holds."""
        best = result["best"] or {}
        figures = {
            "test_accuracy": result["test_accuracy"],
            "test_loss": result["test_loss"],
            **{f"best_{name}": best[name] for name in ("epoch", "validation_accuracy", "validation_loss") if best},
            "parameters": result["parameters"],
            "wall_s": result["wall_s"]["total"],
        }
        self._give("the final figures", "result", figures, result["final"]["epoch"])

    def end(self, state: str) -> None:
        self._give("the end", "end", state)

    def _give(self, what: str, method: str, *values: Any) -> None:
        for worker in self._workers:
            worker.give(what, method, *values)


@contextmanager
def tracked(
    config: Config, run: RunDirectory, environment: Mapping[str, Any], rows: Sequence[Row], stopping: Stopping
) -> Iterator[Trackers]:
    """Show the training that the block does by the trackers that are configured; `rows` were there before.

    At the end they have some seconds to deliver what they were given, unless `stopping` is to end at once.
    """
    workers = _workers(config, run.path)
    trackers = Trackers(workers)
    if workers:
        trackers.start(_told(config, run.path, environment, rows))
    state = "failed"
    try:
        yield trackers
        state = "finished"
    except (KeyboardInterrupt, SystemExit):
        state = "interrupted"
        raise
    finally:
        trackers.end(state)
        if stopping.at_once:
            for worker in workers:
                worker.give_up()
        else:
            finish(workers, log.info)


def _workers(config: Config, directory: Path) -> list[Worker]:
    """A worker for each tracker, where there is one; what is not used is not imported."""
    workers = []
    if config.tracker.tensorboard is not None:
        from cnnbench.trackers.tensorboard import Tensorboard

        log.info(f"Tracked by tensorboard: tensorboard --logdir {os.path.relpath(directory)}")
        workers.append(Worker("tensorboard", Tensorboard, _warn))
    if config.tracker.mlflow is not None:
        from cnnbench.trackers.mlflow import Mlflow, address

        uri = address(config.tracker.mlflow)
        shown = f"mlflow ui --backend-store-uri sqlite:///{STORE}/mlflow.db" if uri is None else _without_password(uri)
        log.info(f"Tracked by mlflow: {shown}")
        workers.append(Worker("mlflow", partial(Mlflow, config.tracker.mlflow, STORE), _warn))
    return workers


def _warn(text: str) -> None:
    """Log a warning, from whatever thread; what a server says may be anything, and name where it was asked."""
    with tqdm.external_write_mode():
        log.warning(printable(_without_password(text)))


def _without_password(text: str) -> str:
    """Without what stands before the host in an address."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _told(config: Config, directory: Path, environment: Mapping[str, Any], rows: Sequence[Row]) -> Told:
    sweep = {"sweep": config.sweep} if (directory.parent / JOBS).exists() else {}
    tags = {key: str(environment[key]) for key in TAGS if environment[key] is not None}
    began_at = time.time() - sum(row["epoch_s"] for row in rows)
    ended_at = accumulate((row["epoch_s"] for row in rows), initial=began_at)
    next(ended_at)
    return Told(
        directory.absolute(),
        began_at,
        dict(_flat(job_identity(as_dict(config)))),
        to_yaml(config),
        {**tags, "run_directory": str(directory.absolute()), **sweep},
        [(dict(row), at) for row, at in zip(rows, ended_at, strict=True)],
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float | str]]:
    """The keys with their dots; what is neither number nor word as JSON has it."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if type(value) in (int, float, str) else json.dumps(value)
