"""The catalog's facts, and the sample that is shipped with the package."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from mirrors import ByFile

from cnnbench.data import storage
from cnnbench.data.catalog import CATALOG, FILES, get
from cnnbench.errors import ConfigError

SAMPLE_FOLDER = get("sample").places[0]
PARTS = ("train", "t10k")
BYTE = np.dtype(np.uint8)


def pairs(arrays: ByFile, part: str) -> set[tuple[bytes, int]]:
    images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize("name", CATALOG)
def test_get_gives_the_data_set_of_that_name(name: str) -> None:
    assert get(name).name == name


def test_get_of_an_unknown_name_suggests_a_near_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'fashion_mnist'"):
        get("fashion-mnist")


@pytest.mark.parametrize("name", FILES)
def test_the_size_of_a_file_follows_from_the_facts(name: str) -> None:
    content = gzip.decompress((SAMPLE_FOLDER / f"{name}.gz").read_bytes())
    assert {form.size for form in get("sample").forms(name)} == {len(content)}


def test_no_two_files_of_the_catalog_share_a_digest() -> None:
    digests = [digest for dataset in CATALOG.values() for digest in dataset.sha256.values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", [name for name in CATALOG if name != "sample"])
def test_the_folder_that_is_fetched_into_is_looked_in(name: str) -> None:
    assert name in get(name).folders


@pytest.mark.parametrize("name", FILES)
def test_sample_file_has_the_catalog_digest(name: str) -> None:
    content = gzip.decompress((SAMPLE_FOLDER / f"{name}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == get("sample").sha256[name]


def test_sample_loads_as_bytes_of_the_documented_shapes(sample: ByFile) -> None:
    assert {name: (array.shape, array.dtype) for name, array in sample.items()} == {
        "train-images-idx3-ubyte": ((5000, 28, 28), BYTE),
        "train-labels-idx1-ubyte": ((5000,), BYTE),
        "t10k-images-idx3-ubyte": ((1000, 28, 28), BYTE),
        "t10k-labels-idx1-ubyte": ((1000,), BYTE),
    }


@pytest.mark.parametrize("part", PARTS)
def test_sample_has_the_numbers_of_examples_the_catalog_says(sample: ByFile, part: str) -> None:
    dataset = get("sample")
    expected = {"train": dataset.train_examples, "t10k": dataset.test_examples}
    assert len(sample[f"{part}-labels-idx1-ubyte"]) == expected[part]


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
    assert storage.find(get("sample"), FILES[0], str(tmp_path), [])[0] == SAMPLE_FOLDER / f"{FILES[0]}.gz"


@pytest.mark.parametrize("part", PARTS)
def test_sample_is_a_part_of_fashion_mnist(sample: ByFile, full_set: ByFile, part: str) -> None:
    assert pairs(sample, part) <= pairs(full_set, part)


def test_catalog_has_the_mean_and_deviation_of_the_training_pixels(full_set: ByFile) -> None:
    pixels, dataset = full_set["train-images-idx3-ubyte"], get("fashion_mnist")
    mean = pixels.mean()
    std = (np.square(pixels, dtype=np.uint16).mean() - mean**2) ** 0.5
    assert (mean / 255, std / 255) == pytest.approx((dataset.mean[0], dataset.std[0]), abs=1e-4)
