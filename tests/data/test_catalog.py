"""The catalog's facts, and the sample that is shipped with the package."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from mirrors import ByFile

from cnnbench.data.catalog import CATALOG, FILES, get
from cnnbench.data.download import find_files
from cnnbench.errors import ConfigError

SAMPLE_FOLDER = get("sample").system_folders[0]
PARTS = ("train", "t10k")

# the classes, the images to train on and to test on
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


def pairs(arrays: ByFile, part: str) -> set[tuple[bytes, int]]:
    images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def test_sizes_are_those_of_the_publications() -> None:
    sizes = {
        name: (len(set(dataset.classes)), dataset.train_examples, dataset.test_examples)
        for name, dataset in CATALOG.items()
    }
    assert sizes == SIZES


@pytest.mark.parametrize("name", CATALOG)
def test_get_returns_the_data_set_of_that_name(name: str) -> None:
    assert get(name).name == name


def test_get_of_an_unknown_name_suggests_a_near_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'fashion_mnist'"):
        get("fashion-mnist")


def test_no_two_files_of_the_catalog_share_a_digest() -> None:
    datasets = [dataset for name, dataset in CATALOG.items() if name not in ("emnist_balanced", "emnist_digits")]
    digests = [digest for dataset in datasets for digest in dataset.sha256.values()]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {64}


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "emnist_letters"])
def test_classes_are_in_the_order_of_the_labels(name: str) -> None:
    classes = get(name).classes
    assert classes == tuple(sorted(classes))


def test_classes_of_emnist_balanced_are_those_of_its_mapping() -> None:
    """Fifteen lower-case letters look like the upper-case ones, and share their classes."""
    merged = set("cijklmopsuvwxyz")
    small = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in merged]
    assert get("emnist_balanced").classes == (*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", *small)


def test_sample_loads_as_bytes_of_the_documented_shapes(sample: ByFile) -> None:
    assert {name: (array.shape, array.dtype.name) for name, array in sample.items()} == {
        "train-images-idx3-ubyte": ((5000, 28, 28), "uint8"),
        "train-labels-idx1-ubyte": ((5000,), "uint8"),
        "t10k-images-idx3-ubyte": ((1000, 28, 28), "uint8"),
        "t10k-labels-idx1-ubyte": ((1000,), "uint8"),
    }


@pytest.mark.parametrize("name", FILES)
def test_sample_file_has_the_catalog_digest_and_no_more_bytes_than_it_may(name: str) -> None:
    content = gzip.decompress((SAMPLE_FOLDER / f"{name}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == get("sample").sha256[name]
    assert len(content) <= get("sample").max_bytes(name) == 16 + 5000 * 28 * 28


@pytest.mark.parametrize(("part", "per_class"), [("train", 500), ("t10k", 100)])
def test_sample_has_as_many_of_each_class(sample: ByFile, part: str, per_class: int) -> None:
    assert np.bincount(sample[f"{part}-labels-idx1-ubyte"]).tolist() == [per_class] * 10


def test_sample_bears_its_licence() -> None:
    licence = (SAMPLE_FOLDER / "LICENSE").read_text()
    assert "The MIT License" in licence
    assert "Zalando" in licence


def test_sample_is_read_from_the_package_before_any_other_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        (tmp_path / f"{name}.gz").write_bytes((SAMPLE_FOLDER / f"{name}.gz").read_bytes())
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path))
    found = find_files(get("sample"), str(tmp_path))
    assert {path.parent for path in found.paths.values()} == {SAMPLE_FOLDER}


@pytest.mark.parametrize("part", PARTS)
def test_sample_is_a_part_of_fashion_mnist(sample: ByFile, full_set: ByFile, part: str) -> None:
    assert pairs(sample, part) <= pairs(full_set, part)


def test_catalog_has_the_mean_and_std_of_the_training_pixels(full_set: ByFile) -> None:
    pixels, dataset = full_set["train-images-idx3-ubyte"], get("fashion_mnist")
    mean = pixels.mean()
    std = (np.square(pixels, dtype=np.uint16).mean() - mean**2) ** 0.5
    assert (mean / 255, std / 255) == pytest.approx((dataset.mean[0], dataset.std[0]), abs=1e-4)
