"""TensorBoard: an event file in the run directory, by PyTorch's SummaryWriter."""

import os
import threading
from textwrap import indent
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.config import join_words
from cnnbench.trackers.base import Row, Rows, Tracker

__all__ = ["Client", "make_tag"]

report_thread_error = threading.excepthook


def make_tag(column: str) -> str:
    """Return the tag of a column of metrics.csv. TensorBoard groups tags by their prefix."""
    part, _, quantity = column.partition("_")
    return f"{quantity}/{part}" if quantity in ("loss", "accuracy") else column


class Client(Tracker):
    """The writer of an event file. Each epoch is written at once."""

    writer: Any

    def start(self) -> str:
        """Begin an event file. In a resumed run it has all epochs and replaces earlier files."""
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = except_writer
        self.writer = SummaryWriter(str(self.directory / "tensorboard"), purge_step=0)
        configuration = (self.directory / "config.yaml").read_text(encoding="utf-8")
        self.writer.add_text("configuration", indent(configuration, "    "), len(self.history))
        self.log_rows(self.history)
        self.log_steps(self.step_history)
        return join_words(["tensorboard", "--logdir", os.path.relpath(self.directory)])

    def log_rows(self, rows: Rows) -> None:
        for row, ended_at in rows:
            for column in row.keys() - {"epoch"}:
                self.writer.add_scalar(make_tag(column), row[column], int(row["epoch"]), ended_at)
        self.writer.flush()

    def log_steps(self, rows: Rows) -> None:
        for row, ended_at in rows:
            for column in row.keys() - {"step", "epoch"}:
                tag = f"steps/{column}"
                self.writer.add_scalar(tag, row[column], int(row["step"]), ended_at)
        self.writer.flush()

    def log_result(self, figures: Row, last_row: Row) -> None:
        step = int(last_row["epoch"])
        with Image.open(self.directory / "curves.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image("curves", pixels, step, dataformats="HWC")
        self.writer.flush()
        final = {f"final/{name}": value for name, value in figures.items()}
        # run_name: a second file in the same folder, which TensorBoard reads after the first
        self.writer.add_hparams(dict(self.parameters), final, run_name=".", global_step=step)

    def end(self, state: str) -> None:
        self.writer.close()


def except_writer(args: threading.ExceptHookArgs) -> None:
    """Report the error of a thread, unless SummaryWriter raises it again where it is called."""
    if type(args.thread).__module__ != "tensorboard.summary.writer.event_file_writer":
        report_thread_error(args)
