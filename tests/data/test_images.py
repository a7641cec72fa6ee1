"""Image files as arrays: every kind that a camera, a drawing program or an accident leaves."""

import io
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from cnnbench.data import images
from cnnbench.data.images import KNOWN, SUFFIXES, are_grey, read_image, read_images
from cnnbench.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


@pytest.fixture
def noise() -> npt.NDArray[np.uint8]:
    """Colours (40, 40, 3) of which no two pixels are alike."""
    return np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves an image or an array under a name, and returns the path."""

    def save(image: Any, name: str = "image.png", **options: Any) -> Path:
        path = tmp_path / name
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
        return path

    return save


def colours(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """The pixels of a file read in colour, as (size, size, 3)."""
    return read_image(path, 3, size).transpose(1, 2, 0)


# Kinds of pixels


def test_colours_are_kept_to_the_bit(save: Save, noise: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(colours(save(noise), 40), noise)


def test_grey_is_kept_to_the_bit(save: Save, noise: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(read_image(save(noise[..., 0]), 1, 40)[0], noise[..., 0])


def test_the_suffix_does_not_matter(save: Save, noise: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(colours(save(noise, "image.jpg", format="PNG"), 40), noise)


def test_a_grey_file_in_colour_has_three_channels_alike(save: Save, noise: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(colours(save(noise[..., 0]), 40), np.repeat(noise[..., :1], 3, axis=2))


@pytest.mark.parametrize(("colour", "luma"), [(RED, 76), (GREEN, 150), (BLUE, 29), (WHITE, 255)])
def test_colour_in_grey_is_its_luma(save: Save, colour: tuple[int, int, int], luma: int) -> None:
    assert read_image(save(Image.new("RGB", (4, 4), colour)), 1, 4).tolist() == [[[luma] * 4] * 4]


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (255, 0), (256, 1), (0x7FFF, 127), (0xFFFF, 255)])
def test_of_16_bits_the_first_eight_are_kept(save: Save, level: int, expected: int) -> None:
    path = save(np.full((4, 4), level, np.uint16))
    assert set(read_image(path, 1, 4).ravel().tolist()) == {expected}


def test_a_palette_is_looked_up(save: Save) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*BLUE, *GREEN])
    image.putdata([1, 0])
    assert colours(save(image.resize((2, 2))), 2).tolist() == [[list(GREEN), list(BLUE)]] * 2


def test_black_and_white_become_0_and_255(save: Save) -> None:
    image = Image.new("1", (2, 2))
    image.putpixel((0, 0), 1)
    assert read_image(save(image), 1, 2).tolist() == [[[255, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("RGBA", (*RED, 0), 255),
        ("RGBA", (0, 0, 0, 255), 0),
        ("RGBA", (0, 0, 0, 51), 204),
        ("LA", (0, 0), 255),
        ("LA", (7, 255), 7),
    ],
)
def test_what_is_transparent_becomes_white(save: Save, mode: str, pixel: tuple[int, ...], expected: int) -> None:
    assert read_image(save(Image.new(mode, (2, 2), pixel)), 1, 2).tolist() == [[[expected] * 2] * 2]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_colour_that_stands_for_transparent_becomes_white(save: Save, mode: str) -> None:
    path = save(Image.new(mode, (2, 2), 0), transparency=0)
    assert read_image(path, 1, 2).tolist() == [[[255] * 2] * 2]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_near_what_was_saved(save: Save, mode: str) -> None:
    path = save(Image.new("RGB", (16, 16), (200, 60, 60)).convert(mode), "image.jpg", quality=95)
    expected = {"RGB": (200, 60, 60), "L": (102,) * 3, "CMYK": (200, 60, 60)}[mode]
    assert np.abs(colours(path, 16).astype(int) - expected).max() <= 3


# Kinds of files


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("PNG", "a.png", {}),
        ("JPEG", "a.jfif", {"quality": 95}),
        ("JPEG", "a.jpe", {"quality": 95}),
        ("WEBP", "a.webp", {"quality": 95}),
        ("WEBP", "a.webp", {"lossless": True}),
        ("BMP", "a.bmp", {}),
        ("GIF", "a.gif", {}),
        ("TIFF", "a.tif", {}),
        ("TIFF", "a.tiff", {"compression": "tiff_lzw"}),
    ],
    ids=str,
)
def test_every_kind_of_file_is_read(save: Save, kind: str, name: str, options: dict[str, Any]) -> None:
    path = save(Image.new("RGB", (16, 16), (200, 60, 60)), name, format=kind, **options)
    assert path.suffix in SUFFIXES
    assert np.abs(colours(path, 16).astype(int) - (200, 60, 60)).max() <= 4
    assert read_images([path], 3, 16, "").misnamed == {}


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "TIFF", "PNG"])
def test_of_several_images_in_a_file_the_first_is_read(save: Save, kind: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((255, 255, 255), (0, 0, 0)))
    path = save(first, "image", format=kind, save_all=True, append_images=[second])
    assert set(read_image(path, 1, 8).ravel().tolist()) == {255}


@pytest.mark.parametrize("kind", ["WebP", "GIF", "BMP", "TIFF", "PNG"])
def test_a_file_that_is_named_as_another_is_read_and_reported(save: Save, kind: str) -> None:
    path = save(Image.new("RGB", (8, 8), (7, 7, 7)), "image.jpg", format=kind)
    other = save(Image.new("L", (8, 8)), "image.JPEG")
    reading = read_images([path, other], 1, 8, "")
    assert (reading.pixels[0].max(), reading.problems, reading.misnamed) == (7, [], {str(path): kind})


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_of_16_bits_in_a_tiff_the_first_eight_are_kept(save: Save, byte_order: str) -> None:
    image = Image.fromarray(np.full((4, 4), 0x1234, np.dtype(byte_order)))
    path = save(image, "image.tif")
    assert set(read_image(path, 1, 4).ravel().tolist()) == {0x12}
    assert are_grey([path])


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_whose_black_and_white_are_not_known_are_refused(save: Save, mode: str) -> None:
    path = save(Image.new(mode, (4, 4)), "image.tif")
    with pytest.raises(DataError, match=f"^{path} has pixels of the kind {mode}, .* Save it with 8"):
        read_image(path, 1, 4)


# Turned


def turned(corner: tuple[int, int]) -> Image.Image:
    """Black, with a white corner (column, row)."""
    image = Image.new("L", (2, 2), 0)
    image.putpixel(corner, 255)
    return image


@pytest.mark.parametrize(
    ("orientation", "corner"),  # where the upper left corner of the scene lies in the file: the EXIF standard, table
    [(1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (4, (0, 1)), (5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))],
)
def test_the_orientation_of_the_camera_is_undone(save: Save, orientation: int, corner: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert read_image(save(turned(corner), exif=exif), 1, 2).tolist() == [[[255, 0], [0, 0]]]


def test_a_picture_that_lies_on_its_side_is_turned_before_it_is_squeezed(save: Save) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turned by 90 degrees against the clock
    sideways = Image.new("L", (40, 20), 0)
    sideways.paste(255, (0, 0, 20, 20))  # left half white: upright, the upper half
    upper, lower = read_image(save(sideways, exif=exif), 1, 20)[0][[0, -1]]
    assert (set(upper.tolist()), set(lower.tolist())) == ({255}, {0})


def test_an_orientation_that_cannot_be_read_turns_nothing(save: Save, noise: npt.NDArray[np.uint8]) -> None:
    path = save(noise, exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    assert np.array_equal(colours(path, 40), noise)


# Resized


@pytest.mark.parametrize("size", [20, 28, 32, 39, 41, 64])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_resizing_is_torchvisions_within_one_level(
    save: Save, noise: npt.NDArray[np.uint8], size: int, in_channels: int
) -> None:
    pixels = noise[..., 0] if in_channels == 1 else noise
    ours = read_image(save(pixels), in_channels, size)
    tensor = torch.from_numpy(pixels.reshape(40, 40, in_channels).transpose(2, 0, 1).copy())
    theirs = functional.resize(tensor, [size, size], antialias=True).numpy()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (1, 1), (3, 500)], ids=str)
def test_a_picture_that_is_not_square_is_squeezed(save: Save, shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    image[:, : shape[1] // 2] = 255
    assert read_image(save(image), 3, 8).shape == (3, 8, 8)


def test_both_sides_are_squeezed_by_their_own_factor(save: Save) -> None:
    image = np.zeros((20, 80), np.uint8)
    image[:, :40] = 255
    left, right = read_image(save(image), 1, 20)[0].T[[0, -1]]
    assert (set(left.tolist()), set(right.tolist())) == ({255}, {0})


# What is no image


def png_of(width: int, height: int) -> bytes:
    """The start of a PNG that promises so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))


