"""Plain values become a configuration, and errors name the key."""

import pickle
import re
from typing import Any

import pytest
from helpers.config_values import compose_values, replace_values

from cnnbench import config
from cnnbench.errors import ConfigError


def test_constructor_arguments_are_separate_from_name_and_recipe() -> None:
    assert config.load_config(
        compose_values("model=alexnet", "model.dropout=0.25")
    ).model.arguments == {
        "width": 1.0,
        "dropout": 0.25,
        "padding_mode": "zeros",
    }


def test_configuration_survives_a_round_trip_through_plain_values(
    plain_values: dict[str, Any],
) -> None:
    assert config.as_dict(config.load_config(plain_values)) == plain_values


@pytest.mark.parametrize(
    "root", ["1e5", "007", "true", "null", "~", "2024-01-01", "1:30", "a: b", "# c", "ü", ""]
)
def test_ambiguous_text_survives_a_round_trip_through_yaml(
    root: str, values: dict[str, Any]
) -> None:
    settings = config.load_config(replace_values(values, data__root=root))
    assert config.load_config(config.parse(config.to_yaml(settings))).data.root == root


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("augment.name=non", "none"),
        ("device.name=cudo", "cuda"),
        ("device.precision=fp23", "fp32"),
        ("optimizer.name=adamm", "adam"),
        ("scheduler.name=cosinus", "cosine"),
        ("train.init=kaiming", "kaiming_normal"),
        ("train.init=he", "kaiming_normal"),
        ("train.init=glorot", "xavier_uniform"),
        ("device.name=GPU", "cuda"),
        ("device.precision=half", "fp16"),
        ("train.loss=cross_entropie", "cross_entropy"),
    ],
)
def test_unknown_name_suggests_the_nearest(
    override: str, suggestion: str, values: dict[str, Any]
) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=f"{override} is not known. .*'{suggestion}'"):
        config.load_config(replace_values(values, **{key.replace(".", "__"): value}))


NO_AUTO = "is not known. Allowed: .* or auto"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("device__channels_last", "maybe", f"=maybe {NO_AUTO}"),
        ("device__cuda_graphs", "maybe", f"=maybe {NO_AUTO}"),
        ("device__threads", "many", f"=many {NO_AUTO}"),
        ("device__channels_last", 1, f"=1 {NO_AUTO}"),
        ("device__threads", 1.5, f"=1.5 {NO_AUTO}"),
        ("device__threads", True, f"=true {NO_AUTO}"),
        ("train__epochs", "many", r"=many is not a whole number\.$"),
        ("train__epochs", 2.5, r"=2\.5 is not a whole number\.$"),
        ("train__epochs", 1e3, r"=1000\.0 is not a whole number\. Write train\.epochs=1000\.$"),
        ("train__epochs", True, "=true is not a whole number"),
        ("train__epochs", "9" * 5000, r"=9{80}\.\.\. is not a whole number\.$"),
        ("seed", "x", "=x is not a whole number"),
        ("train__fail_if_not_learning", "perhaps", "=perhaps is not true or false"),
        (
            "train__checkpoint_every",
            3,
            r"=3: .* is a group of keys\. Set one, such as train\.checkpoint_every\.epochs=",
        ),
        ("optimizer__lr", "fast", "=fast is not a number"),
        ("optimizer__lr", [0.1], r"=\[0\.1\] is not a number"),
        ("optimizer__lr", {"a": None}, '={"a": null} is not a number'),
        ("scheduler__gamma", "x", "=x is not a number"),
        ("model__recipe__lr", "x", "=x is not a number"),
        *((key, None, ": ") for key in ("seed", "data__name", "model__name", "model__recipe__lr")),
    ],
)
def test_wrong_type_is_reported_with_its_key(
    key: str, value: object, message: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(key.replace('__', '.'))}{message}"):
        config.load_config(replace_values(values, **{key: value}))


def test_bytes_that_are_not_utf_8_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        config.load_config(replace_values(values, train__epochs="\udcff"))


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        *(("sed", "seed"), ("data.reseize", "data.resize"), ("augment.nam", "augment.name")),
        *(("device.thread", "device.threads"), ("model.recipe.resise", "model.recipe.resize")),
        *(("train.epoch", "train.epochs"), ("train.Batch-Size", "train.batch_size")),
        ("optimizer.momentun", "optimizer.momentum"),
        ("scheduler.warmup_epoch", "scheduler.warmup_epochs"),
        *(("epoch", "train.epochs"), ("learning_rate", "optimizer.lr")),
        ("train.lr", "optimizer.lr"),
    ],
)
def test_unknown_key_suggests_the_nearest(
    key: str, suggestion: str, values: dict[str, Any]
) -> None:
    values = replace_values(values, **{key.replace(".", "__"): 1})
    with pytest.raises(
        ConfigError, match=rf"There is no key '{key}'\. Did you mean '{suggestion}'\?"
    ):
        config.load_config(values)


@pytest.mark.parametrize("key", ["optimizer.lr", "scheduler.gamma", "train.epochs", "train"])
def test_missing_key_or_group_is_reported(key: str, values: dict[str, Any]) -> None:
    group, _, name = key.partition(".")
    del (values[group] if name else values)[name or group]
    with pytest.raises(ConfigError, match=rf"{key}\S* has no value\. Set {key}\S*="):
        config.load_config(values)


def test_message_has_the_dotted_key() -> None:
    with pytest.raises(ConfigError, match=r"^model\.recipe\.resize has no value"):
        config.from_dict(config.Recipe, {}, "model.recipe")


def test_configuration_of_version_0_1_is_refused(values: dict[str, Any]) -> None:
    values["train"]["clip_norm"] = values["train"].pop("grad_clip_norm")
    with pytest.raises(
        ConfigError, match=r"made by cnnbench 0\.1.* Train anew, or use cnnbench 0\.1"
    ):
        config.load_config(values)


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        *(("train__epochs", "05", 5), ("optimizer__lr", "1e-3", 0.001), ("optimizer__lr", 1, 1.0)),
        *(("device__compile", "on", True), ("device__compile", 0, False), ("sweep", 2024, "2024")),
        *(
            ("device__threads", "2", 2),
            ("data__validation", "0.5", 0.5),
            ("data__root", 1.5, "1.5"),
        ),
        ("device__cuda_graphs", "off", False),
        ("train__checkpoint_every__minutes", "3", 3.0),
    ],
)
def test_scalars_are_converted_to_the_type_of_their_key(
    key: str, given: object, expected: object, values: dict[str, Any]
) -> None:
    settings: Any = config.load_config(replace_values(values, **{key: given}))
    for name in key.split("__"):
        settings = getattr(settings, name)
    assert (type(settings), settings) == (type(expected), expected)


def test_configuration_is_picklable_and_frozen(values: dict[str, Any]) -> None:
    settings = config.load_config(values)
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(AttributeError):
        settings.train.epochs = 7  # type: ignore[misc]
