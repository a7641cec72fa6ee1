"""Evaluation sets: matching of classes, choice of images, and refused data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from helpers.image_folders import fill, put_images
from helpers.paths import CONF
from hydra import compose, initialize_config_dir

from cnnbench import config
from cnnbench.config import Config, DataConfig
from cnnbench.data import datasets
from cnnbench.data.catalog import Dataset, get
from cnnbench.data.eval_set import EvalSet, load_eval_set
from cnnbench.errors import ConfigError

pytestmark = pytest.mark.usefixtures("empty_cache")

Make = Callable[..., DataConfig]
Load = Callable[..., EvalSet]

SAMPLE = get("sample")
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def base_config() -> Config:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return config.load_config(config.to_plain(compose("train")))


@pytest.fixture
def load(base_config: Config) -> Load:
    """Load the evaluation set of a data configuration for a network trained on a data set."""

    def load(
        data: DataConfig,
        trained_on: Dataset,
        overrides: tuple[str, ...] = ("data.path",),
        match_by_order: bool = False,
    ) -> EvalSet:
        settings = msgspec.structs.replace(base_config, data=data)
        cpu = torch.device("cpu")
        return load_eval_set(settings, trained_on, Path("run"), overrides, cpu, match_by_order)

    return load


def test_public_data_set_is_evaluated_on_its_test_set(load: Load, data_config: Make) -> None:
    eval_set = load(data_config(train_examples=10), SAMPLE)
    _, arrays = datasets.load_dataset(data_config())
    assert eval_set.title == "the test set of part of Fashion-MNIST"
    assert torch.equal(eval_set.examples.images[:, 0], torch.tensor(arrays.test_images))
    assert eval_set.examples.labels.tolist() == arrays.test_labels.tolist()
    assert (eval_set.notes, eval_set.matched_by_order) == ((), False)


def test_classes_are_matched_by_name(load: Load, data_config: Make) -> None:
    trained_on = replace(SAMPLE, classes=SAMPLE.classes[::-1])
    labels = load(data_config(), SAMPLE).examples.labels
    assert torch.equal(load(data_config(), trained_on).examples.labels, 9 - labels)


def test_classes_are_matched_by_order_on_request_only(load: Load, data_config: Make) -> None:
    trained_on = replace(SAMPLE, classes=DIGITS)
    with pytest.raises(ConfigError, match=r"T-shirt/top as 0, .* add: --match-by-order"):
        load(data_config(), trained_on)
    eval_set = load(data_config(), trained_on, match_by_order=True)
    assert eval_set.matched_by_order
    assert eval_set.title.endswith(", classes matched by order")
    assert "T-shirt/top as 0, Trouser as 1" in eval_set.notes[0]


def test_matching_by_order_has_no_effect_on_known_classes(load: Load, data_config: Make) -> None:
    eval_set = load(data_config(), SAMPLE, match_by_order=True)
    assert not eval_set.matched_by_order
    assert "--match-by-order has no effect" in eval_set.notes[0]


def test_images_of_other_channels_are_refused(load: Load, data_config: Make) -> None:
    with pytest.raises(ConfigError, match="has images of 1 channel; the network takes 3"):
        load(data_config(), replace(SAMPLE, mean=(0.5,) * 3, std=(0.5,) * 3))


def test_other_folder_without_a_test_part_is_evaluated_whole(
    load: Load, folder: Path, folder_config: Make, tmp_path: Path
) -> None:
    fill(folder, {"cats": 6, "dogs": 6})
    put_images(tmp_path / "others", [f"{name}/{i}.png" for name in ("cats", "dogs") for i in "123"])
    trained_on, _ = datasets.load_dataset(folder_config())
    eval_set = load(folder_config(path=str(tmp_path / "others")), trained_on)
    assert eval_set.title == "all images of others"
    assert sorted(eval_set.examples.labels.tolist()) == [0, 0, 0, 1, 1, 1]


def test_training_folder_is_evaluated_on_its_test_images(
    load: Load, folder: Path, folder_config: Make
) -> None:
    fill(folder, {"cats": 6, "dogs": 6})
    trained_on, arrays = datasets.load_dataset(folder_config())
    eval_set = load(folder_config(path="moved"), trained_on, overrides=())
    assert eval_set.title == "the test set of photos"
    assert torch.equal(eval_set.examples.images, torch.tensor(arrays.test_images))


def test_changed_training_folder_is_refused(load: Load, folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 6, "dogs": 6})
    trained_on, _ = datasets.load_dataset(folder_config())
    put_images(folder, ["cats/new.png"])
    with pytest.raises(ConfigError, match=f"run was trained on images in {folder}"):
        load(folder_config(), trained_on)
