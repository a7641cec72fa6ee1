"""What a network makes of images, as a table, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cnnbench.analysis.format import printable

__all__ = ["Prediction", "as_csv", "as_json", "as_table"]

BLOCK = 64  # images in a table together, so that the first are seen before the last are read


@dataclass(frozen=True)
class Prediction:
    """The most probable `classes` of an image with their probabilities, or why there are none."""

    image: str
    classes: Sequence[tuple[str, float]]
    looks_inverted: bool = False
    error: str = ""


def as_table(predictions: Iterable[Prediction], names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each image that was classified; `names` are those of all classes."""
    width = max(map(len, ("class", *map(_cell, names))))
    waiting, widest, header = iter(predictions), 0, True
    while block := list(islice(waiting, BLOCK)):
        rows = [(_cell(each.image), each.classes) for each in block if each.classes]
        widest = max([widest, len("image"), *(len(image) for image, _ in rows)])
        if header and rows:
            then = "  then" if len(rows[0][1]) > 1 else ""
            yield f"{'image':<{widest}}  {'class':<{width}}  probability{then}"
            header = False
        for image, ((name, probability), *others) in rows:
            then = ", ".join(f"{_cell(other)} {theirs:.4f}" for other, theirs in others)
            yield f"{image:<{widest}}  {_cell(name):<{width}}  {probability:11.4f}  {then}".rstrip()


def _cell(text: str) -> str:
    """Return untrusted text on one line, without what could steer a terminal."""
    return printable(text).replace("\n", "?")


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield the lines of one array: an object for each image."""
    yield "["
    line = ""
    for each in predictions:
        if line:
            yield f"{line},"
        values: dict[str, object] = {"image": each.image}
        if each.classes:
            values["class"], values["probability"] = each.classes[0]
            values |= {"classes": dict(each.classes), "looks_inverted": each.looks_inverted}
        else:
            values["error"] = each.error
        line = f"  {json.dumps(values)}"
    yield line
    yield "]"


def as_csv(predictions: Iterable[Prediction], top: int) -> Iterator[str]:
    """Yield the names of the columns, then a line for each image with its `top` classes."""
    ends = ["", *(f"_{place}" for place in range(2, top + 1))]
    best = [f"{column}{end}" for end in ends for column in ("class", "probability")]
    yield _csv_line(["image", *best, "looks_inverted", "error"])
    for each in predictions:
        cells: list[str] = []
        for name, probability in each.classes:
            cells += [_cell(name), repr(probability)]
        inverted = str(each.looks_inverted).lower() if each.classes else ""
        cells = cells or [""] * len(best)
        yield _csv_line([_cell(each.image), *cells, inverted, _cell(each.error)])


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
