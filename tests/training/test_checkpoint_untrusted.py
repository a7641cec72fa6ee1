"""Checkpoints made to harm: they run no code, take no memory, and are refused in plain words."""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fork_server import ForkServer
from helpers.small_runs import Runs, State, resume_refused, rewrite_checkpoint

from cnnbench.training import checkpoint


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.last_chance(tmp_path / "run")


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(
    name: str, forks: ForkServer, run: Path, tmp_path: Path
) -> None:
    path = run / "checkpoints" / name
    evil = {"format": checkpoint.FORMAT, "more": Evil(tmp_path / "evil")}
    torch.save({**checkpoint.load(path), **evil}, path)
    code, words = resume_refused(forks, run)
    told = f"{name} is refused: it holds more than tensors and plain values"
    assert (code, told in words, (tmp_path / "evil").exists()) == (5, True, False), words


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(64 << 20))


def packed(content: Any) -> Callable[[Path], None]:
    sealed = {"content": content, "format": checkpoint.FORMAT, "sha256": ""}
    return lambda path: torch.save(sealed, path)


def pickled(content: bytes) -> Callable[[Path], None]:
    """Return what writes an archive as PyTorch does, with this pickle in place of its own."""

    def write(path: Path) -> None:
        torch.save({}, packed := io.BytesIO())
        with zipfile.ZipFile(packed) as theirs, zipfile.ZipFile(path, "w") as archive:
            for part in theirs.infolist():
                is_pickle = part.filename.endswith("/data.pkl")
                archive.writestr(part, content if is_pickle else theirs.read(part))

    return write


doubled: list[Any] = [0]  # 2 ** 60 values in the memory of 60 lists
for _ in range(60):
    doubled = [doubled, doubled]
endless: list[Any] = []
endless.append(endless)

LARGER = "values are larger than the file"
BOMBS = {
    "compressed": (compressed, "it is compressed"),
    "terabytes by a stride of 0": (packed(torch.zeros(1).expand(1 << 40)), LARGER),
    "lists that are shared": (packed(doubled), LARGER),
    "a list that holds itself": (packed(endless), LARGER),
    "lists in lists": (pickled(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "last.pt is"),
    "a number of many digits": (packed(1 << 100_000), "last.pt is"),
}


@pytest.mark.parametrize(("write", "told"), BOMBS.values(), ids=BOMBS)
def test_a_checkpoint_that_grows_as_it_is_read_is_refused(
    write: Callable[[Path], None], told: str, forks: ForkServer, run: Path
) -> None:
    write(run / "checkpoints" / "last.pt")
    code, words = resume_refused(forks, run)
    assert (code, told in words) == (5, True), words


def row(**values: Any) -> Callable[[State], None]:
    return lambda state: (state["rows"][-1] if "rows" in state else state["row"]).update(values)


def top(**values: Any) -> Callable[[State], None]:
    return lambda state: state.update(values)


def without(key: str) -> Callable[[State], None]:
    return lambda state: state.pop(key)


def measure_elsewhere(state: State) -> None:
    first = state["rows"][0]
    state["rows"][0] = {key.replace("validation", "test"): first[key] for key in first}


def reshape_weight(state: State) -> None:
    state["model"][next(iter(state["model"]))] = torch.zeros(3)


def reshape_momentum(state: State) -> None:
    state["optimizers"][0][0]["momentum_buffer"] = torch.zeros(3, 5)


def rename_momentum(state: State) -> None:
    state["optimizers"][0][0] = {"momentum": torch.zeros(3)}


def shorten_generator(state: State) -> None:
    state["generators"]["cpu"] = torch.zeros(3, dtype=torch.uint8)


ABSURD: dict[str, tuple[str, Callable[[State], Any]]] = {
    "step negative": ("last", top(step=-1)),
    "step beyond the epoch": ("last", top(step=5)),
    "step not that of the examples": ("last", top(step=3)),
    "step in words": ("last", top(step="two")),
    "examples in words": ("last", top(examples="many")),
    "examples huge": ("last", top(examples=10**30)),
    "rows no list": ("last", top(rows=7)),
    "rows of no dict": ("last", top(rows=[7])),
    "rows from 2 on": ("last", row(epoch=2)),
    "rows loss in words": ("last", row(train_loss="low")),
    "rows accuracy NaN": ("last", row(validation_accuracy=math.nan)),
    "rows other columns": ("last", row(evil=1.0)),
    "rows of the test set": ("last", measure_elsewhere),
    "train_s negative": ("last", top(train_s=-1e9)),
    "train_s none": ("last", top(train_s=0.0)),
    "wall_s no dict": ("last", top(wall_s=7)),
    "wall_s endless": ("last", top(wall_s={"train": math.inf})),
    "config missing": ("last", without("config")),
    "model missing": ("last", without("model")),
    "model of another shape": ("last", reshape_weight),
    "sums of another shape": ("last", top(sums=torch.zeros(7))),
    "momentum of another shape": ("last", reshape_momentum),
    "momentum by another name": ("last", rename_momentum),
    "generator too short": ("last", shorten_generator),
    "best: row missing": ("best", without("row")),
    "best: row in words": ("best", top(row="best")),
    "best: accuracy NaN": ("best", row(validation_accuracy=math.nan)),
    "best: model of another shape": ("best", reshape_weight),
}


@pytest.mark.parametrize(("name", "change"), ABSURD.values(), ids=ABSURD)
def test_a_checkpoint_with_a_checksum_and_absurd_values_is_refused(
    name: str, change: Callable[[State], Any], forks: ForkServer, run: Path
) -> None:
    rewrite_checkpoint(run / "checkpoints" / f"{name}.pt", change)
    code, words = resume_refused(forks, run, "train.epochs=3")
    assert code == 5, words


def test_a_checkpoint_with_an_empty_configuration_is_refused(forks: ForkServer, run: Path) -> None:
    rewrite_checkpoint(run / "checkpoints" / "last.pt", top(config={}))
    code, words = resume_refused(forks, run)
    assert (code, "has no value" in words) == (2, True), words
