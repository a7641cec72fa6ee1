"""The IDX format."""

from io import BytesIO

import numpy as np
import pytest
from mirrors import idx

from cnnbench.data import idx as module
from cnnbench.data.idx import parse_idx, read_idx
from cnnbench.errors import DataError


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (0,)], ids=str)
def test_idx_content_is_read_as_its_array(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    parsed = parse_idx(idx(array))
    assert (parsed.shape, parsed.dtype.name, parsed.tolist()) == (shape, "uint8", array.tolist())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        b"\x00\x00\x08\x00",
        b"\x00\x00\x08\x00x",
        b"\x00\x00\x09\x01\x00\x00\x00\x02xy",
        b"\x01\x00\x08\x01\x00\x00\x00\x02xy",
        b"\x00\x00\x08\x01\x00\x00\x00\x02x",
        b"\x00\x00\x08\x01\x00\x00\x00\x02xyz",
        b"\x00\x00\x08\x01\x00\x00",
        b"\x00\x00\x08\x02\x00\x00\x00\x02xy",
    ],
    ids=[
        "empty",
        "no number of dimensions",
        "no dimensions",
        "no dimensions but data",
        "signed bytes",
        "wrong first byte",
        "data too short",
        "data too long",
        "ends in the sizes",
        "one size missing",
    ],
)
def test_content_that_is_no_idx_file_is_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError, match="IDX"):
        parse_idx(content)


@pytest.mark.parametrize("portion", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("change", "message"), [(b"x", "more bytes than the shape 4"), (b"", ""), (None, "fewer bytes")]
)
def test_a_stream_is_read_in_portions_to_its_end_and_no_further(
    portion: int, change: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION", portion)
    content = idx(np.arange(4, dtype=np.uint8))
    stream = BytesIO(content[:-1] if change is None else content + change * 50)
    if message:
        with pytest.raises(DataError, match=message):
            read_idx(stream)
        assert stream.tell() <= len(content) + 1
    else:
        assert read_idx(stream).tolist() == [0, 1, 2, 3]
