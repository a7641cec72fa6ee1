"""Images from files, folders and IDX files: their names, their pixels, what is wrong with some; inverted ones."""

import errno
import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from clothes import clothes
from PIL import Image

from cnnbench.data.images import KNOWN, read_image
from cnnbench.data.inputs import Given, looks_inverted, read_all

Pixels = npt.NDArray[np.uint8]


def idx(array: Pixels) -> bytes:
    return header(*array.shape) + array.tobytes()


def header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: Pixels | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(8, 8) if pixels is None else pixels).save(path)
    return path


def read(*paths: Path, in_channels: int = 1, size: int = 8) -> list[Given]:
    return list(read_all(paths, in_channels, size))


def names(given: list[Given]) -> list[str]:
    return [each.name for each in given]


def pixels_of(given: Given) -> Pixels:
    assert given.pixels is not None, given.error
    return given.pixels


# files and folders


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_file_is_read_as_an_image(in_channels: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(20, 10, 3))
    (given,) = read(path, in_channels=in_channels)
    np.testing.assert_array_equal(pixels_of(given), read_image(path, in_channels, 8))


def test_what_a_file_is_named_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "picture")
    (given,) = read(tmp_path / "picture")
    np.testing.assert_array_equal(pixels_of(given)[0], noise(8, 8))


def test_the_images_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    paths = ["a.JPG", "b.png", *(f"c/{index:02}.png" for index in range(20)), "c/d/e.jpeg", "z/a.png"]
    for path in np.random.default_rng(0).permutation(paths):
        save(tmp_path / path)
    (tmp_path / "notes.txt").touch()
    assert [os.path.relpath(name, tmp_path) for name in names(read(tmp_path))] == paths


@pytest.mark.parametrize("hidden", ["._a.png", ".git/a.png"])
def test_what_begins_with_a_dot_is_left_out_of_a_folder(hidden: str, tmp_path: Path) -> None:
    save(tmp_path / hidden)
    save(tmp_path / "b.png")
    assert names(read(tmp_path)) == [str(tmp_path / "b.png")]


def test_paths_are_taken_in_the_order_they_are_given_in(tmp_path: Path) -> None:
    paths = [save(tmp_path / name) for name in ("b.png", "a.png")]
    assert names(read(*paths)) == [str(path) for path in paths]


def test_images_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    waiting = read_all([tmp_path / "a.png", tmp_path / "b.png"], 1, 8)
    assert next(waiting).error
    save(tmp_path / "b.png")
    assert next(waiting).pixels is not None


# what is wrong with some


def test_what_cannot_be_read_does_not_stop_the_rest(tmp_path: Path) -> None:
    save(tmp_path / "folder" / "b.png")
    (tmp_path / "folder" / "a.png").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").write_bytes(idx(noise(3, 8, 8))[:-100])
    os.mkfifo(tmp_path / "pipe")
    last = save(tmp_path / "last.png")
    paths = [tmp_path / name for name in ("folder", "nothing", "empty", "half", "pipe")]
    told = [
        (os.path.relpath(each.name, tmp_path), each.error.replace(f"{tmp_path}/", "")) for each in read(*paths, last)
    ]
    assert told == [
        ("folder/a.png", f"folder/a.png is not a {KNOWN} image."),
        ("folder/b.png", ""),
        ("nothing", "nothing is not there."),
        ("empty", "empty holds no image files. Name an IDX file itself."),
        ("half[0]", ""),
        ("half", "half is shorter than it says. It ends in image 1 of 3."),
        ("pipe", "pipe is neither a file nor a folder."),
        ("last.png", ""),
    ]


def test_a_folder_that_may_not_be_entered_is_told_and_the_rest_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a" / "a.png")
    save(tmp_path / "b" / "b.png")
    scandir = os.scandir

    def refuse_a(path: str) -> Any:
        if path.endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_a)
    assert [each.error for each in read(tmp_path)] == [
        "",
        f"{tmp_path / 'a'} cannot be looked into: Permission denied.",
    ]


def test_a_file_that_the_system_does_not_give_is_told(tmp_path: Path) -> None:
    (given,) = read(tmp_path / ("a" * 300))
    assert given.error.endswith("cannot be read: File name too long.")


def test_a_file_has_no_two_channels(tmp_path: Path) -> None:
    (given,) = read(save(tmp_path / "a.png"), in_channels=2)
    assert "the network takes 2" in given.error


