"""The predictions of a network, as a table, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cnnbench.analysis.format import printable

__all__ = ["Prediction", "as_csv", "as_json", "as_table"]

BLOCK = 64  # rows that are aligned together: the first are shown before the last images are read


@dataclass(frozen=True)
class Prediction:
    """The most probable `classes` of an image with their probabilities, or an `error`."""

    image: str
    classes: Sequence[tuple[str, float]]
    looks_inverted: bool = False
    error: str = ""


def as_table(predictions: Iterable[Prediction], names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each image that was classified; `names` has the names of all classes."""
    width = max(map(len, ("class", *map(_cell, names))))
    waiting, widest, header = iter(predictions), 0, True
    while block := list(islice(waiting, BLOCK)):
        classified = [prediction for prediction in block if prediction.classes]
        rows = [(_cell(prediction.image), prediction.classes) for prediction in classified]
        widest = max([widest, len("image"), *(len(image) for image, _ in rows)])
        if header and rows:
            then = "  then" if len(rows[0][1]) > 1 else ""
            yield f"{'image':<{widest}}  {'class':<{width}}  probability{then}"
            header = False
        for image, ((name, probability), *others) in rows:
            then = ", ".join(f"{_cell(other)} {share:.4f}" for other, share in others)
            yield f"{image:<{widest}}  {_cell(name):<{width}}  {probability:11.4f}  {then}".rstrip()


def _cell(text: str) -> str:
    """Return untrusted text on one line, without characters that control a terminal."""
    return printable(text).replace("\n", "?")


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield the lines of one array with an object for each image."""
    yield "["
    line = ""
    for prediction in predictions:
        if line:
            yield f"{line},"
        values: dict[str, object] = {"image": prediction.image}
        if prediction.classes:
            values["class"], values["probability"] = prediction.classes[0]
            values["classes"] = dict(prediction.classes)
            values["looks_inverted"] = prediction.looks_inverted
        else:
            values["error"] = prediction.error
        line = f"  {json.dumps(values)}"
    yield line
    yield "]"


def as_csv(predictions: Iterable[Prediction], top: int) -> Iterator[str]:
    """Yield the header, then a line for each image with its `top` classes."""
    ends = ["", *(f"_{place}" for place in range(2, top + 1))]
    best = [f"{column}{end}" for end in ends for column in ("class", "probability")]
    yield _csv_line(["image", *best, "looks_inverted", "error"])
    for prediction in predictions:
        cells: list[str] = []
        for name, probability in prediction.classes:
            cells += [_cell(name), repr(probability)]
        inverted = str(prediction.looks_inverted).lower() if prediction.classes else ""
        cells = cells or [""] * len(best)
        image, error = _cell(prediction.image), _cell(prediction.error)
        yield _csv_line([image, *cells, inverted, error])


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
