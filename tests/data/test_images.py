"""Image files as arrays: every kind that a camera, a drawing program or an accident leaves."""

import gzip
import io
import os
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
from helpers.public_datasets import encode_idx
from helpers.sample_images import load_sample_images
from PIL import Image
from torchvision.transforms.v2 import functional

from cnnbench.data import images, scan_folder
from cnnbench.data.images import (
    InputImage,
    are_gray,
    looks_inverted,
    read_image,
    read_images,
    read_inputs,
)
from cnnbench.data.scan_folder import FORMAT_OF_SUFFIX, FORMATS, ImageFile
from cnnbench.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112

Pixels = npt.NDArray[np.uint8]
Save = Callable[..., Path]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves an image or an array under a name, and returns the path."""

    def save(image: Any, name: str = "image.png", **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(path, **options)
        return path

    return save


def read_colors(path: Path, size: int) -> Pixels:
    """Return the pixels of a file read in color, as (size, size, 3)."""
    return read_image(path, 3, size).transpose(1, 2, 0)


def as_files(*paths: Path) -> tuple[ImageFile, ...]:
    return tuple(ImageFile(str(path), ()) for path in paths)


# Kinds of pixels


def test_pixels_are_kept_to_the_bit_whatever_the_suffix(save: Save) -> None:
    colors = noise(40, 40, 3)
    for path in (save(colors), save(colors, "image.jpg", format="PNG")):
        assert np.array_equal(read_colors(path, 40), colors)


def test_a_gray_file_has_one_channel_or_three_alike(save: Save) -> None:
    path = save(noise(40, 40))
    assert np.array_equal(read_image(path, 1, 40)[0], noise(40, 40))
    assert np.array_equal(read_image(path, 3, 40), np.stack([noise(40, 40)] * 3))


@pytest.mark.parametrize(("color", "luma"), [(RED, 76), (GREEN, 150), (BLUE, 29), (WHITE, 255)])
def test_color_in_gray_is_its_luma(save: Save, color: tuple[int, int, int], luma: int) -> None:
    assert read_image(save(Image.new("RGB", (4, 4), color)), 1, 4).tolist() == [[[luma] * 4] * 4]


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_the_first_eight_of_16_bits_are_kept(save: Save, name: str, byte_order: str) -> None:
    levels = np.array([[0, 255], [256, 0x7FFF], [0x8000, 0xFFFF]], byte_order)
    path = save(levels.repeat(3, 0).repeat(3, 1)[:6], name)
    assert set(read_image(path, 1, 6).ravel().tolist()) == {0, 1, 127}
    assert are_gray(as_files(path))


def test_a_palette_is_looked_up(save: Save) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*BLUE, *GREEN])
    image.putdata([1, 0])
    assert read_colors(save(image.resize((2, 2))), 2).tolist() == [[list(GREEN), list(BLUE)]] * 2


def test_black_and_white_become_0_and_255(save: Save) -> None:
    image = Image.new("1", (2, 2))
    image.putpixel((0, 0), 1)
    assert read_image(save(image), 1, 2).tolist() == [[[255, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("mode", "pixel", "options", "expected"),
    [
        ("RGBA", (*RED, 0), {}, 255),
        ("RGBA", (0, 0, 0, 255), {}, 0),
        ("RGBA", (0, 0, 0, 51), {}, 204),
        ("LA", (0, 0), {}, 255),
        ("LA", (7, 255), {}, 7),
        ("L", 0, {"transparency": 0}, 255),
        ("P", 0, {"transparency": 0}, 255),
    ],
)
def test_transparent_pixels_become_white(
    save: Save, mode: str, pixel: Any, options: dict[str, int], expected: int
) -> None:
    path = save(Image.new(mode, (2, 2), pixel), **options)
    assert read_image(path, 1, 2).tolist() == [[[expected] * 2] * 2]


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_whose_black_and_white_are_not_known_are_refused(save: Save, mode: str) -> None:
    path = save(Image.new(mode, (4, 4)), "image.tif")
    with pytest.raises(DataError, match=f"^{path} has pixels of the kind {mode}, .* 8 or 16 bits"):
        read_image(path, 1, 4)


# Kinds of files


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("PNG", "a.png", {}),
        ("JPEG", "a.jfif", {"quality": 95}),
        ("JPEG", "a.jpe", {"quality": 95}),
        ("MPO", "a.jpg", {"quality": 95}),
        ("WEBP", "a.webp", {"lossless": True}),
        ("BMP", "a.bmp", {}),
        ("GIF", "a.gif", {}),
        ("TIFF", "a.tif", {}),
        ("TIFF", "a.tiff", {"compression": "tiff_lzw"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_kind_of_file_is_read(
    save: Save,
    kind: str,
    name: str,
    options: dict[str, Any],
    mode: str,
) -> None:
    image = Image.new("RGB", (16, 16), (200, 60, 60)).convert(mode)
    path = save(image, name, format=kind, **options)
    expected = (102,) * 3 if mode == "L" else (200, 60, 60)
    assert np.abs(read_colors(path, 16).astype(int) - expected).max() <= 4
    assert path.suffix in FORMAT_OF_SUFFIX
    assert read_images(as_files(path), 3, 16, "")[1:] == ([], [])


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "TIFF", "PNG"])
def test_the_first_of_several_images_in_a_file_is_read(save: Save, kind: str) -> None:
    first, second = (Image.new("RGB", (8, 8), color) for color in ((255, 255, 255), (0, 0, 0)))
    path = save(first, "image", format=kind, save_all=True, append_images=[second])
    assert set(read_image(path, 1, 8).ravel().tolist()) == {255}


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF", "PNG"])
def test_a_file_named_for_another_format_is_read_and_reported(save: Save, kind: str) -> None:
    path = save(Image.new("RGB", (8, 8), (7, 7, 7)), "image.jpg", format=kind)
    other = save(Image.new("L", (8, 8)), "image.JPEG")
    pixels, problems, notes = read_images(as_files(path, other), 1, 8, "")
    note = f"Named for another format: 1 image, such as {path}, which is {kind}."
    assert (pixels[0].max(), problems, notes) == (7, [], [note])


# Turned and resized


@pytest.mark.parametrize(
    ("orientation", "corner"),  # where the upper left corner of the scene is in the file: EXIF 2.3
    [
        *((1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (4, (0, 1))),
        *((5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))),
    ],
)
def test_the_orientation_is_undone(save: Save, orientation: int, corner: tuple[int, int]) -> None:
    image, exif = Image.new("L", (2, 2), 0), Image.Exif()
    image.putpixel(corner, 255)
    exif[ORIENTATION] = orientation
    assert read_image(save(image, exif=exif), 1, 2).tolist() == [[[255, 0], [0, 0]]]


def test_an_image_is_turned_before_it_is_squeezed(save: Save) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turned by 90 degrees against the clock
    sideways = Image.new("L", (40, 20), 0)
    sideways.paste(255, (0, 0, 20, 20))  # left half white: upright, the upper half
    upper, lower = read_image(save(sideways, exif=exif), 1, 20)[0][[0, -1]]
    assert (set(upper.tolist()), set(lower.tolist())) == ({255}, {0})


def test_damaged_exif_turns_nothing(save: Save) -> None:
    path = save(noise(40, 40, 3), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    assert np.array_equal(read_colors(path, 40), noise(40, 40, 3))


@pytest.mark.parametrize("size", [20, 28, 39, 41, 64])
@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3), (20, 80)])
def test_resizing_is_torchvisions(save: Save, size: int, shape: tuple[int, ...]) -> None:
    in_channels = 3 if len(shape) == 3 else 1
    ours = read_image(save(noise(*shape)), in_channels, size)
    pixels = noise(*shape).reshape(*shape[:2], in_channels).transpose(2, 0, 1)
    tensor = torch.from_numpy(pixels.copy())
    theirs = functional.resize(tensor, [size, size], antialias=True).numpy()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


# Files that are no images


def png_of(width: int, height: int) -> bytes:
    """Return the start of a PNG that promises so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(bytes(10)))


