"""Checkpoints: what is written comes back, and nothing else does."""

import os
import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

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
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(equal, left, right))
    return type(left) is type(right) and bool(left == right)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    checkpoint.save(path, make_state())
    return path


def test_what_was_saved_is_loaded(saved: Path) -> None:
    assert equal(checkpoint.load(saved), make_state())


def test_a_checkpoint_needs_no_code_to_be_read(saved: Path) -> None:
    assert torch.load(saved, weights_only=True)["epoch"] == 2


def test_saving_again_replaces(saved: Path) -> None:
    checkpoint.save(saved, {"epoch": 3})
    assert checkpoint.load(saved) == {"epoch": 3}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt is not there"):
        checkpoint.load(tmp_path / "none.pt")


def test_a_flipped_byte_of_a_tensor_is_found(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    weight = make_state()["model"]["weight"]
    content[content.index(weight.numpy().tobytes())] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(saved)


@pytest.mark.parametrize("key", ["epoch", "model", "rows"])
def test_content_that_is_not_what_was_sealed_is_found(key: str, saved: Path) -> None:
    sealed = torch.load(saved, weights_only=True)
    changed = {"epoch": 3, "model": {"weight": torch.zeros(2, 3)}, "rows": [{"epoch": 1, "train_loss": 0.4}]}
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
    checkpoint.save(path, {"epoch": 1, "model": {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}})
    return path


def test_a_flipped_byte_anywhere_is_an_error_or_changes_nothing(tiny: Path) -> None:
    whole = tiny.read_bytes()
    flipped = (whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole)))
    assert damages(tiny, flipped) == []


def test_a_file_cut_short_anywhere_is_an_error(tiny: Path) -> None:
    whole = tiny.read_bytes()
    assert damages(tiny, (whole[:length] for length in range(0, len(whole), 8))) == []


def test_an_empty_file_is_damaged_for_a_reason(tiny: Path) -> None:
    tiny.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"damaged .*: \w"):
        checkpoint.load(tiny)


@pytest.mark.parametrize(
    "content", [{"epoch": 1}, {"epoch": 1, "format": checkpoint.FORMAT + 1}, [1, 2], torch.zeros(2)], ids=repr
)
def test_another_format_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=f"not a checkpoint of format {checkpoint.FORMAT}"):
        checkpoint.load(tmp_path / "other.pt")


def test_a_checkpoint_of_version_0_1_is_refused_by_that_name(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "format": 2}, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"old\.pt was made by cnnbench 0\.1"):
        checkpoint.load(tmp_path / "old.pt")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [torch.save, pickle.dump], ids=["torch.save", "pickle.dump"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    dump: Callable[[object, BinaryIO], None], tmp_path: Path
) -> None:
    trap = Trap(tmp_path / "it_ran")
    with (tmp_path / "trap.pt").open("wb") as file:
        dump({"format": checkpoint.FORMAT, "sha256": "", "model": trap}, file)
    with pytest.raises(CheckpointError, match=r"trap\.pt"):
        checkpoint.load(tmp_path / "trap.pt")
    assert not trap.path.exists()


def test_a_compressed_archive_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        parts = [(part.filename, archive.read(part)) for part in archive.infolist()]
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="it is compressed"):
        checkpoint.load(saved)


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    endless = torch.zeros(1).expand(2**40)
    torch.save({"format": checkpoint.FORMAT, "sha256": "", "model": {"weight": [endless]}}, tmp_path / "endless.pt")
    with pytest.raises(CheckpointError, match="its values are larger than the file"):
        checkpoint.load(tmp_path / "endless.pt")


def save_both(folder: Path) -> None:
    for epoch in (1, 2):
        checkpoint.save_rotating(folder, {"epoch": epoch})


def newest(folder: Path) -> tuple[int | None, int]:
    """The epoch of the newest checkpoint, and how many problems there were."""
    state, problems = checkpoint.load_newest(folder)
    return None if state is None else state["epoch"], len(problems)


def test_the_newest_is_the_last(tmp_path: Path) -> None:
    save_both(tmp_path)
    assert newest(tmp_path) == (2, 0)


def test_where_the_last_is_damaged_the_newest_is_the_one_before_and_that_is_told(tmp_path: Path) -> None:
    save_both(tmp_path)
    (tmp_path / "last.pt").write_bytes(b"")
    assert newest(tmp_path) == (1, 1)


def test_where_the_last_is_not_there_the_newest_is_the_one_before(tmp_path: Path) -> None:
    save_both(tmp_path)
    (tmp_path / "last.pt").unlink()
    assert newest(tmp_path) == (1, 0)


def test_where_all_are_damaged_each_is_told(tmp_path: Path) -> None:
    save_both(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"last\.pt.*\n.*previous\.pt.*\n.*Nothing was changed"):
        checkpoint.load_newest(tmp_path)


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, 0)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)


def test_a_failing_write_leaves_what_was_there(saved: Path, full_disk: None) -> None:
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, {"epoch": 3})
    assert checkpoint.load(saved)["epoch"] == 2


def test_a_failing_write_leaves_no_other_file(saved: Path, full_disk: None) -> None:
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(saved, {"epoch": 3})
    assert list(saved.parent.iterdir()) == [saved]


def test_rotation_keeps_the_one_before(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoint.save_rotating(tmp_path, {"epoch": epoch})
    kept = {path.name: checkpoint.load(path)["epoch"] for path in tmp_path.iterdir()}
    assert kept == {"last.pt": 3, "previous.pt": 2}


def test_a_failing_rotation_loses_nothing(saved: Path, full_disk: None) -> None:
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_rotating(saved.parent, {"epoch": 3})
    assert [checkpoint.load(path)["epoch"] for path in saved.parent.iterdir()] == [2]