def saved_as(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


NO_IMAGES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, I am no image\n", f"is not a {KNOWN} image"),
    "another format": (saved_as("PPM"), f"is not a {KNOWN} image"),
    "web page": (b"\n<!DOCTYPE html><html>", "is a web page"),
    "drawing": (b"<?xml version='1.0'?>\n<!-- mine -->\n<svg>", "is an SVG drawing: convert it to PNG"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS: fetch the image with"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(90), "is a HEIC image: convert it to JPEG or PNG"),
    "AVIF": (b"\0\0\0\x18ftypavif" + bytes(90), "is an AVIF image: convert it to JPEG or PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", f"is not a {KNOWN} image"),
    "truncated WebP": (cut(saved_as("WEBP")), "(cannot be read|is damaged)"),
    "truncated GIF": (cut(saved_as("GIF")), "(cannot be read|is damaged)"),
    "truncated BMP": (cut(saved_as("BMP")), "(cannot be read|is damaged)"),
    "truncated TIFF": (cut(saved_as("TIFF")), "(cannot be read|is damaged|is not a)"),
    "truncated JPEG": (cut(saved_as("JPEG")), "cannot be read: image file is truncated"),
    "truncated PNG": (cut(saved_as("PNG")), "cannot be read: image file is truncated"),
    "header alone": (b"\x89PNG\r\n\x1a\n", f"is not a {KNOWN} image"),
    "wrong checksum": (saved_as("PNG").replace(b"IHDR", b"IHDX"), f"is not a {KNOWN} image"),
    "many pixels": (png_of(10_000, 10_000), "has more than 89,478,485 pixels"),
    "very many pixels": (png_of(100_000, 100_000), "has more than 89,478,485 pixels"),
}


@pytest.mark.parametrize(("content", "message"), NO_IMAGES.values(), ids=NO_IMAGES.keys())
def test_what_cannot_be_read_is_told_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path} ({message})"):
        read_image(path, 3, 4)


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/none.png cannot be read: No such file"):
        read_image(tmp_path / "none.png", 3, 4)


