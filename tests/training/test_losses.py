"""Losses equal their formulas."""

import math
import re

import pytest
import torch
from helpers.config_changes import change
from torch import nn

from cnnbench.config import Config
from cnnbench.training.losses import make_losses, weigh

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
LABELS = torch.tensor([1, 0])
EXPONENTIALS = [[math.exp(logit) for logit in row] for row in LOGITS.tolist()]
PROBABILITIES = [[value / sum(row) for value in row] for row in EXPONENTIALS]
FLAT_PROBABILITIES = [*PROBABILITIES[0], *PROBABILITIES[1]]


def compute_loss(
    config: Config, name: str, label_smoothing: float = 0.0, targets: torch.Tensor = LABELS
) -> float:
    change(config, train__loss=name, train__label_smoothing=label_smoothing)
    return make_losses(config.train).loss(LOGITS, targets).item()


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_loss_is_mean_negative_log_probability_of_the_label(name: str, config: Config) -> None:
    expected = -(math.log(PROBABILITIES[0][1]) + math.log(PROBABILITIES[1][0])) / 2
    assert compute_loss(config, name) == pytest.approx(expected, rel=1e-6)


def test_nll_is_finite_if_a_probability_rounds_to_zero(config: Config) -> None:
    change(config, train__loss="nll")
    logits, labels = torch.tensor([[0.0, 1000.0]]), torch.tensor([0])
    assert make_losses(config.train).loss(logits, labels).item() == 1000


def test_mse_is_mean_squared_error_to_one_hot_labels(config: Config) -> None:
    one_hot = [0, 1, 0, 1, 0, 0]  # two rows of three classes
    pairs = zip(FLAT_PROBABILITIES, one_hot, strict=True)
    expected = sum((probability - target) ** 2 for probability, target in pairs) / 6
    assert compute_loss(config, "mse") == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_averages_over_all_classes(config: Config) -> None:
    share = 0.3
    labels = -(math.log(PROBABILITIES[0][1]) + math.log(PROBABILITIES[1][0])) / 2
    all_classes = -sum(math.log(probability) for probability in FLAT_PROBABILITIES) / 6
    expected = (1 - share) * labels + share * all_classes
    assert compute_loss(config, "cross_entropy", share) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "label_smoothing"),
    [("cross_entropy", 0.0), ("cross_entropy", 0.3), ("nll", 0.0), ("mse", 0.0)],
)
def test_one_hot_targets_give_the_loss_of_labels(
    name: str, label_smoothing: float, config: Config
) -> None:
    one_hot = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    expected = compute_loss(config, name, label_smoothing)
    assert compute_loss(config, name, label_smoothing, one_hot) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "label_smoothing"),
    [("cross_entropy", 0.0), ("cross_entropy", 0.3), ("nll", 0.0), ("mse", 0.0)],
)
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_integer_one_hot_targets_give_the_loss_and_gradient_of_labels(
    name: str, label_smoothing: float, reference: bool, dtype: torch.dtype, config: Config
) -> None:
    change(config, train__loss=name, train__label_smoothing=label_smoothing)
    loss = make_losses(config.train, reference=reference).loss
    one_hot = torch.tensor([[0, 1, 0], [1, 0, 0]]).to(dtype)
    logits = LOGITS.clone().requires_grad_()
    values = [loss(logits, LABELS), loss(logits, one_hot)]
    torch.testing.assert_close(values[1], values[0])
    gradients = [torch.autograd.grad(value, logits) for value in values]
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse"])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
@pytest.mark.parametrize("shape", [(2, 4), (2, 1), (1, 3), (3, 2)])
def test_targets_of_another_shape_than_the_logits_are_refused(
    name: str, reference: bool, dtype: torch.dtype, shape: tuple[int, int], config: Config
) -> None:
    change(config, train__loss=name)
    targets = torch.zeros(shape, dtype=dtype)
    given = re.escape(f"Targets of shape {shape} do not fit 2 outputs of width 3.")
    with pytest.raises(ValueError, match=rf"{given} Allowed: 2 labels, or .* shape \(2, 3\)\."):
        make_losses(config.train, reference=reference).loss(LOGITS, targets)


MIXED = [0.0, 0.7, 0.3, 0.6, 0.4, 0.0]  # two rows of three targets


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_loss_of_mixed_targets_weights_negative_log_probabilities(
    name: str, config: Config
) -> None:
    pairs = zip(FLAT_PROBABILITIES, MIXED, strict=True)
    expected = -sum(target * math.log(probability) for probability, target in pairs) / 2
    assert compute_loss(config, name, targets=torch.tensor(MIXED).view(2, 3)) == pytest.approx(
        expected, rel=1e-6
    )


def test_mse_of_mixed_targets_is_mean_squared_error_to_them(config: Config) -> None:
    pairs = zip(FLAT_PROBABILITIES, MIXED, strict=True)
    expected = sum((probability - target) ** 2 for probability, target in pairs) / 6
    assert compute_loss(config, "mse", targets=torch.tensor(MIXED).view(2, 3)) == pytest.approx(
        expected, rel=1e-6
    )


def test_l1_penalty_excludes_biases_and_batch_norm(config: Config) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 2), nn.BatchNorm2d(1), nn.Linear(2, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(100.0)
        network[0].weight.copy_(torch.tensor([[[[1.0, -2.0], [3.0, -4.0]]]]))
        network[2].weight.copy_(torch.tensor([[-0.5, 0.25]]))
    assert make_losses(config.train).l1_penalty(network).item() == 10.75


@pytest.mark.parametrize(
    ("name", "label_smoothing"),
    [("cross_entropy", 0.0), ("cross_entropy", 0.3), ("nll", 0.0), ("mse", 0.0)],
)
@pytest.mark.parametrize("targets", [LABELS, torch.tensor([[0.0, 0.7, 0.3], [0.5, 0.5, 0.0]])])
def test_weights_multiply_the_losses_of_the_examples(
    targets: torch.Tensor, name: str, label_smoothing: float, config: Config
) -> None:
    change(config, train__loss=name, train__label_smoothing=label_smoothing)
    loss = make_losses(config.train).loss
    first, second = (loss(LOGITS[[row]], targets[[row]]).item() for row in (0, 1))
    weighted = loss(LOGITS, targets, torch.tensor([0.5, 3.0])).item()
    assert weighted == pytest.approx((0.5 * first + 3.0 * second) / 2, rel=1e-6)


def test_weight_of_an_example_is_that_of_its_class() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0])
    assert weigh(LABELS, weights).tolist() == [2.0, 1.0]
    assert weigh(torch.tensor([[0.5, 0.0, 0.5]]), weights).tolist() == [2.5]
