"""The parameters that Muon updates, the fallback for the others, and its configuration."""

from functools import cache
from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK, LARGE
from torch import nn

from cnnbench import config as configuration
from cnnbench import models
from cnnbench.config import (
    AdamConfig,
    AdamWConfig,
    Config,
    MuonConfig,
    NesterovConfig,
    SgdConfig,
    as_dict,
)
from cnnbench.config.fields import allowed_by, fields_of
from cnnbench.errors import ConfigError
from cnnbench.training.muon import fallback_config, split_parameters


@cache
def build_on_meta(name: str, num_classes: int, size: int = 96, **arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, 1, num_classes, size, **arguments)


def list_fallback_matrices(network: nn.Module) -> list[str]:
    _, for_fallback = split_parameters(network)
    return [
        name
        for name, parameter in network.named_parameters()
        if parameter in set(for_fallback) and parameter.ndim > 1
    ]


def list_classifier_matrices(name: str, **arguments: Any) -> list[str]:
    """Return the names of the matrices whose number of rows changes with the number of classes."""
    ten = dict(build_on_meta(name, 10, **arguments).named_parameters())
    eleven = dict(build_on_meta(name, 11, **arguments).named_parameters())
    return [name for name in ten if ten[name].ndim > 1 and len(ten[name]) != len(eleven[name])]


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_parameter_is_either_for_muon_or_the_fallback(name: str) -> None:
    network = build_on_meta(name, 10)
    for_muon, for_fallback = split_parameters(network)
    assert len(for_muon) + len(for_fallback) == len(list(network.parameters()))
    assert {*for_muon, *for_fallback} == set(network.parameters())


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_muon_gets_only_matrices(name: str) -> None:
    for_muon, _ = split_parameters(build_on_meta(name, 10))
    assert for_muon != []
    assert all(parameter.ndim > 1 for parameter in for_muon)


@pytest.mark.parametrize("name", sorted({*models.names()} - {*LARGE, "nin"}))
def test_classifier_is_the_only_fallback_matrix(name: str) -> None:
    assert list_fallback_matrices(build_on_meta(name, 10)) == list_classifier_matrices(name)


@pytest.mark.parametrize("num_classes", [12, 84, 120, 1024])  # hidden layers have these widths
@pytest.mark.parametrize("name", ["lenet", "densenet40", "googlenet"])
def test_layers_as_wide_as_the_classifier_are_for_muon(name: str, num_classes: int) -> None:
    assert list_fallback_matrices(build_on_meta(name, num_classes)) == list_classifier_matrices(
        name
    )


def test_classifier_of_nin_is_its_last_convolution() -> None:
    assert list_fallback_matrices(build_on_meta("nin", 10)) == ["classifier.0.4.weight"]


def test_auxiliary_classifiers_use_the_fallback() -> None:
    names = list_fallback_matrices(build_on_meta("googlenet", 10, auxiliary=True))
    assert names == list_classifier_matrices("googlenet", auxiliary=True)
    assert len(names) == 3


def test_network_with_one_matrix_has_none_for_muon() -> None:
    for_muon, for_fallback = split_parameters(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    assert (len(for_muon), len(for_fallback)) == (0, 2)


def test_hidden_linear_layers_are_for_muon() -> None:
    squeeze_excitation = nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8))
    network = nn.Sequential(nn.Conv2d(1, 8, 3), squeeze_excitation, nn.Sequential(nn.Linear(8, 3)))
    assert list_fallback_matrices(network) == ["2.0.weight"]


FALLBACKS = [
    ("adamw", AdamWConfig(lr=0.003, betas=[0.9, 0.95], eps=1e-10, weight_decay=0.01)),
    ("sgd", NesterovConfig(lr=0.003, momentum=0.85, weight_decay=0.01)),
]


@pytest.mark.parametrize(("fallback", "expected"), FALLBACKS)
def test_fallback_optimizer_has_its_name(fallback: str, expected: AdamConfig | SgdConfig) -> None:
    config = MuonConfig(
        lr=0.02, momentum=0.95, weight_decay=0.01, fallback=fallback, fallback_lr=0.003
    )
    assert fallback_config(config) == expected


def test_all_fallbacks_are_tested() -> None:
    allowed = allowed_by(fields_of(MuonConfig)["fallback"]).choices
    assert {fallback for fallback, _ in FALLBACKS} == set(allowed)


MUON = {
    "name": "muon",
    "lr": 0.02,
    "momentum": 0.95,
    "weight_decay": 0.0,
    "fallback": "adamw",
    "fallback_lr": 0.001,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, r"optimizer\.lr=0\.0 is out of range.*above 0"),
        ({"momentum": 1.5}, r"optimizer\.momentum=1\.5 is out of range.*at most 1"),
        ({"weight_decay": -0.1}, r"optimizer\.weight_decay=-0\.1 is out of range.*at least 0"),
        ({"fallback_lr": 0.0}, r"optimizer\.fallback_lr=0\.0 is out of range.*above 0"),
        (
            {"fallback": "adam"},
            r"optimizer\.fallback=adam is not known\. Did you mean 'adamw'\? Allowed: adamw, sgd",
        ),
    ],
    ids=str,
)
def test_invalid_value_is_refused_with_allowed_values(
    change: dict[str, Any], message: str, config: Config
) -> None:
    with pytest.raises(ConfigError, match=message):
        configuration.load_config({**as_dict(config), "optimizer": {**MUON, **change}})