def test_whatever_pillow_raises_is_a_data_error(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise AssertionError

    monkeypatch.setattr(images, "_upright", fail)
    with pytest.raises(DataError, match=r"image\.png is damaged: AssertionError"):
        read_image(save(turned((0, 0))), 1, 2)


def test_a_name_that_could_steer_a_terminal_is_shown_harmlessly(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\\x1b\[2Jnone\.png'"):
        read_image(tmp_path / "\x1b[2Jnone.png", 3, 4)


# Many at once


@pytest.fixture
def many(save: Save, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Ten files of one grey each, in portions of three."""
    monkeypatch.setattr(images, "PORTION", 3)
    return [save(np.full((2, 2), 10 * number, np.uint8), f"{number}.png") for number in range(10)]


def test_many_are_read_in_their_order(many: list[Path]) -> None:
    pixels, problems, _ = read_images(many, 1, 2, "")
    assert (pixels[:, 0, 0, 0].tolist(), problems) == ([10 * number for number in range(10)], [])


def test_many_are_read_as_one_is(save: Save, noise: npt.NDArray[np.uint8]) -> None:
    paths = [save(noise), save(noise[:, :13], "other.jpg")]
    expected = [read_image(path, 3, 17) for path in paths]
    assert np.array_equal(read_images(paths, 3, 17, "")[0], np.stack(expected))


def test_each_of_many_that_cannot_be_read_is_told_in_order(many: list[Path]) -> None:
    for number in (8, 1, 2):
        many[number].write_text("no image")
    problems = read_images(many, 1, 2, "")[1]
    assert problems == [f"{many[number]} is not a {KNOWN} image." for number in (1, 2, 8)]


def test_none_are_read_as_none() -> None:
    pixels, problems, _ = read_images([], 3, 5, "")
    assert (pixels.shape, problems) == ((0, 3, 5, 5), [])


def test_reading_leaves_the_warnings_of_the_process_as_they_are(many: list[Path]) -> None:
    before = list(warnings.filters)
    many[0].write_bytes(png_of(10_000, 10_000))
    read_images(many, 1, 2, "")
    assert list(warnings.filters) == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("patience_s", "stderr", "shows"), [(0, Terminal, True), (60, Terminal, False), (0, io.StringIO, False)]
)
def test_a_bar_shows_where_it_takes_long_and_there_is_a_terminal(
    many: list[Path], monkeypatch: pytest.MonkeyPatch, patience_s: int, stderr: type[io.StringIO], shows: bool
) -> None:
    terminal = stderr()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(images, "PATIENCE_S", patience_s)
    read_images(many, 1, 2, "reading photos")
    assert ("reading photos" in terminal.getvalue()) is shows


# Grey or in colour


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.new("P", (2, 2))
    image.putpalette([level for colour in colours for level in colour])
    return image


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.new("L", (2, 2)), True),
        (Image.new("LA", (2, 2)), True),
        (Image.new("1", (2, 2)), True),
        (Image.new("I;16", (2, 2)), True),
        (palette((0, 0, 0), (9, 9, 9)), True),
        (palette((0, 0, 0), (9, 9, 8)), False),
        (Image.new("RGB", (2, 2)), False),
        (Image.new("RGBA", (2, 2)), False),
    ],
    ids=["L", "LA", "1", "I16", "grey palette", "colour palette", "RGB", "RGBA"],
)
def test_a_file_is_grey_by_its_header(save: Save, image: Image.Image, grey: bool) -> None:
    assert are_grey([save(image)]) is grey


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize(("colour", "grey"), [((9, 9, 9), True), ((9, 9, 8), False)])
def test_a_palette_is_looked_at_in_every_kind_of_file(
    save: Save, kind: str, colour: tuple[int, int, int], grey: bool
) -> None:
    image = palette((200, 200, 200), colour, (0, 0, 0), (50, 50, 50))
    image.putdata([0, 1, 2, 3])
    path = save(image, "image", format=kind)
    with Image.open(path) as saved:
        assert saved.mode == "P" or grey
    assert are_grey([path]) is grey


def test_one_file_in_colour_is_enough(save: Save) -> None:
    paths = [save(Image.new(mode, (2, 2)), f"{mode}.png") for mode in ("L", "RGB", "1")]
    assert not are_grey(paths)


def test_a_jpeg_may_be_grey_or_in_colour(save: Save) -> None:
    assert [are_grey([save(Image.new(mode, (2, 2)), "image.jpg")]) for mode in ("L", "RGB", "CMYK")] == [
        True,
        False,
        False,
    ]


def test_what_cannot_be_read_does_not_say_what_the_others_are(save: Save, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    assert are_grey([tmp_path / "text.png", save(Image.new("L", (2, 2)))])
