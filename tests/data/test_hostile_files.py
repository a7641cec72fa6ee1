"""Files that are larger than they may be."""

import dataclasses
import gzip
import tracemalloc
from pathlib import Path

import pytest
from installed import Command
from mirrors import ENDLESS, IMAGES, Answer, BoastfulAnswer, EndlessAnswer, Mirror, put, same

from cnnbench.data.catalog import Dataset, get
from cnnbench.data.storage import Arrays, find, load
from cnnbench.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_on_this_machine")

# Too large

# What the made-up images may have: 496 bytes, compressed 4,596. The first two compress to less than that.
TOO_LARGE: dict[str, tuple[str, bytes]] = {
    "a bomb": (".gz", gzip.compress(bytes(4_000_000))),
    "a bomb of many members": (".gz", gzip.compress(bytes(200_000)) * 18),
    "a bomb of members that are empty": (".gz", gzip.compress(b"") * 200_000),
    "a large compressed file": (".gz", gzip.compress(bytes(4_000_000), compresslevel=0)),
    "a large plain file": ("", bytes(4_000_000)),
    "a plain file one byte too long": ("", bytes(497)),
    "a compressed file one byte too long": (".gz", gzip.compress(bytes(497))),
}


@pytest.fixture(params=TOO_LARGE.values(), ids=TOO_LARGE.keys())
def too_large(request: pytest.FixtureRequest, cache: Path) -> Path:
    """A file of images, in the cache, that is larger than it may be."""
    suffix, content = request.param
    path = cache / f"{IMAGES}{suffix}"
    cache.mkdir()
    path.write_bytes(content)
    return path


def test_a_file_is_told_to_be_too_large(fashion: Dataset, cache: Path, too_large: Path) -> None:
    tried: list[str] = []
    find(fashion, IMAGES, str(cache), tried)
    assert [line.startswith(f"{too_large}: larger than 4") for line in tried] == [True]


def test_memory_does_not_grow_with_a_file(fashion: Dataset, cache: Path, too_large: Path) -> None:
    tracemalloc.start()
    find(fashion, IMAGES, str(cache), [])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_good_file_elsewhere_stands_in(
    fashion: Dataset, arrays: Arrays, cache: Path, too_large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "good", arrays)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "good"))
    assert same(load(fashion, str(cache)), arrays)


def test_a_file_that_gzip_made_no_smaller_is_used(cache: Path) -> None:
    sample = get("sample")
    content = gzip.decompress((sample.places[0] / f"{IMAGES}.gz").read_bytes())
    pieces = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    cache.mkdir()
    (cache / f"{IMAGES}.gz").write_bytes(b"".join(gzip.compress(piece, 0) for piece in pieces))
    assert find(dataclasses.replace(sample, places=()), IMAGES, str(cache), [])[1] == content


@pytest.mark.parametrize("answer", [EndlessAnswer, BoastfulAnswer])
def test_a_mirror_is_told_to_send_too_much(online: Dataset, mirror: Mirror, cache: Path, answer: type[Answer]) -> None:
    mirror.RequestHandlerClass = answer
    with pytest.raises(DataError, match=f"{mirror.url}{IMAGES}.gz: larger than 4,596 bytes"):
        load(online, str(cache))


def test_a_mirror_that_sends_without_end_is_hung_up_on(online: Dataset, mirror: Mirror, cache: Path) -> None:
    mirror.RequestHandlerClass = EndlessAnswer
    with pytest.raises(DataError):
        load(online, str(cache))
    assert mirror.num_bytes_sent < ENDLESS


def test_a_run_with_a_bomb_ends_with_an_error_of_the_data(cnnbench: Command, tmp_path: Path) -> None:
    bomb = tmp_path / "mine" / f"{IMAGES}.gz"
    bomb.parent.mkdir()
    bomb.write_bytes(gzip.compress(bytes(1 << 24)) * 64)  # 1 MB for 1 GB
    done = cnnbench("data=mnist", "model=mlp", CNNBENCH_DATA=str(bomb.parent))
    told = f"{bomb}: larger than 47,040,016 bytes" in done.stderr
    assert (done.returncode, told, "Traceback" in done.stderr) == (3, True, False)
