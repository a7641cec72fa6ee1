"""Values of the schema that depend on each other, and keys that may be missing."""

from typing import Any

import pytest
from helpers.config_values import compose_values, replace_values

from cnnbench import config
from cnnbench.errors import ConfigError
from cnnbench.training.preflight import check

FOLDER = {"data__name": "folder", "data__path": "photos"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__folds": 5}, "data.folds=5 data.fold=0"),
        ({"data__fold": 0}, "data.folds=5 data.fold=0"),
        ({"data__folds": 1, "data__fold": 0}, "data.folds=1 is out of range"),
        ({"data__folds": 5, "data__fold": 5}, "data.fold=5 is out of range.*at most 4"),
        ({"data__folds": 5, "data__fold": -1}, "data.fold=-1 is out of range"),
        (
            {"data__path": "photos"},
            "data.path=photos is for data=folder, not for data=fashion_mnist",
        ),
        ({"data__image_size": 32}, "data.image_size=32 is for data=folder"),
        ({"data__channels": 3}, "data.channels=3 is for data=folder"),
        (
            {"data__skip_unreadable": True},
            "data.skip_unreadable=true is for data=folder, not for data=fashion_mnist",
        ),
        ({"data__name": "folder"}, "data=folder needs data.path=DIR"),
        ({"data__name": "folder", "data__path": ""}, "data=folder needs data.path=DIR"),
        ({**FOLDER, "data__root": "cache"}, "data.root=cache is for data sets that are fetched"),
        (
            {**FOLDER, "data__channels": 2},
            "data.channels=2 is not known. Allowed: 1 for gray, 3 for color",
        ),
        ({**FOLDER, "data__image_size": 0}, "data.image_size=0 is out of range"),
        (
            {"augment__mixup": 0.2, "augment__cutmix": 1.0},
            "mixup=0.2 and augment.cutmix=1.0 .* Set augment.mixup=0 or",
        ),
        ({"train__ema_decay": 1.0}, "ema_decay=1 keeps the initial weights"),
        (
            {"train__label_smoothing": 0.1, "train__loss": "mse"},
            "label_smoothing=0.1 is for .*cross_entropy, not mse",
        ),
        (
            {"train__label_smoothing": 0.1, "train__loss": "nll"},
            "label_smoothing=0.1 is for .*cross_entropy, not nll",
        ),
        (
            {"train__fail_if_not_learning": True, "train__epochs": 1},
            "fail_if_not_learning=true .* train.epochs=2",
        ),
    ],
    ids=str,
)
def test_conflicting_values_are_refused(
    changes: dict[str, object], message: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load_config(replace_values(values, **changes))


@pytest.mark.parametrize("key", ["in_channels", "num_classes", "image_size"])
def test_arguments_that_follow_from_the_data_cannot_be_set(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        check(config.load_config(compose_values("device=cpu", f"+model.{key}=3")))


def test_keys_of_folder_datasets_may_be_missing(values: dict[str, Any]) -> None:
    for key in ("path", "image_size", "channels"):
        del values["data"][key]
    assert config.load_config(values).data.path is None


def test_group_of_trackers_may_be_missing(values: dict[str, Any]) -> None:
    del values["tracker"]
    assert config.load_config(values).tracker == config.TrackerConfig()


def load_trackers(*overrides: str) -> dict[str, Any]:
    """Return the trackers of a composed configuration, as a run records them."""
    return config.as_dict(config.load_config(compose_values(*overrides)))["tracker"]


def test_no_tracker_is_used_by_default() -> None:
    assert load_trackers() == {}


def test_several_trackers_are_chosen_as_a_list() -> None:
    both = load_trackers("tracker=[tensorboard,mlflow]")
    assert both == {**load_trackers("tracker=tensorboard"), **load_trackers("tracker=mlflow")}
