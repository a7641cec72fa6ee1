"""Inputs of predict: image files, folders and IDX files, and the check for inverted images."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.image_files import Pixels, Save, noise
from helpers.public_datasets import encode_idx
from helpers.sample_images import load_sample_images

from cnnbench.data import scan_folder
from cnnbench.data.images import InputImage, looks_inverted, read_image, read_inputs
from cnnbench.data.scan_folder import FORMATS
from cnnbench.errors import DataError

# Inputs of predict


def read_all(*paths: Path, in_channels: int = 1, size: int = 8) -> list[InputImage]:
    return list(read_inputs(paths, in_channels, size))


def get_pixels(image: InputImage) -> Pixels:
    assert image.pixels is not None, image.error
    return image.pixels


@pytest.mark.parametrize("in_channels", [1, 3])
def test_input_file_is_read_with_any_suffix(save_image: Save, in_channels: int) -> None:
    path = save_image(noise(20, 10, 3), "picture", format="PNG")
    (image,) = read_all(path, in_channels=in_channels)
    assert image.name == str(path)
    assert np.array_equal(get_pixels(image), read_image(path, in_channels, 8))


def test_inputs_in_folders_are_sorted_by_name(save_image: Save, tmp_path: Path) -> None:
    names = ["a.JPG", "b.png", *(f"c/{index:02}.png" for index in range(20)), "c/d/e.jpeg", "z.png"]
    names[-1:] = ["z/a.png"]
    for name in np.random.default_rng(0).permutation(names):
        save_image(noise(8, 8), f"folder/{name}")
    save_image(noise(8, 8), "folder/.git/a.png")
    (tmp_path / "folder/notes.txt").touch()
    paths = [
        save_image(noise(8, 8), "last.png"),
        tmp_path / "folder",
        save_image(noise(8, 8), "first.png"),
    ]
    expected = ["last.png", *(f"folder/{name}" for name in names), "first.png"]
    assert [os.path.relpath(image.name, tmp_path) for image in read_all(*paths)] == expected


def test_inputs_are_read_lazily(save_image: Save, tmp_path: Path) -> None:
    inputs = read_inputs([tmp_path / "a.png", tmp_path / "b.png"], 1, 8)
    assert next(inputs).error
    save_image(noise(8, 8), "b.png")
    assert next(inputs).pixels is not None


def test_unreadable_inputs_do_not_stop_the_others(
    save_image: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_folder, "MAX_ENTRIES_WITHOUT_IMAGES", 50)
    save_image(noise(8, 8), "folder/b.png")
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
    last = save_image(noise(8, 8), "last.png")
    inputs = read_all(*(tmp_path / name for name in names), last)
    errors = [image.error.replace(f"{tmp_path}/", "") for image in inputs]
    expected = ["folder/a.png", "folder/b.png", *names, "last.png"]
    assert [os.path.relpath(image.name, tmp_path) for image in inputs] == expected
    assert [error[:50] for error in errors] == [
        f"folder/a.png is not a {FORMATS} image."[:50],
        "",
        "folder/last cannot be looked into: Permission denied."[:50],
        "nothing cannot be read: No such file or directory."[:50],
        "empty holds no image files. Name an IDX file itself."[:50],
        "many is not a folder of images: 0 of the first 60 files"[:50],
        "half is a damaged IDX file: 92 bytes for the shape (3, 8, 8)."[:50],
        "pipe is neither a file nor a folder.",
        errors[-2][:50],
        "",
    ]
    assert "File name too long" in errors[-2]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 10), (1, 20, 10), (3, 20, 10), (8, 8), (3, 8, 8)])
def test_images_of_an_idx_file_equal_image_files(
    save_image: Save,
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
    shape: tuple[int, ...],
    in_channels: int,
) -> None:
    pixels = noise(3, *shape)
    path = tmp_path / "images"
    path.write_bytes(pack(encode_idx(pixels)))
    inputs = read_all(path, in_channels=in_channels)
    assert [image.name for image in inputs] == [f"{path}[{index}]" for index in range(3)]
    channels_last = pixels.transpose(0, 2, 3, 1).squeeze() if len(shape) == 3 else pixels
    for image, expected in zip(inputs, channels_last, strict=True):
        file = save_image(np.ascontiguousarray(expected))
        assert np.array_equal(get_pixels(image), read_image(file, in_channels, 8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encode_idx(noise(5)), r"holds no images: its shape is \(5,\)"),
        (encode_idx(noise(1, 5, 8, 8)), r"holds no images: its shape is \(1, 5, 8, 8\)"),
        (encode_idx(noise(1, 0, 8)), r"holds no images: its shape is \(1, 0, 8\)"),
        (gzip.compress(b"hello"), "is no IDX file"),
    ],
    ids=[
        "labels",
        "five channels",
        "no pixels",
        "gzipped text",
    ],  # not the content, in which gzip writes the time
)
def test_idx_file_without_images_is_an_error(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    (image,) = read_all(tmp_path / "images")
    with pytest.raises(DataError, match=message):
        raise DataError(image.error)


def test_network_of_two_channels_gets_errors_for_all_inputs(
    save_image: Save, tmp_path: Path
) -> None:
    (tmp_path / "images").write_bytes(encode_idx(noise(1, 8, 8)))
    for image in read_all(save_image(noise(8, 8)), tmp_path / "images", in_channels=2):
        assert "the network takes 2" in image.error


# Inverted images

DARK, LIGHT = (0.286,), (0.87,)  # means of training pixels
CLOTHES = np.concatenate([load_sample_images("train"), load_sample_images()])[:, None]


def test_inverted_images_of_fashion_mnist_are_detected() -> None:
    for mean, is_light in ((DARK, False), (LIGHT, True)):
        assert (looks_inverted(CLOTHES, mean) == is_light).all()
        assert (looks_inverted(255 - CLOTHES, mean) != is_light).all()


@pytest.mark.parametrize("mean", [(0.45,), (0.34,), (0.66,), (0.1,) * 3, (0.9,) * 3])
def test_no_image_looks_inverted_for_photographs(mean: tuple[float, ...]) -> None:
    images = np.stack([np.full((len(mean), 8, 8), value, np.uint8) for value in (0, 255)])
    assert not looks_inverted(images, mean).any()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize(("border", "inside"), [(127, 255), (128, 0)])
def test_only_border_pixels_decide_about_inverted_images(
    size: int, border: int, inside: int
) -> None:
    image = np.full((1, 1, size, size), border, np.uint8)
    image[:, :, 1:-1, 1:-1] = inside
    assert looks_inverted(image, DARK).tolist() == [border > 127]
