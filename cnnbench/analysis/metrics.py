"""Measure a classifier: accuracy, metrics of each class, confusion, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

__all__ = ["BINS", "ClassMetrics", "Evaluation", "compute_metrics", "wilson_interval"]

BINS = 15  # of confidence, as in Guo et al. 2017
Z = 1.959963984540054  # standard deviations around the mean that hold 95 % of a normal distribution
MAX_CONFUSED = 5  # pairs of classes that `most_confused` lists


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class, None if no example determines them.

    `support` counts the examples of the class, `predicted` the examples classified as the class.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True)
class Evaluation:
    """The metrics of N examples of K classes. Shares are in [0, 1].

    `topk_accuracy` maps k to the share of examples whose class is among the k most probable.
    `expected_calibration_error` uses BINS bins. `macro_mean` holds means over the classes with
    examples. A precision that is None counts as 0. `confusion` (K x K) counts examples, with a row
    for each true class and a column for each predicted class.
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

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have examples: Brodersen et al. 2010.

        Each class counts alike, so guessing the largest class has 1/K.
        """
        return self.macro_mean["recall"]

    def most_confused(self) -> list[tuple[str, str, int]]:
        """Return true class, predicted class and count, the most frequent first."""
        pairs = []
        for true, row in zip(self.classes, self.confusion, strict=True):
            for predicted, count in zip(self.classes, row, strict=True):
                if true is not predicted and count:
                    pairs.append((true.name, predicted.name, count))
        return sorted(pairs, key=lambda pair: -pair[2])[:MAX_CONFUSED]


def compute_metrics(
    logits: torch.Tensor,
    labels: torch.Tensor,
    loss: float,
    classes: Sequence[str],
    topk: Sequence[int] = (5,),
) -> Evaluation:
    """Return the metrics of logits (N, K) and labels int64 (N), whose mean loss is `loss`."""
    count, num_classes = logits.shape
    confidence = logits.double().softmax(dim=1).amax(dim=1)
    # As in training, the logits decide: equal logits need not have equal probabilities.
    predicted = logits.argmax(dim=1)
    cells = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    confusion = cells.view(num_classes, num_classes)
    order = logits.topk(min(max(topk), num_classes), dim=1).indices
    is_at_rank = order == labels[:, None]
    ks = [k for k in topk if k < num_classes]
    correct = predicted == labels
    num_correct = int(correct.sum())
    per_class = [
        _compute_class_metrics(name, confusion, index) for index, name in enumerate(classes)
    ]
    return Evaluation(
        count,
        loss,
        num_correct / count,
        wilson_interval(num_correct, count),
        {k: int(is_at_rank[:, :k].sum()) / count for k in ks},
        _compute_calibration_error(confidence, correct),
        {key: _compute_macro_mean(per_class, key) for key in ("precision", "recall", "f1")},
        per_class,
        confusion.tolist(),
    )


def _compute_class_metrics(name: str, confusion: torch.Tensor, index: int) -> ClassMetrics:
    hits = int(confusion[index, index])
    support, predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
    precision = hits / predicted if predicted else None
    recall = hits / support if support else None
    f1 = 2 * hits / (support + predicted) if support + predicted else None
    return ClassMetrics(name, precision, recall, f1, support, predicted)


def _compute_macro_mean(classes: Sequence[ClassMetrics], key: str) -> float:
    values = [getattr(metrics, key) or 0.0 for metrics in classes if metrics.support]
    return sum(values) / len(values)


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` examples: Wilson 1927.

    It is valid near 0 and 1 too.
    """
    share = correct / count
    center = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    reach = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    # Rounding must not move an end past the share or out of [0, 1].
    low = max(0.0, min(share, center - reach))
    high = min(1.0, max(share, center + reach))
    return low, high


def _compute_calibration_error(confidence: torch.Tensor, correct: torch.Tensor) -> float:
    """Return the expected calibration error: Guo et al. 2017, equation 3.

    The examples are sorted into BINS equal bins of confidence (N). The result is the mean absolute
    difference of accuracy and mean confidence over the bins, weighted by their number of examples.
    """
    # As in the paper, a bin is the interval ((m - 1) / M, m / M].
    bins = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    excess = torch.zeros(BINS, dtype=torch.float64, device=confidence.device)
    excess.index_add_(0, bins, correct.double() - confidence)
    return float(excess.abs().sum()) / len(confidence)
