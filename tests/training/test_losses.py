"""The losses, against their formulas."""

import math

import pytest
import torch
from helpers.config_changes import change
from torch import nn

from cnnbench.config import Config
from cnnbench.training.losses import make_losses

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
LABELS = torch.tensor([1, 0])
EXPONENTIALS = [[math.exp(logit) for logit in row] for row in LOGITS.tolist()]
PROBABILITIES = [[value / sum(row) for value in row] for row in EXPONENTIALS]


def loss_of(
    config: Config, name: str, label_smoothing: float = 0.0, targets: torch.Tensor = LABELS
) -> float:
    change(config, train__loss=name, train__label_smoothing=label_smoothing)
    return make_losses(config.train).loss(LOGITS, targets).item()


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_is_the_mean_negative_log_probability_of_the_label(name: str, config: Config) -> None:
    expected = -(math.log(PROBABILITIES[0][1]) + math.log(PROBABILITIES[1][0])) / 2
    assert loss_of(config, name) == pytest.approx(expected, rel=1e-6)


def test_nll_is_finite_where_a_probability_rounds_to_zero(config: Config) -> None:
    change(config, train__loss="nll")
    assert (
        make_losses(config.train).loss(torch.tensor([[0.0, 1000.0]]), torch.tensor([0])).item()
        == 1000
    )


def test_mse_is_the_mean_square_to_one_hot_over_all_classes(config: Config) -> None:
    one_hot = [[0, 1, 0], [1, 0, 0]]
    squares = [
        (p - t) ** 2
        for ps, ts in zip(PROBABILITIES, one_hot, strict=True)
        for p, t in zip(ps, ts, strict=True)
    ]
    assert loss_of(config, "mse") == pytest.approx(sum(squares) / 6, rel=1e-6)


def test_label_smoothing_spreads_its_share_over_all_classes(config: Config) -> None:
    share = 0.3
    labels = -(math.log(PROBABILITIES[0][1]) + math.log(PROBABILITIES[1][0])) / 2
    all_classes = -sum(math.log(p) for row in PROBABILITIES for p in row) / 6
    expected = (1 - share) * labels + share * all_classes
    assert loss_of(config, "cross_entropy", share) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "label_smoothing"),
    [("cross_entropy", 0.0), ("cross_entropy", 0.3), ("nll", 0.0), ("mse", 0.0)],
)
def test_one_hot_probabilities_are_the_same_as_labels(
    name: str, label_smoothing: float, config: Config
) -> None:
    one_hot = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    expected = loss_of(config, name, label_smoothing)
    assert loss_of(config, name, label_smoothing, one_hot) == pytest.approx(expected, rel=1e-6)


MIXED = [[0.0, 0.7, 0.3], [0.6, 0.4, 0.0]]
PAIRS = [
    pair for rows in zip(PROBABILITIES, MIXED, strict=True) for pair in zip(*rows, strict=True)
]


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_is_the_mean_of_negative_log_probabilities_by_their_targets(
    name: str, config: Config
) -> None:
    expected = -sum(target * math.log(probability) for probability, target in PAIRS) / 2
    assert loss_of(config, name, targets=torch.tensor(MIXED)) == pytest.approx(expected, rel=1e-6)


def test_mse_is_the_mean_square_to_the_probabilities_of_the_targets(config: Config) -> None:
    expected = sum((probability - target) ** 2 for probability, target in PAIRS) / 6
    assert loss_of(config, "mse", targets=torch.tensor(MIXED)) == pytest.approx(expected, rel=1e-6)


def test_l1_adds_the_absolute_weights_and_neither_biases_nor_normalisation(config: Config) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 2), nn.BatchNorm2d(1), nn.Linear(2, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(100.0)
        network[0].weight.copy_(torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]]))
        network[2].weight.copy_(torch.tensor([[-0.5, 0.25]]))
    assert make_losses(config.train).l1_penalty(network).item() == 10.75
