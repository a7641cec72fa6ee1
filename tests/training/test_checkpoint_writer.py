"""Checkpoints on their way to the disk: in order, none lost, no error unheard."""

from pathlib import Path
from threading import Event

import pytest

from cnnbench.training import checkpoint
from cnnbench.training.checkpoint import AsyncCheckpointWriter
from cnnbench.training.state import State

WAIT_S = 30


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Writing does not begin before it is set."""
    gate = Event()
    save = checkpoint.save

    def save_when_open(path: Path, state: State) -> None:
        assert gate.wait(WAIT_S)
        save(path, state)

    monkeypatch.setattr(checkpoint, "save", save_when_open)
    return gate


def kept(folder: Path) -> dict[str, int]:
    return {path.name: checkpoint.load(path)["epoch"] for path in sorted(folder.iterdir())}


def test_what_was_submitted_is_on_disk_after_closing(tmp_path: Path) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}, "best": {"epoch": 1}})
    writer.close()
    assert kept(tmp_path) == {"best.pt": 1, "last.pt": 1}


def test_closing_without_anything_to_write_ends(tmp_path: Path) -> None:
    AsyncCheckpointWriter(tmp_path).close()
    assert kept(tmp_path) == {}


def test_submitting_does_not_wait_for_the_disk(tmp_path: Path, gate: Event) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}})
    assert kept(tmp_path) == {}
    gate.set()
    writer.close()
    assert kept(tmp_path) == {"last.pt": 1}


def test_what_still_waits_is_replaced_by_what_is_newer(tmp_path: Path, gate: Event) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    for epoch in range(1, 6):
        writer.submit({"last": {"epoch": epoch}})
    gate.set()
    writer.close()
    newest = kept(tmp_path)
    assert newest["last.pt"] == 5
    assert (
        newest.get("previous.pt", 1) == 1
    )  # the first may have been on its way before the others came


def test_the_best_is_not_replaced_by_a_last_that_is_newer(tmp_path: Path, gate: Event) -> None:
    writer = AsyncCheckpointWriter(tmp_path)
    for epoch in (1, 2):
        writer.submit({"last": {"epoch": epoch}})
    writer.submit({"last": {"epoch": 3}, "best": {"epoch": 3}})
    writer.submit({"last": {"epoch": 4}})
    gate.set()
    writer.close()
    assert {name: epoch for name, epoch in kept(tmp_path).items() if name != "previous.pt"} == {
        "best.pt": 3,
        "last.pt": 4,
    }


def test_the_best_is_on_disk_before_the_last_that_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(checkpoint, "save", lambda path, state: order.append("best"))
    monkeypatch.setattr(checkpoint, "save_rotating", lambda folder, state: order.append("last"))
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}, "best": {"epoch": 1}})
    writer.close()
    assert order == ["best", "last"]


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_an_error_is_heard_when_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save_rotating", no_space)
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}})
    with pytest.raises(OSError, match="No space"):
        writer.close()


def submit_until_told(writer: AsyncCheckpointWriter) -> None:
    for epoch in range(1_000_000):
        writer.submit({"last": {"epoch": epoch}})


def test_an_error_is_heard_at_the_next_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Event()

    def fail(*_: object) -> None:
        failed.set()
        no_space()

    monkeypatch.setattr(checkpoint, "save_rotating", fail)
    writer = AsyncCheckpointWriter(tmp_path)
    writer.submit({"last": {"epoch": 1}})
    assert failed.wait(WAIT_S)
    with pytest.raises(OSError, match="No space"):
        submit_until_told(writer)
