"""Reading of IDX files, plain and gzipped."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.public_datasets import encode_idx

from cnnbench.data import idx as module
from cnnbench.data.idx import idx_digest, is_idx, parse_idx, read_idx, read_idx_shape
from cnnbench.errors import DataError

Pack = Callable[[bytes], bytes]


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0,), (2, 300, 9)], ids=str)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 24])
def test_idx_file_is_read_as_its_array(
    tmp_path: Path,
    shape: tuple[int, ...],
    pack: Pack,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    array = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    path = tmp_path / "images"
    path.write_bytes(pack(encode_idx(array)))
    for read in (read_idx(path), parse_idx(encode_idx(array))):
        assert (read.shape, read.dtype.name, read.tolist()) == (shape, "uint8", array.tolist())
    assert (read_idx_shape(path), is_idx(path)) == (shape, True)


WRONG = {
    "empty": (b"", "is no IDX file of unsigned bytes: it begins with nothing, not 00 00 08"),
    "text": (b"hello", "is no IDX file of unsigned bytes: it begins with 68 65 6c, not 00 00 08"),
    "signed bytes": (b"\x00\x00\x09\x01\x00\x00\x00\x02xy", "begins with 00 00 09"),
    "wrong first byte": (b"\x01\x00\x08\x01\x00\x00\x00\x02xy", "begins with 01 00 08"),
    "no number of dimensions": (b"\x00\x00\x08", "ends within its header"),
    "no dimensions": (b"\x00\x00\x08\x00", "ends within its header"),
    "ends in the sizes": (b"\x00\x00\x08\x01\x00\x00\x00", "ends within its header"),
    "one size missing": (b"\x00\x00\x08\x02\x00\x00\x00\x02xyz", "ends within its header"),
    "too short": (b"\x00\x00\x08\x01\x00\x00\x00\x02x", r"1 bytes for the shape \(2,\)"),
    "too long": (b"\x00\x00\x08\x01\x00\x00\x00\x02xyz", r"3 bytes for the shape \(2,\)"),
    "shape larger than memory": (
        b"\x00\x00\x08\x03" + b"\xff" * 12,
        r"0 bytes for the shape \(4294967295,",
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_invalid_content_is_a_data_error(
    tmp_path: Path, content: bytes, message: str, pack: Pack
) -> None:
    path = tmp_path / "images"
    path.write_bytes(pack(content))
    with pytest.raises(DataError, match=f"^{path} .*{message}"):
        read_idx(path)
    with pytest.raises(DataError, match=message):
        parse_idx(content)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(encode_idx(np.zeros(999, np.uint8)))[:-9],
        gzip.compress(encode_idx(np.zeros(999, np.uint8)))[:-8] + bytes(8),
        b"\x1f\x8b" + bytes(20),
        b"\x1f\x8b",
    ],
    ids=["cut", "wrong checksum", "no header", "two bytes"],
)
def test_damaged_gzip_file_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"images\.gz cannot be read: \S"):
        read_idx(tmp_path / "images.gz")


def test_unpacking_stops_when_a_file_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    (tmp_path / "images").write_bytes(
        gzip.compress(encode_idx(np.zeros(9, np.uint8)) + bytes(1 << 20))
    )
    with pytest.raises(DataError, match=r"1,007 bytes|2,0\d\d bytes"):
        read_idx(tmp_path / "images")


def test_missing_file_is_a_data_error_and_not_an_idx_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path}/none cannot be read: No such file"):
        read_idx_shape(tmp_path / "none")
    assert not is_idx(tmp_path / "none")
    (tmp_path / "image").write_bytes(b"\x00\x00\x01")
    assert not is_idx(tmp_path / "image")


def test_digests_of_labels_over_255_differ() -> None:
    arrays = [np.array(labels, np.int32) for labels in ([0, 1], [0, 257], [256, 1], [0, 1, 0])]
    assert len(set(map(idx_digest, arrays))) == 4
