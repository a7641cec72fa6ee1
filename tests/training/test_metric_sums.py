"""Sums of losses, correct and non-finite examples, and the metrics computed from them."""

import math

import pytest
import torch

from cnnbench.training.metric_sums import Metrics, MetricSums

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])  # predicts the classes 0, 1, 0
LABELS = torch.tensor([0, 1, 1])


def test_metrics_are_means_over_examples_not_batches() -> None:
    sums = MetricSums(CPU)
    sums.update(torch.tensor(1.0), LOGITS, LABELS)
    sums.update(torch.tensor(5.0), LOGITS[:1], LABELS[:1])
    assert sums.compute() == Metrics(loss=(3 * 1.0 + 5.0) / 4, accuracy=3 / 4)


def test_reset_clears_sums_and_example_count() -> None:
    sums = MetricSums(CPU)
    sums.update(torch.tensor(7.0), LOGITS, LABELS)
    sums.reset()
    sums.update(torch.tensor(1.0), LOGITS[:2], LABELS[:2])
    assert sums.compute() == Metrics(loss=1.0, accuracy=1.0)


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_skipped_batches_are_counted_but_not_in_the_mean_loss(loss: float) -> None:
    sums = MetricSums(CPU, skip_nonfinite=True)
    sums.update(torch.tensor(loss), LOGITS, LABELS)
    sums.update(torch.tensor(2.0), LOGITS, LABELS)
    assert sums.compute() == Metrics(loss=2.0, accuracy=4 / 6, num_nonfinite=3)


def test_mean_loss_is_nan_if_every_batch_is_skipped() -> None:
    sums = MetricSums(CPU, skip_nonfinite=True)
    sums.update(torch.tensor(math.inf), LOGITS, LABELS)
    metrics = sums.compute()
    assert math.isnan(metrics.loss)
    assert metrics.num_nonfinite == len(LABELS)


def test_nonfinite_loss_is_reported_if_not_skipped() -> None:
    sums = MetricSums(CPU)
    sums.update(torch.tensor(math.inf), LOGITS, LABELS)
    assert sums.compute() == Metrics(loss=math.inf, accuracy=2 / 3)


def test_sums_keep_no_graph_for_gradients() -> None:
    sums = MetricSums(CPU)
    loss = torch.tensor(1.0, requires_grad=True) * 2
    sums.update(loss, LOGITS, LABELS)
    assert not sums.total().requires_grad