def saved_as(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(file, kind)
    return file.getvalue()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


SVG = b"<?xml version='1.0'?>\n<!-- mine -->\n<svg>"
NO_IMAGES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, I am no image\n", f"is not a {FORMATS} image"),
    "another format": (saved_as("PPM"), f"is not a {FORMATS} image"),
    "PostScript": (b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n", f"is not a {FORMATS} image"),
    "header alone": (b"\x89PNG\r\n\x1a\n", f"is not a {FORMATS} image"),
    "wrong checksum": (saved_as("PNG").replace(b"IHDR", b"IHDX"), f"is not a {FORMATS} image"),
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
    "many pixels": (png_of(10_000, 10_000), "has more than 89,478,485 pixels"),
    "very many pixels": (png_of(100_000, 100_000), "has more than 89,478,485 pixels"),
    "truncated JPEG": (cut(saved_as("JPEG")), "cannot be read: image file is truncated"),
    "truncated PNG": (cut(saved_as("PNG")), "cannot be read: image file is truncated"),
    "truncated WebP": (cut(saved_as("WEBP")), "cannot be read"),
    "truncated GIF": (cut(saved_as("GIF")), "cannot be read"),
    "truncated BMP": (cut(saved_as("BMP")), "cannot be read"),
    "truncated TIFF": (cut(saved_as("TIFF")), "(cannot be read|is not a)"),
}


@pytest.mark.parametrize(("content", "message"), NO_IMAGES.values(), ids=NO_IMAGES.keys())
def test_an_unreadable_file_is_a_data_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path} ({message})"):
        read_image(path, 3, 4)


