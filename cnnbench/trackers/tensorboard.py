"""TensorBoard: an event file in the run directory, as its SummaryWriter writes it, but without a thread of its own.

| tab | what |
| --- | --- |
| scalars | `loss/train`, `loss/validation`, `accuracy/train`, ... as in metrics.csv, by epoch; `final/...` at the end |
| images | `curves`: curves.png, at the end |
| text | `configuration` |
| hparams | the configuration and the final figures, of runs that are finished |

SummaryWriter's thread prints a traceback of its own when the disk is full, and imports TensorFlow where that is
installed. Numbers are single precision, TensorBoard's own.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnbench.trackers.worker import Row, Told

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

__all__ = ["Tensorboard", "tag_of"]

FOLDER = "tensorboard"


def tag_of(column: str) -> str:
    """The name of a column of metrics.csv here, where what stands before a slash is shown together."""
    part, _, quantity = column.partition("_")
    return f"{quantity}/{part}" if quantity in ("loss", "accuracy") else column


class Tensorboard:
    """Writes what it is given at once."""

    def __init__(self) -> None:
        self._records: RecordWriter | None = None

    def start(self, told: Told) -> None:
        """Begin a file. Of a run that goes on it has everything again, in place of what is in earlier ones."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        self._event: Any = Event
        self._summary: Any = summary
        self._told = told
        folder = told.directory / FOLDER
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"  # read in this order
        self._records = RecordWriter((folder / name).open("xb"))
        self._write(step=0, file_version="brain.Event:2")
        self._write(step=0, session_log=SessionLog(status=SessionLog.START))  # void is what has this step, or a later
        indented = "".join(f"    {line}\n" for line in told.configuration.splitlines())  # as Markdown has code
        self._write(step=len(told.rows), summary=self._summary.text("configuration", indented))
        for row, ended_at in told.rows:
            self._add_row(row, ended_at)
        self._flush()

    def epoch(self, row: Row, ended_at: float) -> None:
        self._add_row(row, ended_at)
        self._flush()

    def result(self, figures: Mapping[str, float], epoch: int) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(self._told.directory / "curves.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._write(step=epoch, summary=self._summary.image("curves", pixels, dataformats="HWC"))
        final = {f"final/{name}": value for name, value in figures.items()}
        for each in self._summary.hparams(dict(self._told.parameters), final):
            self._write(step=epoch, summary=each)
        for name, value in final.items():
            self._write(step=epoch, summary=self._summary.scalar(name, value))
        self._flush()

    def end(self, state: str) -> None:
        """All is written, and there is no place for how it ended."""

    def close(self) -> None:
        if self._records is not None:
            self._records.close()

    def abandon(self) -> None:
        """A disk that does not answer cannot be broken off."""

    def _add_row(self, row: Row, ended_at: float) -> None:
        for column, value in row.items():
            if column != "epoch":
                summary = self._summary.scalar(tag_of(column), value)
                self._write(step=int(row["epoch"]), summary=summary, wall_time=ended_at)

    def _write(self, **values: Any) -> None:
        assert self._records is not None
        self._records.write(self._event(**{"wall_time": time.time(), **values}).SerializeToString())

    def _flush(self) -> None:
        assert self._records is not None
        self._records.flush()
