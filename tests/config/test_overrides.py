"""Changes to the recorded configuration of a run that is resumed or used."""

from typing import Any

import pytest
from helpers.config_values import compose_values, replace_values
from helpers.paths import CONF

from cnnbench import config
from cnnbench.errors import ConfigError


def test_new_tracker_of_a_run_has_the_values_of_its_yaml(
    plain_values: dict[str, Any],
) -> None:
    changed = config.apply_overrides(plain_values, {"tracker": ["tensorboard", "mlflow", "wandb"]})
    composed = config.load_config(compose_values("tracker=[tensorboard,mlflow,wandb]"))
    assert changed.tracker == composed.tracker


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tracker": "none"}, {}),
        ({"tracker": "tensorboard"}, {"tensorboard": {}}),
        ({"tracker": "mlflow"}, {"mlflow": {"uri": None, "experiment": "cnnbench"}}),
        ({"tracker.mlflow.uri": "x"}, {"mlflow": {"uri": "x", "experiment": "mine"}}),
        (
            {"tracker.mlflow.uri": "x", "tracker": "mlflow"},
            {"mlflow": {"uri": "x", "experiment": "cnnbench"}},
        ),
    ],
    ids=str,
)
def test_trackers_of_a_run_are_replaced_or_changed(
    changes: dict[str, Any], expected: dict[str, Any], plain_values: dict[str, Any]
) -> None:
    recorded = {**plain_values, "tracker": {"mlflow": {"uri": "theirs", "experiment": "mine"}}}
    assert config.as_dict(config.apply_overrides(recorded, changes))["tracker"] == expected


@pytest.mark.parametrize(
    "choice", ["mlfow", None, ["mlflow", 7], [["mlflow"]], {"mlflow": 1}], ids=repr
)
def test_unknown_tracker_is_refused(choice: object, plain_values: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"tracker=.* is not known\..* Allowed: mlflow, none, tensorboard, wandb"
    ):
        config.apply_overrides(plain_values, {"tracker": choice})


@pytest.mark.parametrize(
    "tracker", [None, 7, "x", [1], {"mlflow": 7}, {"mlflow": []}, {"x": 1}], ids=repr
)
def test_invalid_recorded_trackers_are_refused(
    tracker: object, plain_values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        config.apply_overrides({**plain_values, "tracker": tracker}, {"tracker.mlflow.uri": "x"})


def test_list_of_trackers_is_parsed() -> None:
    assert config.parse_changes(["tracker=[tensorboard,mlflow]"], config.RESUME_OVERRIDES, "") == {
        "tracker": ["tensorboard", "mlflow"]
    }


FOLDER = {"data__name": "folder", "data__path": "photos"}


def test_new_choice_of_a_group_keeps_no_value_of_the_old_one(values: dict[str, Any]) -> None:
    photos = replace_values(values, **FOLDER, data__channels=3, data__image_size=64)
    changes = config.expand_groups({"data": "mnist", "data.resize": 28}, CONF)
    data = config.apply_overrides(photos, changes).data
    assert (data.name, data.path, data.image_size, data.channels) == ("mnist", None, None, None)


def test_new_choice_of_a_group_sets_every_key_of_its_yaml(values: dict[str, Any]) -> None:
    changes = config.expand_groups({"data": "folder", "data.path": "photos"}, CONF)
    data = config.apply_overrides(
        replace_values(values, data__root="mine", data__validation=7), changes
    ).data
    assert (data.name, data.root, data.validation, data.image_size) == ("folder", None, 0.1, 28)