def test_what_pillow_raises_is_a_data_error(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(images, "_to_pixels", fail)
    with pytest.raises(DataError, match=r"image\.png cannot be read: AssertionError"):
        read_image(save(noise(2, 2)), 1, 2)


def test_a_name_that_could_steer_a_terminal_is_shown_harmlessly(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\\x1b\[2Jnone\.png' cannot be read: No such file"):
        read_image(tmp_path / "\x1b[2Jnone.png", 3, 4)


# Many at once


@pytest.fixture
def many(save: Save, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Ten files of one gray each, of which a thread reads three at a time."""
    monkeypatch.setattr(images, "CHUNK", 3)
    return [save(np.full((2, 2), 10 * number, np.uint8), f"{number}.png") for number in range(10)]


def test_many_files_are_read_in_their_order_and_problems_reported(many: list[Path]) -> None:
    filters = list(warnings.filters)
    many[8].write_bytes(png_of(10_000, 10_000))
    for number in (1, 2):
        many[number].write_text("no image")
    pixels, problems, _ = read_images(as_files(*many), 1, 2, "")
    good = [number for number in range(10) if number not in (1, 2, 8)]
    assert pixels[good, 0, 0, 0].tolist() == [10 * number for number in good]
    assert problems == [
        *(f"{many[number]} is not a {FORMATS} image." for number in (1, 2)),
        f"{many[8]} has more than 89,478,485 pixels.",
    ]
    assert list(warnings.filters) == filters


def test_many_files_are_read_as_one_is(save: Save) -> None:
    paths = [save(noise(40, 40, 3)), save(noise(40, 13, 3), "other.jpg")]
    expected = [read_image(path, 3, 17) for path in paths]
    assert np.array_equal(read_images(as_files(*paths), 3, 17, "")[0], np.stack(expected))
    assert read_images([], 3, 5, "")[0].shape == (0, 3, 5, 5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("delay_s", "stderr", "shows"),
    [(0, Terminal, True), (60, Terminal, False), (0, io.StringIO, False)],
)
def test_a_bar_shows_progress_on_a_terminal_if_it_takes_long(
    many: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    delay_s: int,
    stderr: type[io.StringIO],
    shows: bool,
) -> None:
    terminal = stderr()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(images, "BAR_DELAY_S", delay_s)
    read_images(as_files(*many), 1, 2, "reading photos")
    assert ("reading photos" in terminal.getvalue()) is shows
    assert ("0/10 " in terminal.getvalue()) is shows


# Gray or in color


@pytest.mark.parametrize(
    ("mode", "name", "gray"),
    [
        *(("L", "a.png", True), ("LA", "a.png", True), ("1", "a.png", True), ("L", "a.jpg", True)),
        *(("RGB", "a.png", False), ("RGBA", "a.png", False), ("CMYK", "a.jpg", False)),
    ],
)
def test_a_file_is_gray_by_its_header(save: Save, mode: str, name: str, gray: bool) -> None:
    assert are_gray(as_files(save(Image.new(mode, (2, 2)), name))) is gray


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize(("color", "gray"), [((9, 9, 9), True), ((9, 9, 8), False)])
def test_a_palette_is_gray_if_all_its_colors_are(
    save: Save, kind: str, color: tuple[int, int, int], gray: bool
) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([200, 200, 200, *color, 0, 0, 0, 50, 50, 50])
    image.putdata([0, 1, 2, 3])
    path = save(image, "image", format=kind)
    with Image.open(path) as saved:
        assert saved.mode == "P" or gray
    assert are_gray(as_files(path)) is gray


def test_one_file_in_color_is_enough_and_damaged_ones_are_none(save: Save, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    paths = [save(Image.new(mode, (2, 2)), f"{mode}.png") for mode in ("L", "1", "RGB")]
    assert are_gray(as_files(tmp_path / "text.png", *paths[:2]))
    assert not are_gray(as_files(tmp_path / "text.png", *paths))


# Inputs of predict


def read(*paths: Path, in_channels: int = 1, size: int = 8) -> list[InputImage]:
    return list(read_inputs(paths, in_channels, size))


def pixels_of(image: InputImage) -> Pixels:
    assert image.pixels is not None, image.error
    return image.pixels


@pytest.mark.parametrize("in_channels", [1, 3])
def test_an_input_file_is_read_as_an_image_whatever_its_name(save: Save, in_channels: int) -> None:
    path = save(noise(20, 10, 3), "picture", format="PNG")
    (image,) = read(path, in_channels=in_channels)
    assert image.name == str(path)
    assert np.array_equal(pixels_of(image), read_image(path, in_channels, 8))


def test_inputs_in_folders_are_in_the_order_of_their_names(save: Save, tmp_path: Path) -> None:
    names = ["a.JPG", "b.png", *(f"c/{index:02}.png" for index in range(20)), "c/d/e.jpeg", "z.png"]
    names[-1:] = ["z/a.png"]
    for name in np.random.default_rng(0).permutation(names):
        save(noise(8, 8), f"folder/{name}")
    save(noise(8, 8), "folder/.git/a.png")
    (tmp_path / "folder/notes.txt").touch()
    paths = [save(noise(8, 8), "last.png"), tmp_path / "folder", save(noise(8, 8), "first.png")]
    expected = ["last.png", *(f"folder/{name}" for name in names), "first.png"]
    assert [os.path.relpath(image.name, tmp_path) for image in read(*paths)] == expected


def test_inputs_are_read_when_they_are_asked_for(save: Save, tmp_path: Path) -> None:
    waiting = read_inputs([tmp_path / "a.png", tmp_path / "b.png"], 1, 8)
    assert next(waiting).error
    save(noise(8, 8), "b.png")
    assert next(waiting).pixels is not None


def test_an_input_that_cannot_be_read_does_not_stop_the_rest(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_folder, "MAX_ENTRIES_WITHOUT_IMAGES", 50)
    save(noise(8, 8), "folder/b.png")
    (tmp_path / "folder" / "a.png").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "many").mkdir()
    for number in range(60):
        (tmp_path / "many" / f"{number}.txt").touch()
    (tmp_path / "half").write_bytes(encode_idx(noise(3, 8, 8))[:-100])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder" / "last").mkdir()
    scandir = os.scandir

    def refuse_last(path: str) -> Any:
        if path.endswith("/last"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_last)
    names = ("folder", "nothing", "empty", "many", "half", "pipe", "a" * 300)
    last = save(noise(8, 8), "last.png")
    inputs = read(*(tmp_path / name for name in names), last)
    told = [image.error.replace(f"{tmp_path}/", "") for image in inputs]
    expected = ["folder/a.png", "folder/b.png", *names, "last.png"]
    assert [os.path.relpath(image.name, tmp_path) for image in inputs] == expected
    assert [error[:50] for error in told] == [
        f"folder/a.png is not a {FORMATS} image."[:50],
        "",
        "folder/last cannot be looked into: Permission denied."[:50],
        "nothing cannot be read: No such file or directory."[:50],
        "empty holds no image files. Name an IDX file itself."[:50],
        "many is no folder of images: 0 of the first 60 files"[:50],
        "half is a damaged IDX file: 92 bytes for the shape (3, 8, 8)."[:50],
        "pipe is neither a file nor a folder.",
        told[-2][:50],
        "",
    ]
    assert "File name too long" in told[-2]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 10), (1, 20, 10), (3, 20, 10), (8, 8), (3, 8, 8)])
def test_images_of_an_idx_file_are_as_they_would_be_as_files(
    save: Save,
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
    shape: tuple[int, ...],
    in_channels: int,
) -> None:
    pixels = noise(3, *shape)
    path = tmp_path / "images"
    path.write_bytes(pack(encode_idx(pixels)))
    ours = read(path, in_channels=in_channels)
    assert [image.name for image in ours] == [f"{path}[{index}]" for index in range(3)]
    last = pixels.transpose(0, 2, 3, 1).squeeze() if len(shape) == 3 else pixels
    for image, expected in zip(ours, last, strict=True):
        file = save(np.ascontiguousarray(expected))
        assert np.array_equal(pixels_of(image), read_image(file, in_channels, 8))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (encode_idx(noise(5)), r"holds no images: its shape is \(5,\)"),
        (encode_idx(noise(1, 5, 8, 8)), r"holds no images: its shape is \(1, 5, 8, 8\)"),
        (encode_idx(noise(1, 0, 8)), r"holds no images: its shape is \(1, 0, 8\)"),
        (gzip.compress(b"hello"), "is no IDX file"),
    ],
    ids=["labels", "five channels", "no pixels", "gzipped text"],  # gzip writes the time
)
def test_an_idx_file_without_images_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    (image,) = read(tmp_path / "images")
    with pytest.raises(DataError, match=told):
        raise DataError(image.error)


def test_a_network_of_two_channels_has_no_inputs(save: Save, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(encode_idx(noise(1, 8, 8)))
    for image in read(save(noise(8, 8)), tmp_path / "images", in_channels=2):
        assert "the network takes 2" in image.error


# Inverted images

DARK, LIGHT = (0.286,), (0.87,)  # means of training pixels
IMAGES = np.concatenate([load_sample_images("train"), load_sample_images()])[:, None]


def test_no_image_of_fashion_mnist_looks_inverted_and_every_inverted_one_does() -> None:
    for mean, is_light in ((DARK, False), (LIGHT, True)):
        assert (looks_inverted(IMAGES, mean) == is_light).all()
        assert (looks_inverted(255 - IMAGES, mean) != is_light).all()


@pytest.mark.parametrize("mean", [(0.45,), (0.34,), (0.66,), (0.1,) * 3, (0.9,) * 3])
def test_photographs_have_backgrounds_of_all_kinds(mean: tuple[float, ...]) -> None:
    images = np.stack([np.full((len(mean), 8, 8), value, np.uint8) for value in (0, 255)])
    assert not looks_inverted(images, mean).any()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize(("border", "inside"), [(127, 255), (128, 0)])
def test_the_outermost_pixels_alone_decide(size: int, border: int, inside: int) -> None:
    image = np.full((1, 1, size, size), border, np.uint8)
    image[:, :, 1:-1, 1:-1] = inside
    assert looks_inverted(image, DARK).tolist() == [border > 127]
