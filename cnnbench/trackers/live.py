"""A live display of a run in a notebook: a progress bar and the curves, which grow in place.

IPython.display shows them without widgets, so that Jupyter, Colab and VS Code need nothing else.
"""

import base64
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cnnbench.trackers.base import Row, Rows, Tracker, live_client
from cnnbench.trackers.curves import Curves

__all__ = ["Client", "Screen", "is_notebook", "show_live"]

SIZE = {"width": 825, "height": 285}  # CSS pixels: half of those that `write_curves` draws


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook; do not import IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


@contextmanager
def show_live(resume_command: str) -> Iterator[None]:
    """Show the run of the block below the cell of a notebook; elsewhere show nothing.

    `resume_command` is shown if the run is interrupted.
    """
    if not is_notebook():
        yield
        return
    screen = Screen(sys.stderr, resume_command)
    token = live_client.set(partial(Client, screen))
    try:
        with redirect_stderr(screen):
            yield
    finally:
        live_client.reset(token)


class Screen(io.StringIO):
    """A line of text with a picture below, both replaced in place; as sys.stderr, a terminal.

    A progress bar that is written to it becomes the line. All else is passed on to `stderr`.
    """

    encoding = "utf-8"  # tqdm draws smooth bars then

    def __init__(self, stderr: Any, resume_command: str) -> None:
        super().__init__()
        self.stderr = stderr
        self.resume_command = resume_command
        self.handles: dict[str, Any] = {}

    def isatty(self) -> bool:
        return True  # otherwise tqdm shows no bar

    def write(self, text: str) -> int:
        if not text.startswith("\r"):
            return int(self.stderr.write(text))
        if text.strip():  # tqdm removes a bar by spaces
            with suppress(Exception):  # the run continues without a display
                self.show_line(text.strip())
        return len(text)

    def flush(self) -> None:
        self.stderr.flush()

    def show_line(self, text: str) -> None:
        self._show("line", {"text/plain": text})

    def show_picture(self, png: bytes) -> None:
        data = {"image/png": base64.b64encode(png).decode(), "text/plain": "curves of the run"}
        self._show("picture", data, metadata={"image/png": SIZE})

    def _show(self, place: str, data: dict[str, str], **options: Any) -> None:
        import IPython.display

        display: Any = IPython.display.display
        if place in self.handles:
            self.handles[place].update(data, raw=True, **options)
        else:
            self.handles[place] = display(data, raw=True, display_id=True, **options)


class _ScreenCurves(Curves):
    """The picture of a run, kept on a screen in place of a file."""

    def __init__(self, screen: Screen, path: Path, title: str, select_by: str) -> None:
        super().__init__(path, title, select_by)
        self.screen = screen

    def keep(self, write: Callable[[BinaryIO], None], sync: bool) -> None:
        file = io.BytesIO()
        write(file)
        self.screen.show_picture(file.getvalue())


@dataclass
class Client(Tracker):
    """The display of a run. `config` is its screen."""

    config: Screen

    def __post_init__(self) -> None:
        model, data, size = map(self.parameters.get, ("model.name", "data.name", "data.resize"))
        title = f"{model} on {data}, {size} px"
        self.rows = [row for row, _ in self.history]
        self.steps = [row for row, _ in self.step_history]
        path, select_by = self.directory / "curves.png", str(self.parameters["train.select_by"])
        self.curves = _ScreenCurves(self.config, path, title, select_by)

    def start(self) -> str:
        return ""

    def log_rows(self, rows: Rows) -> None:
        self.rows += [row for row, _ in rows]
        self.curves.update(self.rows, self.steps)

    def log_steps(self, rows: Rows) -> None:
        self.steps += [row for row, _ in rows]
        self.curves.update(self.rows, self.steps)

    def log_result(self, figures: Row, last_row: Row) -> None:
        accuracy = figures["test_accuracy"]
        self.curves.draw(self.rows, accuracy, steps=self.steps)
        self.config.show_line(f"Finished: test accuracy {accuracy:.4f}")

    def end(self, state: str) -> None:
        if state == "finished":
            return
        self.curves.draw(self.rows, steps=self.steps)
        epochs = f"{len(self.rows)} of {self.parameters['train.epochs']} epochs"
        line = f"Failed after {epochs}."
        if state == "interrupted":
            line = f"Stopped after {epochs}. To resume: {self.config.resume_command}"
        self.config.show_line(line)
