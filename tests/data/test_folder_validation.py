"""Folder datasets with a validation folder: its use, folds and notes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.image_folders import put_images

from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.data.device_data import ResidentData
from cnnbench.data.images import read_image
from cnnbench.data.splits import check_sizes, count_validation
from cnnbench.errors import ConfigError

pytestmark = pytest.mark.usefixtures("empty_cache")

Make = Callable[..., DataConfig]


@pytest.fixture
def three_parts(folder: Path) -> Path:
    for part, number in (("train", 12), ("val", 4), ("test", 2)):
        for name in ("cats", "dogs"):
            put_images(folder, [f"{part}/{name}/{part}{index}.png" for index in range(number)])
    return folder


def load_parts(config: DataConfig, seed: int = 0) -> ResidentData:
    _, arrays = datasets.load_dataset(config)
    return ResidentData.from_arrays(config, arrays, seed, torch.device("cpu"))


def read_sorted(paths: list[Path]) -> list[bytes]:
    """Return the pixels of the files, sorted."""
    return sorted(read_image(path, 3, 6).tobytes() for path in paths)


@pytest.mark.usefixtures("three_parts")
@pytest.mark.parametrize("validation", [0.1, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_the_folders_for_any_seed(
    folder: Path, folder_config: Make, validation: float, seed: int
) -> None:
    config = folder_config(validation=validation)
    data = load_parts(config, seed)
    for part, name in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        files = [*folder.glob(f"{name}/*/*.png")]
        assert sorted(image.numpy().tobytes() for image in part.images) == read_sorted(files)
    note = "Validation set: the 8 images of the validation folder; data.validation is not used."
    assert datasets.load_dataset(config)[0].notes == (note,)
    assert check_sizes(config, datasets.dataset_info(config)) == len(data.train)
    assert count_validation(config, datasets.dataset_info(config)) == len(data.validation)


@pytest.mark.usefixtures("three_parts")
def test_validation_folder_is_not_used_with_validation_0(folder_config: Make) -> None:
    config = folder_config(validation=0)
    data, info = load_parts(config), datasets.dataset_info(config)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 0, 4]
    assert (check_sizes(config, info), count_validation(config, info), info.notes) == (24, 0, ())


@pytest.mark.usefixtures("three_parts")
def test_folds_divide_training_and_validation_folder(folder: Path, folder_config: Make) -> None:
    parts = [load_parts(folder_config(folds=4, fold=fold)).validation for fold in range(4)]
    images = [image.numpy().tobytes() for part in parts for image in part.images]
    files = [*folder.glob("train/*/*.png"), *folder.glob("val/*/*.png")]
    assert sorted(images) == read_sorted(files)
    assert datasets.dataset_info(folder_config(folds=4, fold=0)).notes == ()


@pytest.mark.usefixtures("three_parts")
def test_fewer_training_examples_keep_the_validation_folder(folder_config: Make) -> None:
    data = load_parts(folder_config(train_examples=9))
    assert [len(part) for part in (data.train, data.validation)] == [9, 8]
    message = r"data\.train_examples=25: photos has 24 training examples\."
    with pytest.raises(ConfigError, match=message):
        check_sizes(folder_config(train_examples=25), datasets.dataset_info(folder_config()))
