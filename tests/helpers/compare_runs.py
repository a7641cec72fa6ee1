"""Whether two runs ended with the same bits."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from cnnbench.training import checkpoint

__all__ = ["find_differences"]

# what no two runs share
OWN = {"epoch_s", "examples_per_s", "peak_gib", "wall_s", "train_s", "sweep"}


def find_differences(run: Path, other: Path) -> list[str]:
    """The names of all that differs in their records and checkpoints, such as ``last.pt.model.0.weight``."""
    ours, theirs = _content(run), _content(other)
    return [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]


def _content(run: Path) -> dict[str, Any]:
    with (run / "metrics.csv").open() as file:
        content = {"metrics.csv": list(csv.DictReader(file))}
    content["result.json"] = json.loads((run / "result.json").read_text())
    for path in ((run / "checkpoints" / name) for name in ("last.pt", "best.pt")):
        content[path.name] = checkpoint.load(path) if path.exists() else None
    return dict(_flat(content, ""))


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        exact = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return [(name, (value.dtype, tuple(value.shape), exact))]
    if isinstance(value, dict):
        inner = [
            (f"{name}.{key}".lstrip("."), each) for key, each in value.items() if key not in OWN
        ]
    elif isinstance(value, list):
        inner = [(f"{name}.{index}", each) for index, each in enumerate(value)]
    else:
        return [(name, value)]
    return [pair for key, each in inner for pair in _flat(each, key)]
