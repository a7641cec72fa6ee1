"""Checkpoints: what is written comes back, and nothing else does."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cnnbench.errors import CheckpointError
from cnnbench.training import checkpoint


def make_state() -> dict[str, Any]:
    """Everything that a run puts into a checkpoint: the state of a step of Adam, rows, generators."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.8, 0.9))
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 2,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generators": {"cpu": torch.get_rng_state(), "cuda": None},
        "rows": [{"epoch": 1, "train_loss": 0.5}],
        "config": {"model": {"name": "lenet", "widths": [1, 2]}, "deterministic": False},
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "scalar": torch.tensor(True),
    }


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and left.dtype == right.dtype
            and torch.equal(left, right)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(
            equal(value, right[key]) for key, value in left.items()
        )
    if isinstance(left, (list, tuple)):
        return (
            type(left) is type(right) and len(left) == len(right) and all(map(equal, left, right))
        )
    return type(left) is type(right) and bool(left == right)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    checkpoint.save(path, make_state())
    return path


def test_what_was_saved_is_loaded(saved: Path) -> None:
    assert equal(checkpoint.load(saved), make_state())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt is not there"):
        checkpoint.load(tmp_path / "none.pt")


@pytest.mark.parametrize("key", ["epoch", "model", "rows"])
def test_content_that_is_not_what_was_sealed_is_found(key: str, saved: Path) -> None:
    sealed = torch.load(saved, weights_only=True)
    changed = {
        "epoch": 3,
        "model": {"weight": torch.zeros(2, 3)},
        "rows": [{"epoch": 1, "train_loss": 0.4}],
    }
    torch.save({**sealed, key: changed[key]}, saved)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        checkpoint.load(saved)


def damages(path: Path, contents: Iterable[bytes]) -> list[str]:
    """What went wrong, where loading was to be a CheckpointError or to give what was saved."""
    expected, wrong = checkpoint.load(path), []
    for number, content in enumerate(contents):
        path.write_bytes(content)
        try:
            if not equal(checkpoint.load(path), expected):
                wrong.append(f"{number}: another content")
        except CheckpointError:
            pass
        except Exception as error:
            wrong.append(f"{number}: {error!r}")
    return wrong


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A checkpoint small enough to damage it everywhere."""
    path = tmp_path / "tiny.pt"
    checkpoint.save(
        path,
        {"epoch": 1, "model": {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}},
    )
    return path


def test_a_flipped_byte_anywhere_is_an_error_or_changes_nothing(tiny: Path) -> None:
    whole = tiny.read_bytes()
    flipped = (
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        for place in range(len(whole))
    )
    assert damages(tiny, flipped) == []


def test_a_file_cut_short_anywhere_is_an_error(tiny: Path) -> None:
    whole = tiny.read_bytes()
    assert damages(tiny, (whole[:length] for length in range(0, len(whole), 8))) == []


FORMAT = f"not a checkpoint of format {checkpoint.FORMAT}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 1}, FORMAT),
        ({"epoch": 1, "format": checkpoint.FORMAT + 1}, FORMAT),
        ([1, 2], FORMAT),
        ({"epoch": 1, "format": 2}, r"other\.pt was made by cnnbench 0\.1"),
        (b"", r"damaged .*: \w"),
    ],
    ids=repr,
)
def test_another_format_is_refused(content: object, told: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=told):
        checkpoint.load(path)


def save_both(folder: Path) -> None:
    for epoch in (1, 2):
        checkpoint.save_rotating(folder, {"epoch": epoch})


@pytest.mark.parametrize(
    ("damaged", "gone", "found"),
    [
        ((), (), (2, 0)),
        (("last.pt",), (), (1, 1)),
        ((), ("last.pt",), (1, 0)),
        ((), ("last.pt", "previous.pt"), (None, 0)),
    ],
    ids=["both", "last damaged", "last gone", "none"],
)
def test_the_newest_sound_checkpoint_is_found(
    damaged: Sequence[str], gone: Sequence[str], found: tuple[int | None, int], tmp_path: Path
) -> None:
    save_both(tmp_path)
    for name in damaged:
        (tmp_path / name).write_bytes(b"")
    for name in gone:
        (tmp_path / name).unlink()
    state, problems = checkpoint.load_newest(tmp_path)
    assert (None if state is None else state["epoch"], len(problems)) == found


def test_where_all_are_damaged_each_is_told(tmp_path: Path) -> None:
    save_both(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(
        CheckpointError, match=r"last\.pt.*\n.*previous\.pt.*\n.*Nothing was changed"
    ):
        checkpoint.load_newest(tmp_path)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)


@pytest.mark.parametrize("rotating", [False, True])
def test_a_failing_write_leaves_what_was_there_and_no_other_file(
    rotating: bool, saved: Path, full_disk: None
) -> None:
    save = (
        partial(checkpoint.save_rotating, saved.parent)
        if rotating
        else partial(checkpoint.save, saved)
    )
    with pytest.raises(OSError, match="No space"):
        save({"epoch": 3})
    assert [checkpoint.load(path)["epoch"] for path in saved.parent.iterdir()] == [2]


def test_rotation_keeps_the_one_before(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoint.save_rotating(tmp_path, {"epoch": epoch})
    kept = {path.name: checkpoint.load(path)["epoch"] for path in tmp_path.iterdir()}
    assert kept == {"last.pt": 3, "previous.pt": 2}
