"""Checkpoints are loaded as they were saved; damaged and incomplete files are refused."""

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
    """Return a state with every kind of value in a run's checkpoint."""
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


def is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and left.dtype == right.dtype
            and torch.equal(left, right)
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(
            is_equal(value, right[key]) for key, value in left.items()
        )
    if isinstance(left, (list, tuple)):
        return (
            type(left) is type(right)
            and len(left) == len(right)
            and all(map(is_equal, left, right))
        )
    return type(left) is type(right) and bool(left == right)


@pytest.fixture
def saved_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    checkpoint.save(path, make_state())
    return path


def test_load_returns_what_was_saved(saved_checkpoint: Path) -> None:
    assert is_equal(checkpoint.load_checkpoint(saved_checkpoint), make_state())


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt is not there"):
        checkpoint.load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("key", ["epoch", "model", "rows"])
def test_changed_content_does_not_match_the_checksum(key: str, saved_checkpoint: Path) -> None:
    content = torch.load(saved_checkpoint, weights_only=True)
    changes = {
        "epoch": 3,
        "model": {"weight": torch.zeros(2, 3)},
        "rows": [{"epoch": 1, "train_loss": 0.4}],
    }
    torch.save({**content, key: changes[key]}, saved_checkpoint)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        checkpoint.load_checkpoint(saved_checkpoint)


def find_undetected(path: Path, contents: Iterable[bytes]) -> list[str]:
    """Return the damaged contents that load as other values or raise no CheckpointError."""
    expected, undetected = checkpoint.load_checkpoint(path), []
    for number, content in enumerate(contents):
        path.write_bytes(content)
        try:
            if not is_equal(checkpoint.load_checkpoint(path), expected):
                undetected.append(f"{number}: other values")
        except CheckpointError:
            pass
        except Exception as error:
            undetected.append(f"{number}: {error!r}")
    return undetected


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint small enough to damage each of its bytes."""
    path = tmp_path / "tiny.pt"
    model = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}
    checkpoint.save(path, {"epoch": 1, "model": model})
    return path


def test_flipped_bit_anywhere_is_refused_or_harmless(tiny_checkpoint: Path) -> None:
    whole = tiny_checkpoint.read_bytes()
    flipped = (
        whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :]
        for index in range(len(whole))
    )
    assert find_undetected(tiny_checkpoint, flipped) == []


def test_truncated_checkpoint_is_refused(tiny_checkpoint: Path) -> None:
    whole = tiny_checkpoint.read_bytes()
    assert (
        find_undetected(tiny_checkpoint, (whole[:length] for length in range(0, len(whole), 8)))
        == []
    )


FORMAT = f"not a checkpoint of format {checkpoint.FORMAT}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1}, FORMAT),
        ({"epoch": 1, "format": checkpoint.FORMAT + 1}, FORMAT),
        ([1, 2], FORMAT),
        ({"epoch": 1, "format": 2}, r"other\.pt was made by cnnbench 0\.1"),
        (b"", r"damaged .*: \w"),
    ],
    ids=repr,
)
def test_other_format_is_refused(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_checkpoint(path)


def save_both(folder: Path) -> None:
    for epoch in (1, 2):
        checkpoint.save_rotating(folder, {"epoch": epoch})


@pytest.mark.parametrize(
    ("damaged", "missing", "expected"),
    [
        ((), (), (2, 0)),
        (("last.pt",), (), (1, 1)),
        ((), ("last.pt",), (1, 0)),
        ((), ("last.pt", "previous.pt"), (None, 0)),
    ],
    ids=["both", "last damaged", "last missing", "none"],
)
def test_load_newest_skips_damaged_and_missing_checkpoints(
    damaged: Sequence[str],
    missing: Sequence[str],
    expected: tuple[int | None, int],
    tmp_path: Path,
) -> None:
    save_both(tmp_path)
    for name in damaged:
        (tmp_path / name).write_bytes(b"")
    for name in missing:
        (tmp_path / name).unlink()
    state, problems = checkpoint.load_newest(tmp_path)
    epoch = None if state is None else state["epoch"]
    assert (epoch, len(problems)) == expected


def test_load_newest_names_all_damaged_checkpoints(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("is_rotating", [False, True])
def test_failed_write_leaves_only_the_old_checkpoint(
    is_rotating: bool, saved_checkpoint: Path, full_disk: None
) -> None:
    save = partial(checkpoint.save, saved_checkpoint)
    if is_rotating:
        save = partial(checkpoint.save_rotating, saved_checkpoint.parent)
    with pytest.raises(OSError, match="No space"):
        save({"epoch": 3})
    assert [
        checkpoint.load_checkpoint(path)["epoch"] for path in saved_checkpoint.parent.iterdir()
    ] == [2]


def test_rotation_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoint.save_rotating(tmp_path, {"epoch": epoch})
    kept = {path.name: checkpoint.load_checkpoint(path)["epoch"] for path in tmp_path.iterdir()}
    assert kept == {"last.pt": 3, "previous.pt": 2}
