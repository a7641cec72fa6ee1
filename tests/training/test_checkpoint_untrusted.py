"""Untrusted checkpoints run no code, take no memory, and are refused without a traceback."""

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
from helpers.small_runs import State, resume_refused, rewrite_checkpoint

from cnnbench.training import checkpoint


class MakesFolder:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_checkpoint_with_code_is_refused_without_running_it(
    name: str, forks: ForkServer, last_chance_run: Path, tmp_path: Path
) -> None:
    path = last_chance_run / "checkpoints" / name
    hostile = {"format": checkpoint.FORMAT, "more": MakesFolder(tmp_path / "evil")}
    torch.save({**checkpoint.load_checkpoint(path), **hostile}, path)
    code, output = resume_refused(forks, last_chance_run)
    assert code == 5, output
    assert f"{name} is refused: it holds more than tensors and plain values" in output
    assert not (tmp_path / "evil").exists()


def write_compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(64 << 20))


def save_content(content: Any) -> Callable[[Path], None]:
    state = {"content": content, "format": checkpoint.FORMAT, "sha256": ""}
    return lambda path: torch.save(state, path)


def save_pickle(content: bytes) -> Callable[[Path], None]:
    """Return a function that writes an archive as PyTorch does, but with this pickle."""

    def write(path: Path) -> None:
        saved = io.BytesIO()
        torch.save({}, saved)
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
            for part in source.infolist():
                is_pickle = part.filename.endswith("/data.pkl")
                target.writestr(part, content if is_pickle else source.read(part))

    return write


doubled: list[Any] = [0]  # 2 ** 60 values in the memory of 60 lists
for _ in range(60):
    doubled = [doubled, doubled]
endless: list[Any] = []
endless.append(endless)

LARGER = "values are larger than the file"
BOMBS = {
    "compressed": (write_compressed, "it is compressed"),
    "terabytes by a stride of 0": (save_content(torch.zeros(1).expand(1 << 40)), LARGER),
    "shared lists": (save_content(doubled), LARGER),
    "a list that contains itself": (save_content(endless), LARGER),
    "deeply nested lists": (
        save_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        "last.pt is",
    ),
    "a number of many digits": (save_content(1 << 100_000), "last.pt is"),
}


@pytest.mark.parametrize(("write", "message"), BOMBS.values(), ids=BOMBS)
def test_checkpoint_that_expands_in_memory_is_refused(
    write: Callable[[Path], None], message: str, forks: ForkServer, last_chance_run: Path
) -> None:
    write(last_chance_run / "checkpoints" / "last.pt")
    code, output = resume_refused(forks, last_chance_run)
    assert (code, message in output) == (5, True), output


def set_row(**values: Any) -> Callable[[State], None]:
    """Return a change of the last row of last.pt, or of the row of best.pt."""

    def change(state: State) -> None:
        row = state["rows"][-1] if "rows" in state else state["row"]
        row.update(values)

    return change


def set_values(**values: Any) -> Callable[[State], None]:
    return lambda state: state.update(values)


def remove_key(key: str) -> Callable[[State], None]:
    return lambda state: state.pop(key)


def rename_validation_columns(state: State) -> None:
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


INVALID: dict[str, tuple[str, Callable[[State], Any]]] = {
    "step negative": ("last", set_values(step=-1)),
    "step beyond the epoch": ("last", set_values(step=5)),
    "step does not match the examples": ("last", set_values(step=3)),
    "step not a number": ("last", set_values(step="two")),
    "examples not a number": ("last", set_values(examples="many")),
    "examples huge": ("last", set_values(examples=10**30)),
    "rows not a list": ("last", set_values(rows=7)),
    "row not a dict": ("last", set_values(rows=[7])),
    "rows begin with epoch 2": ("last", set_row(epoch=2)),
    "loss not a number": ("last", set_row(train_loss="low")),
    "accuracy NaN": ("last", set_row(validation_accuracy=math.nan)),
    "unknown column": ("last", set_row(evil=1.0)),
    "columns of the test set": ("last", rename_validation_columns),
    "train_s negative": ("last", set_values(train_s=-1e9)),
    "train_s zero": ("last", set_values(train_s=0.0)),
    "wall_s not a dict": ("last", set_values(wall_s=7)),
    "wall_s infinite": ("last", set_values(wall_s={"train": math.inf})),
    "config missing": ("last", remove_key("config")),
    "model missing": ("last", remove_key("model")),
    "model of another shape": ("last", reshape_weight),
    "sums of another shape": ("last", set_values(sums=torch.zeros(7))),
    "momentum of another shape": ("last", reshape_momentum),
    "momentum by another name": ("last", rename_momentum),
    "generator too short": ("last", shorten_generator),
    "best: row missing": ("best", remove_key("row")),
    "best: row not a dict": ("best", set_values(row="best")),
    "best: accuracy NaN": ("best", set_row(validation_accuracy=math.nan)),
    "best: model of another shape": ("best", reshape_weight),
}


@pytest.mark.parametrize(("name", "change"), INVALID.values(), ids=INVALID)
def test_checkpoint_with_checksum_and_invalid_values_is_refused(
    name: str, change: Callable[[State], Any], forks: ForkServer, last_chance_run: Path
) -> None:
    rewrite_checkpoint(last_chance_run / "checkpoints" / f"{name}.pt", change)
    code, output = resume_refused(forks, last_chance_run, "train.epochs=3")
    assert code == 5, output


def test_checkpoint_with_empty_configuration_is_refused(
    forks: ForkServer, last_chance_run: Path
) -> None:
    rewrite_checkpoint(last_chance_run / "checkpoints" / "last.pt", set_values(config={}))
    code, output = resume_refused(forks, last_chance_run)
    assert (code, "has no value" in output) == (2, True), output
