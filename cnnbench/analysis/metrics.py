"""Measure a classifier: accuracy, figures of each class, confusion, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

__all__ = ["BINS", "ClassMetrics", "Evaluation", "compute_metrics", "wilson_interval"]

BINS = 15  # of confidence, as Guo et al. 2017 have them
Z = 1.959963984540054  # of the normal distribution, for 95 %
MAX_CONFUSED = 5  # pairs of classes in the list of the most confused


@dataclass(frozen=True)
class ClassMetrics:
    """The figures of one class; None where no example tells.

    `support` examples are of the class, `predicted` are classified as it.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True)
class Evaluation:
    """Figures over N examples of K classes; shares are in [0, 1].

    `topk_accuracy` maps k to the share of examples whose class is among the k most probable.
    `expected_calibration_error` is in BINS bins. `macro_mean` has means over the classes with
    examples; a precision that is None counts as 0. `confusion` counts, K x K: a row for the true
    class, a column for the predicted one.
    """

    examples: int
    loss: float
    accuracy: float
    accuracy_95_interval: tuple[float, float]
    topk_accuracy: dict[int, float]
    expected_calibration_error: float
    macro_mean: dict[str, float] = field(repr=False)
    classes: list[ClassMetrics] = field(repr=False)
    confusion: list[list[int]] = field(repr=False)

    def most_confused(self) -> list[tuple[str, str, int]]:
        """Return true class, predicted class and count, the most frequent first."""
        names = [each.name for each in self.classes]
        pairs = [
            (names[true], names[predicted], count)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if true != predicted and count
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:MAX_CONFUSED]


def compute_metrics(
    logits: torch.Tensor,
    labels: torch.Tensor,
    loss: float,
    classes: Sequence[str],
    topk: Sequence[int] = (5,),
) -> Evaluation:
    """Return the figures of logits (N, K) and labels int64 (N); `loss` is their mean loss."""
    count, num_classes = logits.shape
    probabilities = logits.double().softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    predicted = logits.argmax(dim=1)  # as training counts: equal logits may differ as probabilities
    confusion = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).view(
        num_classes, -1
    )
    order = logits.topk(min(max(topk), num_classes), dim=1).indices
    correct = predicted == labels
    num_correct = int(correct.sum())
    per_class = [_class_metrics(name, confusion, index) for index, name in enumerate(classes)]
    return Evaluation(
        count,
        loss,
        num_correct / count,
        wilson_interval(num_correct, count),
        {k: int((order[:, :k] == labels[:, None]).sum()) / count for k in topk if k < num_classes},
        _calibration_error(confidence, correct),
        {key: _mean(per_class, key) for key in ("precision", "recall", "f1")},
        per_class,
        confusion.tolist(),
    )


def _class_metrics(name: str, confusion: torch.Tensor, index: int) -> ClassMetrics:
    hits = int(confusion[index, index])
    support, predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
    return ClassMetrics(
        name,
        hits / predicted if predicted else None,
        hits / support if support else None,
        2 * hits / (support + predicted) if support + predicted else None,
        support,
        predicted,
    )


def _mean(classes: Sequence[ClassMetrics], key: str) -> float:
    values = [getattr(each, key) or 0.0 for each in classes if each.support]
    return sum(values) / len(values)


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` examples: Wilson 1927.

    It holds near 0 and 1 too.
    """
    share = correct / count
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    reach = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, min(share, centre - reach)), min(
        1.0, max(share, centre + reach)
    )  # but for rounding


def _calibration_error(confidence: torch.Tensor, correct: torch.Tensor) -> float:
    """Return the expected calibration error: Guo et al. 2017, equation 3.

    Examples are put into BINS equal bins of confidence (N); the differences of accuracy and mean confidence of the
    bins are averaged, each by its share of the examples.
    """
    bins = (
        (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    )  # ((m - 1) / M, m / M], as in the paper
    excess = torch.zeros(BINS, dtype=torch.float64, device=confidence.device)
    excess.index_add_(0, bins, correct.double() - confidence)
    return float(excess.abs().sum()) / len(confidence)
