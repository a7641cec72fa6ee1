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
from forking import ForkServer
from small_runs import Runs, State, forge, refused

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
    torch.save({**checkpoint.load(path), "format": checkpoint.FORMAT, "more": Evil(tmp_path / "evil")}, path)
    code, words = refused(forks, run)
    assert (code, (tmp_path / "evil").exists()) == (5, False), words


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(64 << 20))


def packed(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save({"content": content, "format": checkpoint.FORMAT, "sha256": ""}, path)


def pickled(content: bytes) -> Callable[[Path], None]:
    """An archive as PyTorch writes it, with a pickle of one's own."""

    def write(path: Path) -> None:
        torch.save({}, packed := io.BytesIO())
        with zipfile.ZipFile(packed) as theirs, zipfile.ZipFile(path, "w") as archive:
            for part in theirs.infolist():
                archive.writestr(part, content if part.filename.endswith("/data.pkl") else theirs.read(part))

    return write


def doubled(times: int) -> list[Any]:
    """A list of 2 ** `times` values that takes the memory of `times` lists."""
    values: list[Any] = [0]
    for _ in range(times):
        values = [values, values]
    return values


def endless() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


BOMBS = {
    "compressed": (compressed, "it is compressed"),
    "terabytes by a stride of 0": (packed(torch.zeros(1).expand(1 << 40)), "values are larger than the file"),
    "lists that are shared": (packed(doubled(60)), "values are larger than the file"),
    "a list that holds itself": (packed(endless()), "values are larger than the file"),
    "lists in lists": (pickled(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "last.pt is"),
    "a number of many digits": (packed(1 << 100_000), "last.pt is"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_checkpoint_that_grows_as_it_is_read_is_refused(bomb: str, forks: ForkServer, run: Path) -> None:
    write, told = BOMBS[bomb]
    write(run / "checkpoints" / "last.pt")
    code, words = refused(forks, run)
    assert (code, told in words) == (5, True), words


def row(**values: Any) -> Callable[[State], None]:
    return lambda state: state["rows"][-1].update(values)


def top(**values: Any) -> Callable[[State], None]:
    return lambda state: state.update(values)


def without(key: str) -> Callable[[State], None]:
    return lambda state: state.pop(key)


def measured_elsewhere(row: State) -> State:
    return {key.replace("validation", "test"): value for key, value in row.items()}


def reshape_momentum(state: State) -> None:
    state["optimizers"][0][0]["momentum_buffer"] = torch.zeros(3, 5)


def rename_momentum(state: State) -> None:
    state["optimizers"][0][0] = {"momentum": torch.zeros(3)}


ABSURD: dict[str, Callable[[State], None]] = {
    "step negative": top(step=-1),
    "step huge": top(step=10**30),
    "step beyond the epoch": top(step=5),
    "step not that of the examples": top(step=3),
    "step in words": top(step="two"),
    "step NaN": top(step=math.nan),
    "step is a list": top(step=[1]),
    "examples negative": top(examples=-16),
    "examples huge": top(examples=10**30),
    "rows no list": top(rows=7),
    "rows of no dict": top(rows=[7]),
    "rows empty dict": top(rows=[{}]),
    "rows missing": without("rows"),
    "rows from 2 on": row(epoch=2),
    "rows epoch NaN": row(epoch=math.nan),
    "rows loss in words": row(train_loss="low"),
    "rows loss missing": lambda state: state["rows"][-1].pop("train_loss"),
    "rows other columns": row(evil=1.0),
    "rows of the test set": lambda state: state["rows"].__setitem__(0, measured_elsewhere(state["rows"][0])),
    "rows accuracy NaN": row(validation_accuracy=math.nan),
    "train_s negative": top(train_s=-1e9),
    "train_s NaN": top(train_s=math.nan),
    "wall_s in words": top(wall_s={"train": "long"}),
    "wall_s negative": top(wall_s={"train": -1e9}),
    "wall_s endless": top(wall_s={"train": math.inf}),
    "config missing": without("config"),
    "config a list": top(config=[1]),
    "config empty": top(config={}),
    "model missing": without("model"),
    "model of another shape": lambda state: state["model"].update({next(iter(state["model"])): torch.zeros(3)}),
    "model no tensors": lambda state: state.update(model=dict.fromkeys(state["model"], 1)),
    "sums of another shape": top(sums=torch.zeros(7)),
    "momentum of another shape": reshape_momentum,
    "momentum by another name": rename_momentum,
    "generator too short": lambda state: state["generators"].update(cpu=torch.zeros(3, dtype=torch.uint8)),
}


@pytest.mark.parametrize("absurd", ABSURD)
def test_a_checkpoint_with_a_checksum_and_absurd_values_is_refused(absurd: str, forks: ForkServer, run: Path) -> None:
    forge(run / "checkpoints" / "last.pt", ABSURD[absurd])
    code, words = refused(forks, run, "train.epochs=3")
    assert code == (2 if absurd == "config empty" else 5), words


ABSURD_BEST: dict[str, Callable[[State], Any]] = {
    "row missing": without("row"),
    "row in words": top(row="best"),
    "accuracy in words": lambda state: state["row"].update(validation_accuracy="high"),
    "accuracy NaN": lambda state: state["row"].update(validation_accuracy=math.nan),
    "model of another shape": ABSURD["model of another shape"],
    "model missing": without("model"),
}


@pytest.mark.parametrize("absurd", ABSURD_BEST)
def test_a_best_checkpoint_with_a_checksum_and_absurd_values_is_refused(
    absurd: str, forks: ForkServer, run: Path
) -> None:
    forge(run / "checkpoints" / "best.pt", ABSURD_BEST[absurd])
    code, words = refused(forks, run)
    assert code == 5, words
