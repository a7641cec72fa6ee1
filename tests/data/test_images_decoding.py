"""Decoding of image files: pixel types, file formats, orientation, resizing, gray or color."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.image_files import Pixels, Save, as_image_files, noise
from PIL import Image
from torchvision.transforms.v2 import functional

from cnnbench.data.images import are_gray, read_image, read_images
from cnnbench.data.scan_folder import FORMAT_OF_SUFFIX
from cnnbench.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


def read_colors(path: Path, size: int) -> Pixels:
    """Return the pixels of a file read in color, as (size, size, 3)."""
    return read_image(path, 3, size).transpose(1, 2, 0)


# Pixel types


def test_pixels_of_png_files_are_exact_with_any_suffix(save_image: Save) -> None:
    colors = noise(40, 40, 3)
    for path in (save_image(colors), save_image(colors, "image.jpg", format="PNG")):
        assert np.array_equal(read_colors(path, 40), colors)


def test_gray_file_as_one_channel_or_three_equal_channels(save_image: Save) -> None:
    path = save_image(noise(40, 40))
    assert np.array_equal(read_image(path, 1, 40)[0], noise(40, 40))
    assert np.array_equal(read_image(path, 3, 40), np.stack([noise(40, 40)] * 3))


@pytest.mark.parametrize(("color", "luma"), [(RED, 76), (GREEN, 150), (BLUE, 29), (WHITE, 255)])
def test_color_is_converted_to_gray_by_luma(
    save_image: Save, color: tuple[int, int, int], luma: int
) -> None:
    assert read_image(save_image(Image.new("RGB", (4, 4), color)), 1, 4).tolist() == [
        [[luma] * 4] * 4
    ]


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_16_bit_pixels_keep_the_high_byte(save_image: Save, name: str, byte_order: str) -> None:
    levels = np.array([[0, 255], [256, 0x7FFF], [0x8000, 0xFFFF]], byte_order)
    path = save_image(levels.repeat(3, 0).repeat(3, 1)[:6], name)
    assert set(read_image(path, 1, 6).ravel().tolist()) == {0, 1, 127}
    assert are_gray(as_image_files(path))


def test_palette_colors_are_looked_up(save_image: Save) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*BLUE, *GREEN])
    image.putdata([1, 0])
    assert (
        read_colors(save_image(image.resize((2, 2))), 2).tolist() == [[list(GREEN), list(BLUE)]] * 2
    )


def test_bilevel_pixels_become_0_and_255(save_image: Save) -> None:
    image = Image.new("1", (2, 2))
    image.putpixel((0, 0), 1)
    assert read_image(save_image(image), 1, 2).tolist() == [[[255, 0], [0, 0]]]


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
    save_image: Save, mode: str, pixel: Any, options: dict[str, int], expected: int
) -> None:
    path = save_image(Image.new(mode, (2, 2), pixel), **options)
    assert read_image(path, 1, 2).tolist() == [[[expected] * 2] * 2]


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_defined_black_and_white_are_refused(save_image: Save, mode: str) -> None:
    path = save_image(Image.new(mode, (4, 4)), "image.tif")
    with pytest.raises(DataError, match=f"^{path} has pixels of the kind {mode}, .* 8 or 16 bits"):
        read_image(path, 1, 4)


# File formats


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
def test_each_format_is_read(
    save_image: Save,
    kind: str,
    name: str,
    options: dict[str, Any],
    mode: str,
) -> None:
    image = Image.new("RGB", (16, 16), (200, 60, 60)).convert(mode)
    path = save_image(image, name, format=kind, **options)
    expected = (102,) * 3 if mode == "L" else (200, 60, 60)
    assert np.abs(read_colors(path, 16).astype(int) - expected).max() <= 4
    assert path.suffix in FORMAT_OF_SUFFIX
    assert read_images(as_image_files(path), 3, 16, "")[1:] == ({}, [])


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "TIFF", "PNG"])
def test_first_of_several_images_in_a_file_is_read(save_image: Save, kind: str) -> None:
    first, second = (Image.new("RGB", (8, 8), color) for color in ((255, 255, 255), (0, 0, 0)))
    path = save_image(first, "image", format=kind, save_all=True, append_images=[second])
    assert set(read_image(path, 1, 8).ravel().tolist()) == {255}


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF", "PNG"])
def test_file_named_for_another_format_is_read_and_noted(save_image: Save, kind: str) -> None:
    path = save_image(Image.new("RGB", (8, 8), (7, 7, 7)), "image.jpg", format=kind)
    other = save_image(Image.new("L", (8, 8)), "image.JPEG")
    pixels, problems, notes = read_images(as_image_files(path, other), 1, 8, "")
    note = f"Named for another format: 1 image, such as {path}, which is {kind}."
    assert (pixels[0].max(), problems, notes) == (7, {}, [note])


# Orientation and size


@pytest.mark.parametrize(
    ("orientation", "corner"),  # EXIF 2.3: position of the scene's upper left corner in the file
    [
        *((1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (4, (0, 1))),
        *((5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))),
    ],
)
def test_exif_orientation_is_applied(
    save_image: Save, orientation: int, corner: tuple[int, int]
) -> None:
    image, exif = Image.new("L", (2, 2), 0), Image.Exif()
    image.putpixel(corner, 255)
    exif[ORIENTATION] = orientation
    assert read_image(save_image(image, exif=exif), 1, 2).tolist() == [[[255, 0], [0, 0]]]


def test_image_is_rotated_before_it_is_resized(save_image: Save) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored rotated by 90 degrees counterclockwise
    sideways = Image.new("L", (40, 20), 0)
    sideways.paste(255, (0, 0, 20, 20))  # the left half, which is the upper half after rotation
    upper, lower = read_image(save_image(sideways, exif=exif), 1, 20)[0][[0, -1]]
    assert (set(upper.tolist()), set(lower.tolist())) == ({255}, {0})


def test_damaged_exif_is_ignored(save_image: Save) -> None:
    path = save_image(noise(40, 40, 3), exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    assert np.array_equal(read_colors(path, 40), noise(40, 40, 3))


@pytest.mark.parametrize("size", [20, 28, 39, 41, 64])
@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3), (20, 80)])
def test_resizing_equals_torchvision_up_to_rounding(
    save_image: Save, size: int, shape: tuple[int, ...]
) -> None:
    in_channels = 3 if len(shape) == 3 else 1
    resized = read_image(save_image(noise(*shape)), in_channels, size)
    pixels = noise(*shape).reshape(*shape[:2], in_channels).transpose(2, 0, 1)
    tensor = torch.from_numpy(pixels.copy())
    expected = functional.resize(tensor, [size, size], antialias=True).numpy()
    assert np.abs(resized.astype(int) - expected.astype(int)).max() <= 1


# Gray or color


@pytest.mark.parametrize(
    ("mode", "name", "is_gray"),
    [
        *(("L", "a.png", True), ("LA", "a.png", True), ("1", "a.png", True), ("L", "a.jpg", True)),
        *(("RGB", "a.png", False), ("RGBA", "a.png", False), ("CMYK", "a.jpg", False)),
    ],
)
def test_mode_in_the_header_decides_about_gray(
    save_image: Save, mode: str, name: str, is_gray: bool
) -> None:
    path = save_image(Image.new(mode, (2, 2)), name)
    assert are_gray(as_image_files(path)) is is_gray


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize(("color", "is_gray"), [((9, 9, 9), True), ((9, 9, 8), False)])
def test_palette_is_gray_if_all_its_colors_are(
    save_image: Save, kind: str, color: tuple[int, int, int], is_gray: bool
) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([200, 200, 200, *color, 0, 0, 0, 50, 50, 50])
    image.putdata([0, 1, 2, 3])
    path = save_image(image, "image", format=kind)
    with Image.open(path) as saved:
        assert saved.mode == "P" or is_gray
    assert are_gray(as_image_files(path)) is is_gray


def test_one_color_file_is_enough_and_damaged_files_are_ignored(
    save_image: Save, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    paths = [save_image(Image.new(mode, (2, 2)), f"{mode}.png") for mode in ("L", "1", "RGB")]
    assert are_gray(as_image_files(tmp_path / "text.png", *paths[:2]))
    assert not are_gray(as_image_files(tmp_path / "text.png", *paths))
