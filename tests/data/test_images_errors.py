"""Files that cannot be read as images, and reading of many files."""

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import Save, as_image_files, noise
from PIL import Image

from cnnbench.data import images
from cnnbench.data.images import find_unreadable, read_image, read_images
from cnnbench.data.scan_folder import FORMATS
from cnnbench.errors import DataError

# Files that are not images


def make_large_png(width: int, height: int) -> bytes:
    """Return the start of a PNG whose header has the given size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(10)))


def encode(file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(file, file_format)
    return file.getvalue()


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


SVG = b"<?xml version='1.0'?>\n<!-- mine -->\n<svg>"
NOT_IMAGES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, I am not an image\n", f"is not a {FORMATS} image"),
    "another format": (encode("PPM"), f"is not a {FORMATS} image"),
    "PostScript": (b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n", f"is not a {FORMATS} image"),
    "header alone": (b"\x89PNG\r\n\x1a\n", f"is not a {FORMATS} image"),
    "wrong checksum": (encode("PNG").replace(b"IHDR", b"IHDX"), f"is not a {FORMATS} image"),
    "web page": (b"\n<!DOCTYPE html><html>", "is a web page"),
    "drawing": (SVG, "is an SVG drawing: convert it to PNG"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS: fetch"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(90), "is a HEIC image: convert it to JPEG or PNG"),
    "AVIF": (b"\0\0\0\x18ftypavif" + bytes(90), "is an AVIF image: convert it to JPEG or PNG"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n", "is a JPEG XL image"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n", "is a JPEG 2000 image"),
    "Photoshop": (b"8BPS\0\1", "is a Photoshop drawing"),
    "PDF": (b"%PDF-1.4\n", "is a PDF document"),
    "ZIP": (b"PK\x03\x04", "is a ZIP archive: unpack it"),
    "many pixels": (make_large_png(10_000, 10_000), "has more than 89,478,485 pixels"),
    "very many pixels": (make_large_png(100_000, 100_000), "has more than 89,478,485 pixels"),
    "truncated JPEG": (truncate(encode("JPEG")), "cannot be read: image file is truncated"),
    "truncated PNG": (truncate(encode("PNG")), "cannot be read: image file is truncated"),
    "truncated WebP": (truncate(encode("WEBP")), "cannot be read"),
    "truncated GIF": (truncate(encode("GIF")), "cannot be read"),
    "truncated BMP": (truncate(encode("BMP")), "cannot be read"),
    "truncated TIFF": (truncate(encode("TIFF")), "(cannot be read|is not a)"),
}


@pytest.mark.parametrize(("content", "message"), NOT_IMAGES.values(), ids=NOT_IMAGES.keys())
def test_unreadable_file_is_a_data_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path} ({message})"):
        read_image(path, 3, 4)


def test_errors_of_pillow_are_data_errors(
    save_image: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(images, "_to_pixels", fail)
    with pytest.raises(DataError, match=r"image\.png cannot be read: AssertionError"):
        read_image(save_image(noise(2, 2)), 1, 2)


def test_control_characters_in_names_are_escaped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\\x1b\[2Jnone\.png' cannot be read: No such file"):
        read_image(tmp_path / "\x1b[2Jnone.png", 3, 4)


# Many files


@pytest.fixture
def many(save_image: Save, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Save ten files of one gray level each, which threads read in chunks of three."""
    monkeypatch.setattr(images, "CHUNK", 3)
    grays = [np.full((2, 2), 10 * number, np.uint8) for number in range(10)]
    return [save_image(gray, f"{number}.png") for number, gray in enumerate(grays)]


def test_files_are_read_in_order_and_problems_reported(many: list[Path]) -> None:
    filters = list(warnings.filters)
    many[8].write_bytes(make_large_png(10_000, 10_000))
    for number in (1, 2):
        many[number].write_text("no image")
    pixels, problems, _ = read_images(as_image_files(*many), 1, 2, "")
    good = [number for number in range(10) if number not in (1, 2, 8)]
    assert pixels[good, 0, 0, 0].tolist() == [10 * number for number in good]
    assert list(problems.items()) == [
        *((str(many[n]), f"{many[n]} is not a {FORMATS} image.") for n in (1, 2)),
        (str(many[8]), f"{many[8]} has more than 89,478,485 pixels."),
    ]
    assert find_unreadable(as_image_files(*many), "") == problems
    assert list(warnings.filters) == filters


def test_read_images_equals_read_image(save_image: Save) -> None:
    paths = [save_image(noise(40, 40, 3)), save_image(noise(40, 13, 3), "other.jpg")]
    expected = [read_image(path, 3, 17) for path in paths]
    assert np.array_equal(read_images(as_image_files(*paths), 3, 17, "")[0], np.stack(expected))
    assert read_images([], 3, 5, "")[0].shape == (0, 3, 5, 5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("delay_s", "stderr", "shows"),
    [(0, Terminal, True), (60, Terminal, False), (0, io.StringIO, False)],
)
def test_progress_bar_is_shown_on_a_terminal_after_a_delay(
    many: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    delay_s: int,
    stderr: type[io.StringIO],
    shows: bool,
) -> None:
    terminal = stderr()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(images, "BAR_DELAY_S", delay_s)
    read_images(as_image_files(*many), 1, 2, "reading photos")
    assert ("reading photos" in terminal.getvalue()) is shows
    assert ("0/10 " in terminal.getvalue()) is shows
