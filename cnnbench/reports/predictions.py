"""What a network makes of images, as a table, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cnnbench.analysis.format import printable

__all__ = ["Prediction", "as_csv", "as_json", "as_table"]

BLOCK = 64  # images that are set in a table together, so that the first are seen before the last are read


@dataclass(frozen=True)
class Prediction:
    """The most probable `classes` of an image with their probabilities, best first, or why there are none."""

    image: str
    classes: Sequence[tuple[str, float]]
    looks_inverted: bool = False
    error: str = ""


def as_table(predictions: Iterable[Prediction], names: Sequence[str]) -> Iterator[str]:
    """Lines: a row for each image that was classified; `names` are those of all classes."""
    width = max(map(len, ("class", *map(_cell, names))))
    waiting, widest, header = iter(predictions), 0, True
    while block := list(islice(waiting, BLOCK)):
        rows = [(_cell(each.image), each.classes) for each in block if each.classes]
        widest = max([widest, len("image"), *(len(image) for image, _ in rows)])
        if header and rows:
            yield f"{'image':<{widest}}  {'class':<{width}}  probability" + ("  then" if len(rows[0][1]) > 1 else "")
            header = False
        for image, ((name, probability), *others) in rows:
            then = ", ".join(f"{_cell(other)} {theirs:.4f}" for other, theirs in others)
            yield f"{image:<{widest}}  {_cell(name):<{width}}  {probability:11.4f}  {then}".rstrip()


def _cell(text: str) -> str:
    """On one line, without what could steer a terminal: it may come from anyone's run directory or file name."""
    return printable(text).replace("\n", "?")


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Lines of one array: an object for each image."""
    yield "["
    line = ""
    for each in predictions:
        if line:
            yield f"{line},"
        line = f"  {json.dumps(_as_object(each))}"
    yield line
    yield "]"


def _as_object(prediction: Prediction) -> dict[str, object]:
    if not prediction.classes:
        return {"image": prediction.image, "error": prediction.error}
    name, probability = prediction.classes[0]
    return {
        "image": prediction.image,
        "class": name,
        "probability": probability,
        "classes": dict(prediction.classes),
        "looks_inverted": prediction.looks_inverted,
    }


def as_csv(predictions: Iterable[Prediction], top: int) -> Iterator[str]:
    """Lines: the names of the columns, then a row for each image with its `top` classes."""
    ends = ["", *(f"_{place}" for place in range(2, top + 1))]
    best = [f"{column}{end}" for end in ends for column in ("class", "probability")]
    yield _csv_line(["image", *best, "looks_inverted", "error"])
    for each in predictions:
        cells = [cell for name, probability in each.classes for cell in (_cell(name), repr(probability))]
        inverted = str(each.looks_inverted).lower() if each.classes else ""
        yield _csv_line(
            [_cell(each.image), *(cells or [""] * len(best)), inverted, _cell(each.error)],
        )


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
