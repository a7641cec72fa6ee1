"""Facts of the catalog, and the sample data set that is installed with cnnbench."""

from pathlib import Path

import numpy as np
import pytest
from helpers.data_mirrors import ByFile

from cnnbench.data.arrays import measure_mean_and_std
from cnnbench.data.catalog import CATALOG, FILES, get
from cnnbench.data.public_files import find_files

SAMPLE_FOLDER = get("sample").system_folders[0]
PARTS = ("train", "t10k")

# Numbers of classes, training images and test images
SIZES = {
    "fashion_mnist": (10, 60_000, 10_000),
    "mnist": (10, 60_000, 10_000),
    "kmnist": (10, 60_000, 10_000),
    "qmnist": (10, 60_000, 60_000),
    "emnist_balanced": (47, 112_800, 18_800),
    "emnist_letters": (26, 124_800, 20_800),
    "emnist_digits": (10, 240_000, 40_000),
    "cifar10": (10, 50_000, 10_000),
    "cifar100": (100, 50_000, 10_000),
    "sample": (10, 5_000, 1_000),
}


def to_pairs(arrays: ByFile, part: str) -> set[tuple[bytes, int]]:
    """Return the images of a part as bytes, each with its label."""
    images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def test_sizes_match_the_publications() -> None:
    sizes = {
        name: (len(set(dataset.classes)), dataset.train_examples, dataset.test_examples)
        for name, dataset in CATALOG.items()
    }
    assert sizes == SIZES


def test_all_files_of_the_catalog_have_different_digests() -> None:
    datasets = [
        dataset
        for name, dataset in CATALOG.items()
        if name not in ("emnist_balanced", "emnist_digits")
    ]
    digests = [digest for dataset in datasets for digest in dataset.sha256.values()]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {64}


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "emnist_letters"])
def test_classes_are_in_the_order_of_the_labels(name: str) -> None:
    classes = get(name).classes
    assert classes == tuple(sorted(classes))


def test_classes_of_emnist_balanced_match_its_mapping() -> None:
    """Expect no classes for the fifteen lower-case letters that look like upper-case ones."""
    merged = set("cijklmopsuvwxyz")
    small = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in merged]
    assert get("emnist_balanced").classes == (*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", *small)


@pytest.mark.parametrize(("part", "per_class"), [("train", 500), ("t10k", 100)])
def test_sample_is_class_balanced(sample: ByFile, part: str, per_class: int) -> None:
    assert sample[f"{part}-images-idx3-ubyte"].shape == (10 * per_class, 28, 28)
    assert np.bincount(sample[f"{part}-labels-idx1-ubyte"]).tolist() == [per_class] * 10


def test_max_bytes_is_the_size_of_archive_or_images_and_one_percent() -> None:
    assert get("qmnist").max_bytes(FILES[2]) == 60_000 * 28 * 28 + 470_400 + 4096
    assert get("emnist_letters").max_bytes("gzip.zip") == 561_753_746 + 5_617_537 + 4096


def test_sample_has_its_license_file() -> None:
    text = (SAMPLE_FOLDER / "LICENSE").read_text()
    assert "The MIT License" in text
    assert "Zalando" in text


def test_sample_is_read_from_the_package_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        (tmp_path / f"{name}.gz").write_bytes((SAMPLE_FOLDER / f"{name}.gz").read_bytes())
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path))
    found = find_files(get("sample"), str(tmp_path))
    assert {path.parent for path in found.paths.values()} == {SAMPLE_FOLDER}


@pytest.mark.parametrize("part", PARTS)
def test_sample_is_a_subset_of_fashion_mnist(sample: ByFile, full_set: ByFile, part: str) -> None:
    assert to_pairs(sample, part) <= to_pairs(full_set, part)


def test_catalog_has_the_mean_and_std_of_the_training_pixels(full_set: ByFile) -> None:
    dataset = get("fashion_mnist")
    assert measure_mean_and_std(full_set[FILES[0]]) == (dataset.mean, dataset.std)
