"""What a classifier gets right and wrong: accuracy, per class, confusion, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cnnbench.analysis.format import align

__all__ = ["ClassFigures", "Evaluation", "evaluate", "wilson_interval"]

BINS = 15  # of confidence, as Guo et al. 2017 have them
Z = 1.959963984540054  # of the normal distribution, for 95 %
MOST_CONFUSED = 5  # pairs of classes that are told


@dataclass(frozen=True)
class ClassFigures:
    """Of one class: `support` examples bear it, `predicted` are taken for it. None where nothing can be said."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


@dataclass(frozen=True)
class Evaluation:
    """Figures over N examples of K classes; shares are in [0, 1].

    `confusion` counts, K x K: a row for the true class, a column for the predicted one. `topk` maps k to the share of
    examples whose class is among the k most probable. `calibration_error` is the expected one, in BINS bins.
    """

    examples: int
    loss: float
    accuracy: float
    interval: tuple[float, float]
    topk: dict[int, float]
    calibration_error: float
    classes: list[ClassFigures]
    confusion: list[list[int]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for evaluation.json."""
        means = {key: self.mean(key) for key in ("precision", "recall", "f1")}
        return {
            "examples": self.examples,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "accuracy_95_interval": list(self.interval),
            "topk_accuracy": {str(k): share for k, share in self.topk.items()},
            "expected_calibration_error": self.calibration_error,
            "macro_mean": means,
            "classes": [vars(each) for each in self.classes],
            "confusion": self.confusion,
        }

    def mean(self, key: str) -> float:
        """The mean of a figure over the classes that have examples; where one is never predicted, precision is 0."""
        values = [getattr(each, key) or 0.0 for each in self.classes if each.support]
        return sum(values) / len(values)

    def most_confused(self) -> list[tuple[str, str, int]]:
        """True class, predicted class, and how often; the most frequent first."""
        names = [each.name for each in self.classes]
        pairs = [
            (names[true], names[predicted], count)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if true != predicted and count
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:MOST_CONFUSED]

    def table(self) -> str:
        """For the terminal."""
        low, high = self.interval
        lines = [
            ("accuracy", f"{self.accuracy:.4f}", f"95 % interval {low:.4f} to {high:.4f}"),
            *((f"top {k}", f"{share:.4f}", "") for k, share in self.topk.items()),
            ("loss", f"{self.loss:.4f}", ""),
            ("calibration error", f"{self.calibration_error:.4f}", f"expected, {BINS} bins"),
        ]
        header = ("class", "precision", "recall", "F1", "examples")
        rows = [
            (each.name, *map(_share, (each.precision, each.recall, each.f1)), f"{each.support:,}")
            for each in self.classes
        ]
        mean = ("mean", *(_share(self.mean(key)) for key in ("precision", "recall", "f1")), f"{self.examples:,}")
        parts = [align(lines), align([header, *rows, mean], right=range(1, 5))]
        confused = [f"{true} taken for {predicted} ({count:,})" for true, predicted, count in self.most_confused()]
        parts += [f"most confused: {', '.join(confused)}"] if confused else []
        return "\n\n".join(parts)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def evaluate(
    logits: torch.Tensor, labels: torch.Tensor, loss: float, classes: Sequence[str], topk: Sequence[int] = (5,)
) -> Evaluation:
    """The figures of logits (N, K) and labels int64 (N), which are on one device; `loss` is their mean loss."""
    count, num_classes = logits.shape
    probabilities = logits.double().softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    predicted = logits.argmax(dim=1)  # as training counts: equal logits may differ as probabilities
    confusion = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).view(num_classes, -1)
    order = logits.topk(min(max(topk), num_classes), dim=1).indices
    correct = predicted == labels
    num_correct = int(correct.sum())
    return Evaluation(
        count,
        loss,
        num_correct / count,
        wilson_interval(num_correct, count),
        {k: int((order[:, :k] == labels[:, None]).sum()) / count for k in topk if k < num_classes},
        _calibration_error(confidence, correct),
        [_of_class(name, confusion, index) for index, name in enumerate(classes)],
        confusion.tolist(),
    )


def _of_class(name: str, confusion: torch.Tensor, index: int) -> ClassFigures:
    hits = int(confusion[index, index])
    support, predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
    return ClassFigures(
        name,
        hits / predicted if predicted else None,
        hits / support if support else None,
        2 * hits / (support + predicted) if support + predicted else None,
        support,
        predicted,
    )


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` examples: Wilson 1927. It is right near 0 and 1 too."""
    share = correct / count
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    reach = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))  # but for rounding


def _calibration_error(confidence: torch.Tensor, correct: torch.Tensor) -> float:
    """The expected calibration error: Guo et al. 2017, equation 3.

    Examples are put into BINS equal bins of confidence (N); the differences of accuracy and mean confidence of the
    bins are averaged, each by its share of the examples.
    """
    bins = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # ((m - 1) / M, m / M], as in the paper
    excess = torch.zeros(BINS, dtype=torch.float64, device=confidence.device)
    excess.index_add_(0, bins, correct.double() - confidence)
    return float(excess.abs().sum()) / len(confidence)
