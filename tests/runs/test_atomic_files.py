"""Files are replaced as a whole, also on disks that are full or fail."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from cnnbench.errors import NOT_SUPPORTED
from cnnbench.runs.atomic_files import write_atomically


def fail(file: BinaryIO) -> None:
    file.write(b"half of the new")
    raise OSError(28, "No space left on device")


def test_the_old_content_is_there_until_all_is_written_and_no_other_file_is_left(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])
    write_atomically(path, write)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("new", [path])


def refuse_syncing(patch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr("cnnbench.runs.atomic_files._warned", False)
    patch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("number", sorted(NOT_SUPPORTED), ids=errno.errorcode.get)
def test_where_syncing_is_not_supported_files_are_written_without_a_word(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_syncing(monkeypatch, number)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert ((tmp_path / "file").read_text(), caplog.text) == ("new", "")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_a_failing_disk_is_warned_of_once_and_files_are_written(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_syncing(monkeypatch, number)
    for name in ("a", "b"):
        write_atomically(tmp_path / name, lambda file: file.write(b"new"))
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["new", "new"]
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'a'} may not be on disk: {os.strerror(number)}. Nothing is lost as long as the machine stays "
        "up. Check the disk or the network share."
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_disk_that_is_full_when_a_file_is_synced_leaves_the_old_content(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    refuse_syncing(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE], ids=errno.errorcode.get)
def test_where_a_folder_cannot_be_opened_files_are_written_without_a_word(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refuse)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert ((tmp_path / "file").read_text(), caplog.text) == ("new", "")


def test_a_file_that_can_be_made_again_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_syncing(monkeypatch, errno.ENOSPC)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"), sync=False)
    assert (tmp_path / "file").read_text() == "new"


def test_the_error_of_a_write_is_not_hidden_by_that_of_clearing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", fail)
