"""The bit-exact comparison of two runs."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

from cnnbench.training import checkpoint

__all__ = ["find_differences"]

# keys whose values differ between any two runs
IGNORED_KEYS = {"epoch_s", "examples_per_s", "peak_gib", "wall_s", "train_s", "sweep"}


def find_differences(run: Path, other: Path) -> list[str]:
    """Return the names of values that differ in metrics, result and checkpoints of two runs.

    An example is ``last.pt.model.0.weight``.
    """
    ours, theirs = _content(run), _content(other)
    return [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]


def _content(run: Path) -> dict[str, Any]:
    with (run / "metrics.csv").open() as file:
        content = {"metrics.csv": list(csv.DictReader(file))}
    content["result.json"] = json.loads((run / "result.json").read_text())
    for path in ((run / "checkpoints" / name) for name in ("last.pt", "best.pt")):
        content[path.name] = checkpoint.load_checkpoint(path) if path.exists() else None
    return dict(_flat(content, ""))


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        exact = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return [(name, (value.dtype, tuple(value.shape), exact))]
    if isinstance(value, dict):
        kept = [key for key in value if key not in IGNORED_KEYS]
        inner = [(f"{name}.{key}".lstrip("."), value[key]) for key in kept]
    elif isinstance(value, list):
        inner = [(f"{name}.{index}", item) for index, item in enumerate(value)]
    else:
        return [(name, value)]
    return [pair for key, item in inner for pair in _flat(item, key)]
