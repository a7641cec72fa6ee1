"""The engine built from a configuration, its network and its record."""

from typing import Any

import pytest
import torch
from helpers.config_changes import change

from cnnbench.config import Config
from cnnbench.data.catalog import get
from cnnbench.errors import ConfigError
from cnnbench.training.build import balance_classes, build_engine, describe_engine, on_meta
from cnnbench.training.device import Device
from cnnbench.training.distributed import DistributedEngine
from cnnbench.training.engine import EagerEngine

DATASET = get("sample")


def initial_weights(config: Config) -> dict[str, Any]:
    return build_engine(config, DATASET).model.state_dict()


def test_engine_classifies_images_into_the_classes_of_the_dataset(config: Config) -> None:
    engine = build_engine(config, DATASET)
    images = torch.zeros(2, DATASET.in_channels, 28, 28, dtype=torch.uint8)
    assert type(engine) is EagerEngine
    assert engine.classify(images).shape == (2, len(DATASET.classes))


def test_weights_depend_on_the_seed_alone(config: Config) -> None:
    first, second = initial_weights(config), initial_weights(config)
    change(config, seed=config.seed + 1)
    other = initial_weights(config)
    assert all(torch.equal(second[name], weight) for name, weight in first.items())
    assert any(not torch.equal(other[name], weight) for name, weight in first.items())


def test_device_is_resolved_only_if_none_is_given(config: Config) -> None:
    device = Device(torch.device("cpu"), "fp64", channels_last=False)
    assert build_engine(config, DATASET, device).device is device
    assert build_engine(config, DATASET).device.torch_device.type == "cpu"
    assert build_engine(config, DATASET, device).model(torch.zeros(1, 1, 4, 4).double()).dtype == (
        torch.float64
    )


def test_reference_layers_replace_those_of_pytorch(config: Config) -> None:
    change(config, reference__layers=True)
    layers = {type(module).__module__ for module in build_engine(config, DATASET).model.modules()}
    assert any(name.startswith("cnnbench.reference.") for name in layers)
    change(config, reference__layers=False)
    layers = {type(module).__module__ for module in build_engine(config, DATASET).model.modules()}
    assert not any(name.startswith("cnnbench.reference.") for name in layers)


def test_several_processes_get_the_distributed_engine(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    engine = build_engine(config, DATASET)
    assert type(engine) is DistributedEngine
    assert (describe_engine(engine)["world_size"], describe_engine(engine)["backend"]) == (
        2,
        "gloo",
    )


def test_meta_network_and_images_take_no_memory(config: Config) -> None:
    network, images = on_meta(config, DATASET, 7)
    assert (images.shape, images.device.type) == ((7, 1, 4, 4), "meta")
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_record_describes_the_device_and_its_settings(config: Config) -> None:
    record = describe_engine(build_engine(config, DATASET))
    assert record["device"] == "cpu"
    assert record["threads"] == 1
    assert (record["engine"], record["compile"], record["tta"]) == ("eager", False, "none")
    assert (record["world_size"], record["backend"]) == (1, None)


def test_balanced_classes_have_equal_weights_in_sum_and_a_mean_of_1(config: Config) -> None:
    engine = build_engine(config, DATASET)
    labels = torch.arange(10).repeat_interleave(torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 55]))
    balance_classes(engine, DATASET, labels)
    assert engine.class_weights is not None
    weights = engine.class_weights[labels]
    assert weights.mean().item() == pytest.approx(1)
    sums = [weights[labels == label].sum().item() for label in range(10)]
    assert sums == pytest.approx([10.0] * 10)


def test_class_without_training_examples_cannot_be_balanced(config: Config) -> None:
    engine = build_engine(config, DATASET)
    message = "needs training examples of each class. There are none of: Trouser, Ankle boot."
    with pytest.raises(ConfigError, match=message):
        balance_classes(engine, DATASET, torch.tensor([0, 2, 3, 4, 5, 6, 7, 8]))