# IDX files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 1, 8, 8)])
def test_the_images_of_an_idx_file_are_named_by_their_place(
    pack: type[bytes], shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "images"
    path.write_bytes(pack(idx(noise(*shape))))
    given = read(path)
    assert names(given) == [f"{path}[{index}]" for index in range(3)]
    np.testing.assert_array_equal(np.stack([pixels_of(each) for each in given]), noise(*shape).reshape(3, 1, 8, 8))


def test_as_many_channels_as_the_network_takes_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx(noise(1, 2, 8, 8)))
    np.testing.assert_array_equal(pixels_of(*read(tmp_path / "images", in_channels=2)), noise(1, 2, 8, 8)[0])


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 10), (3, 20, 10), (8, 8), (3, 8, 8)])
def test_an_image_of_another_form_is_as_it_would_be_as_a_file(
    shape: tuple[int, ...], in_channels: int, tmp_path: Path
) -> None:
    pixels = noise(*shape)
    (tmp_path / "images").write_bytes(idx(pixels[None]))
    file = save(tmp_path / "a.png", pixels if len(shape) == 2 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    (ours,), (theirs,) = read(tmp_path / "images", in_channels=in_channels), read(file, in_channels=in_channels)
    np.testing.assert_array_equal(pixels_of(ours), pixels_of(theirs))


BROKEN = {
    "labels": (idx(noise(5)), "is an IDX file of 1 dimensions"),
    "five channels": (idx(noise(1, 5, 8, 8)), "holds images of 5 x 8 x 8"),
    "no pixels": (header(1, 0, 8), "holds images of 0 x 8"),
    "an image of terabytes": (header(1, 1 << 31, 1 << 31), "holds images of"),
    "many images that are not there": (header((1 << 32) - 1, 8, 8), "is shorter than it says. It ends in image 0"),
    "half a header": (header(1, 8, 8)[:7], "is shorter than it says"),
    "more than it says": (idx(noise(2, 8, 8)) + b"!", "is longer than it says: 2 images"),
    "gzipped text": (gzip.compress(b"hello"), "is not an IDX file"),
    "half a gzip file": (gzip.compress(idx(noise(1, 8, 8)))[:-20], "is damaged"),
    "a gzip file with an error": (gzip.compress(idx(noise(9, 8, 8)))[:-8] + bytes(8), "is damaged"),
    "a gzip header alone": (b"\x1f\x8b", "is damaged"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_idx_file_is_told(what: str, tmp_path: Path) -> None:
    content, told = BROKEN[what]
    (tmp_path / "images").write_bytes(content)
    assert told in read(tmp_path / "images")[-1].error


# inverted images

DARK, LIGHT = (0.286,), (0.87,)  # means of training pixels


IMAGES = np.concatenate([clothes("train"), clothes()])[:, None]


def test_no_image_of_fashion_mnist_looks_inverted() -> None:
    assert not looks_inverted(IMAGES, DARK).any()


def test_every_inverted_image_of_fashion_mnist_does() -> None:
    assert looks_inverted(255 - IMAGES, DARK).all()


def test_on_light_ground_it_is_the_reverse() -> None:
    assert looks_inverted(IMAGES, LIGHT).all()
    assert not looks_inverted(255 - IMAGES, LIGHT).any()


@pytest.mark.parametrize("mean", [(0.45,), (0.34,), (0.66,), (0.1, 0.1, 0.1), (0.9, 0.9, 0.9)])
def test_photographs_have_backgrounds_of_all_kinds(mean: tuple[float, ...]) -> None:
    images = np.stack([np.full((len(mean), 8, 8), value, np.uint8) for value in (0, 255)])
    assert not looks_inverted(images, mean).any()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_images_have_a_border(size: int) -> None:
    images = np.stack([np.full((1, size, size), value, np.uint8) for value in (0, 255)])
    assert looks_inverted(images, DARK).tolist() == [False, True]


@pytest.mark.parametrize(("border", "inside", "inverted"), [(127, 255, False), (128, 0, True)])
def test_the_outermost_pixels_alone_decide(border: int, inside: int, inverted: bool) -> None:
    image = np.full((1, 1, 8, 8), border, np.uint8)
    image[:, :, 1:-1, 1:-1] = inside
    assert looks_inverted(image, DARK).tolist() == [inverted]
