"""Notes on images of a folder dataset that occur twice: in two classes, or to train and to test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.data_mirrors import write_files
from helpers.image_folders import make_picture, put_images

from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.data.catalog import FILES

pytestmark = pytest.mark.usefixtures("empty_cache")

Make = Callable[..., DataConfig]


@pytest.fixture
def parts(folder: Path) -> Path:
    """Create train/, val/ and test/ with different images of two classes."""
    for part, number in (("train", 5), ("val", 2), ("test", 4)):
        names = [f"{name}/{part}{i}.png" for name in ("cats", "dogs") for i in range(number)]
        put_images(folder / part, names)
    return folder


def copies_noted(config: DataConfig) -> tuple[str, ...]:
    """Return the notes but that on the validation folder."""
    return datasets.load_dataset(config)[0].notes[1:]


def test_different_images_are_not_noted(parts: Path, folder_config: Make) -> None:
    assert copies_noted(folder_config()) == ()


def test_copies_within_a_class_and_part_are_not_noted(parts: Path, folder_config: Make) -> None:
    shutil.copy(parts / "train/cats/train0.png", parts / "train/cats/copy.png")
    shutil.copy(parts / "test/cats/test0.png", parts / "test/cats/copy.png")
    assert copies_noted(folder_config()) == ()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_note_on_test_images_that_are_also_trained_on(
    parts: Path, folder_config: Make, number: int
) -> None:
    """Count all of them, and name two."""
    for i in range(number):
        shutil.copy(parts / f"train/cats/train{i}.png", parts / f"test/cats/copy{i}.png")
    pairs = [f"test/cats/copy{i}.png = train/cats/train{i}.png" for i in range(number)]
    assert copies_noted(folder_config()) == (
        f"{number} of the {8 + number} test images are also among the training images, "
        f"such as {', '.join(pairs[:2])}.",
    )


def test_validation_images_count_as_trained_on(parts: Path, folder_config: Make) -> None:
    shutil.copy(parts / "val/dogs/val1.png", parts / "test/dogs/copy.png")
    (note,) = copies_noted(folder_config())
    assert note.endswith("such as test/dogs/copy.png = val/dogs/val1.png.")


def test_note_on_images_in_several_classes(parts: Path, folder_config: Make) -> None:
    """Count a picture once however often it occurs."""
    for name in ("dogs/a.png", "dogs/b.png", "cats/x.png"):
        shutil.copy(parts / "train/cats/train1.png", parts / "train" / name)
    shutil.copy(parts / "val/dogs/val0.png", parts / "val/cats/d.png")
    shutil.copy(parts / "test/cats/test3.png", parts / "test/dogs/e.png")
    assert copies_noted(folder_config()) == (
        "In several classes, pixel for pixel: 3 images, such as "
        "train/cats/train1.png = train/dogs/a.png, val/cats/d.png = val/dogs/val0.png.",
    )


def test_image_of_another_class_in_the_test_part_has_both_notes(
    parts: Path, folder_config: Make
) -> None:
    shutil.copy(parts / "train/cats/train1.png", parts / "test/dogs/x.png")
    assert copies_noted(folder_config()) == (
        "In several classes, pixel for pixel: 1 image, such as "
        "train/cats/train1.png = test/dogs/x.png.",
        "1 of the 9 test images are also among the training images, such as "
        "test/dogs/x.png = train/cats/train1.png.",
    )


def test_copies_are_found_in_other_formats_and_sizes(parts: Path, folder_config: Make) -> None:
    """Compare the pixels that the network sees."""
    picture = make_picture(3, size=(6, 6))
    picture.save(parts / "train/cats/lossless.webp", lossless=True)
    picture.save(parts / "test/cats/other.bmp")
    (note,) = copies_noted(folder_config())
    assert note.endswith("such as test/cats/other.bmp = train/cats/lossless.webp.")


def test_control_characters_in_names_are_escaped(parts: Path, folder_config: Make) -> None:
    shutil.copy(parts / "train/cats/train0.png", parts / "test/cats/\x1b[2J.png")
    (note,) = copies_noted(folder_config())
    assert "such as 'test/cats/\\x1b[2J.png' = train/cats/train0.png." in note


def test_images_of_idx_files_are_named_by_their_number(folder: Path, folder_config: Make) -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 4, 4), np.uint8)
    images[5], images[14] = images[2], images[3]
    labels = np.array([0, 1] * 8, np.uint8)
    contents = (images[:12], labels[:12], images[12:], labels[12:])
    write_files(folder, dict(zip(FILES, contents, strict=True)))
    train, test = FILES[0], FILES[2]
    assert datasets.load_dataset(folder_config())[0].notes == (
        f"In several classes, pixel for pixel: 2 images, such as {train}[2] = {train}[5], "
        f"{train}[3] = {test}[2].",
        "1 of the 4 test images are also among the training images, such as "
        f"{test}[2] = {train}[3].",
    )
