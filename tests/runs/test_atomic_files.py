"""Files are replaced as a whole, also on disks that are full or fail."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from cnnbench.errors import NOT_SUPPORTED
from cnnbench.runs.atomic_files import write_atomically


def write_half(file: BinaryIO) -> None:
    file.write(b"half of the new")
    raise OSError(28, "No space left on device")


def test_old_content_stays_until_the_new_is_complete(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, write_half)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])
    write_atomically(path, write)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("new", [path])


def refuse_sync(patch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    patch.setattr("cnnbench.runs.atomic_files._warned", False)
    patch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("number", sorted(NOT_SUPPORTED), ids=errno.errorcode.get)
def test_file_is_written_without_a_warning_where_sync_is_not_supported(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_sync(monkeypatch, number)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert ((tmp_path / "file").read_text(), caplog.text) == ("new", "")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_failing_disk_is_warned_of_once_and_files_are_written(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_sync(monkeypatch, number)
    for name in ("a", "b"):
        write_atomically(tmp_path / name, lambda file: file.write(b"new"))
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["new", "new"]
    assert caplog.messages == [
        f"{tmp_path / 'a'} may not be on disk: {os.strerror(number)}. Nothing is lost as long as "
        "the machine stays up. Check the disk or the network share."
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_old_content_stays_if_the_disk_is_full_at_sync(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    refuse_sync(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE], ids=errno.errorcode.get)
def test_file_is_written_without_a_warning_where_its_folder_cannot_be_opened(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refuse)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert ((tmp_path / "file").read_text(), caplog.text) == ("new", "")


def test_file_is_not_synced_without_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_sync(monkeypatch, errno.ENOSPC)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"), sync=False)
    assert (tmp_path / "file").read_text() == "new"


def test_error_of_the_cleanup_does_not_hide_that_of_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", write_half)
