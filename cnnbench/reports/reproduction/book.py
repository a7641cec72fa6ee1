"""The networks of Dive into Deep Learning on Fashion-MNIST, beside two runs of the book's own code."""

from collections.abc import Mapping
from dataclasses import dataclass

from cnnbench.analysis.verdicts import UNDECIDED
from cnnbench.reports.reproduction.arms import Arm, Experiment

__all__ = ["BOOK", "RULE", "Network", "judge", "only_arm"]

WITHIN, ABOVE, BELOW, NOT_COMPARABLE = "within", "above", "below", "not comparable"

RULE = (
    "The book's range is that of the test accuracies of two runs of its code. Our mean over seeds is within it if it "
    "lies between them, or if its 95 % confidence interval reaches them; else above or below. One seed alone is "
    "undecided; what was reduced is not comparable. Two runs say little of how far runs of the book's code differ: the "
    "verdict is on these two."
)


@dataclass(frozen=True)
class Network:
    """`book` are the test accuracies of two runs of the book's code, after 10 epochs; None if they are not known."""

    title: str
    book: tuple[float, float] | None


BOOK: Mapping[str, Network] = {
    "book/lenet": Network("LeNet", (0.776, 0.779)),
    "book/alexnet": Network("AlexNet", (0.879, 0.883)),
    "book/vgg11": Network("VGG-11, width 1/4", (0.916, 0.920)),
    "book/nin": Network("NiN", (0.865, 0.790)),
    "book/googlenet": Network("GoogLeNet", (0.888, 0.886)),
    "book/bn_lenet": Network("LeNet with batch normalisation", (0.880, 0.708)),
    "book/resnet18": Network("ResNet-18", (0.919, 0.893)),
    "book/densenet": Network("DenseNet", (0.891, 0.885)),
    "book/regnetx": Network("RegNetX-32", None),
}


def judge(network: Network, experiment: Experiment) -> str:
    """Whether our accuracy is within the book's range, above or below; nothing if the book's is not known."""
    arm = only_arm(experiment)
    if network.book is None or not arm.accuracies:
        return ""
    if experiment.changes:
        return NOT_COMPARABLE
    mean = arm.accuracy
    if mean is None or mean.margin is None:
        return UNDECIDED
    if mean.value > max(network.book) + mean.margin:
        return ABOVE
    return BELOW if mean.value < min(network.book) - mean.margin else WITHIN


def only_arm(experiment: Experiment) -> Arm:
    """The one arm of an experiment that varies but the seed."""
    return experiment.arms[0] if experiment.arms else Arm((), [])
