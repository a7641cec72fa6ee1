"""Asynchronous writes of checkpoints: their order, replaced submissions and errors."""

from pathlib import Path
from threading import Event

import pytest

from cnnbench.training import checkpoint
from cnnbench.training.checkpoint import AsyncCheckpointWriter
from cnnbench.training.state import State

WAIT_S = 30


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Return an event that writing waits for."""
    gate = Event()
    save = checkpoint.save

    def save_when_open(path: Path, state: State) -> None:
        assert gate.wait(WAIT_S)
        save(path, state)

    monkeypatch.setattr(checkpoint, "save", save_when_open)
    return gate


def load_epochs(folder: Path) -> dict[str, int]:
    return {
        path.name: checkpoint.load_checkpoint(path)["epoch"] for path in sorted(folder.iterdir())
    }


def test_close_writes_submitted_checkpoints(tmp_path: Path) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}, "best": {"epoch": 1}})
    writer.close()
    assert load_epochs(tmp_path) == {"best.pt": 1, "last.pt": 1}


def test_close_without_submissions_writes_nothing(tmp_path: Path) -> None:
    AsyncCheckpointWriter(tmp_path).close()
    assert load_epochs(tmp_path) == {}


def test_submit_does_not_wait_for_the_disk(tmp_path: Path, gate: Event) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}})
    assert load_epochs(tmp_path) == {}
    gate.set()
    writer.close()
    assert load_epochs(tmp_path) == {"last.pt": 1}


def test_newer_submission_replaces_a_waiting_one(tmp_path: Path, gate: Event) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    for epoch in range(1, 6):
        writer.submit({"last": {"epoch": epoch}})
    gate.set()
    writer.close()
    epochs = load_epochs(tmp_path)
    assert epochs["last.pt"] == 5
    # The thread may have taken the first submission before the second came.
    assert epochs.get("previous.pt", 1) == 1


def test_newer_last_does_not_drop_a_waiting_best(tmp_path: Path, gate: Event) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    for epoch in (1, 2):
        writer.submit({"last": {"epoch": epoch}})
    writer.submit({"last": {"epoch": 3}, "best": {"epoch": 3}})
    writer.submit({"last": {"epoch": 4}})
    gate.set()
    writer.close()
    epochs = load_epochs(tmp_path)
    assert (epochs["best.pt"], epochs["last.pt"]) == (3, 4)
    assert epochs.keys() <= {"best.pt", "last.pt", "previous.pt"}


def test_best_is_written_before_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(checkpoint, "save", lambda path, state: order.append("best"))
    monkeypatch.setattr(checkpoint, "save_rotating", lambda folder, state: order.append("last"))
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}, "best": {"epoch": 1}})
    writer.close()
    assert order == ["best", "last"]


def raise_no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_close_raises_the_error_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save_rotating", raise_no_space)
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}})
    with pytest.raises(OSError, match="No space"):
        writer.close()


def submit_until_error(writer: AsyncCheckpointWriter) -> None:
    for epoch in range(1_000_000):
        writer.submit({"last": {"epoch": epoch}})


def test_submit_raises_the_error_of_an_earlier_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Event()

    def fail(*_: object) -> None:
        failed.set()
        raise_no_space()

    monkeypatch.setattr(checkpoint, "save_rotating", fail)
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}})
    assert failed.wait(WAIT_S)
    with pytest.raises(OSError, match="No space"):
        submit_until_error(writer)
