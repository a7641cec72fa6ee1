"""The data set that a configuration names, and its record in a run directory."""

import json
from collections.abc import Callable

import pytest
from helpers.data_mirrors import Site

from cnnbench.config import DataConfig
from cnnbench.data import datasets, download
from cnnbench.data.catalog import CATALOG, Dataset, get
from cnnbench.errors import ConfigError

Make = Callable[..., DataConfig]


def test_public_data_set_is_prefetched_and_loaded_from_the_root(
    fashion: Site, data_config: Make
) -> None:
    fashion.put(fashion.cache)
    config = data_config(name="fashion_mnist", root=str(fashion.cache))
    assert datasets.dataset_info(config) == fashion.dataset
    datasets.prefetch_dataset(config)
    assert len(download._prefetched) == 1
    dataset, arrays = datasets.load_dataset(config)
    assert (dataset, len(arrays.train_labels)) == (fashion.dataset, 30)
    assert download._prefetched == {}


def test_folder_dataset_is_not_prefetched(fashion: Site, data_config: Make) -> None:
    datasets.prefetch_dataset(data_config(name="folder", path="photos", image_size=28))
    assert download._prefetched == {}


def test_unknown_data_set_is_refused(data_config: Make) -> None:
    with pytest.raises(ConfigError, match=r"data\.name=mnits is not known\. Did you mean 'mnist'"):
        datasets.dataset_info(data_config(name="mnits"))


def test_normalization_off_keeps_pixels(data_config: Make) -> None:
    dataset = get("cifar10")
    assert datasets.normalization(data_config(), dataset) == (dataset.mean, dataset.std)
    assert datasets.normalization(data_config(normalize=False), dataset) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("name", CATALOG)
def test_record_is_read_back_as_the_data_set(name: str) -> None:
    dataset = get(name)
    record = json.loads(json.dumps(dataset.as_record()))
    assert {"path", "validation_examples"}.isdisjoint(record)  # recorded for folder datasets only
    again = Dataset.from_record({**record, "notes": ["an untrusted note"], "split_here": True})
    assert again.as_record() == dataset.as_record()
    assert (again.notes, again.split_here) == ((), False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("title", 7), ("sha256", []), ("sha256", {"file": 7}), ("test_examples", True)),
        *(("mean", [float("inf")]), ("std", [float("nan")]), ("path", 7), ("train_examples", 0)),
        *(("skipped", "a.png"), ("skipped", [7])),
        *(("validation_examples", -1), ("name", ...), ("classes", ...), ("licence", ...)),
    ],
)
def test_invalid_record_is_refused(field: str, value: object) -> None:
    record = {**get("mnist").as_record(), "path": "", field: value}
    if value is ...:
        del record[field]
    with pytest.raises(ValueError, match=f"cnnbench writes no such record: .*{field}"):
        Dataset.from_record(record)
