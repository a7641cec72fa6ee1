"""Judge the findings of a claim, and the networks of the book, by the runs of their experiments."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnbench.analysis.format import mean_and_std
from cnnbench.analysis.judge import UNKNOWN, Estimate, difference, judge, mean, ratio
from cnnbench.reports.reproduction.arms import ACCURACY_TOLERANCE, Arm, Experiment
from cnnbench.reports.reproduction.statements import Finding, Network, parse_arm

__all__ = ["FIGURES", "JudgedFinding", "judge_finding", "judge_network"]

MIN_LEARNED = 0.2  # accuracy on ten classes that shows that a network learned
MIN_RISE = 0.05  # rise of the test loss that shows that a network overfits


def _ratio_of_exact(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    return Estimate(numerators[0] / denominators[0])


def _log10_largest_rates(arms: Sequence[Arm]) -> list[float]:
    """Return the logarithm of the largest usable learning rate for each seed.

    Seeds that learn at no rate are left out. The accuracy of a usable rate is at most
    `ACCURACY_TOLERANCE` below that of the best rate.
    """
    rates = np.array([[float(arm.values.get("optimizer.lr", "nan"))] for arm in arms])
    accuracies = _accuracies(arms)
    best = accuracies.max(axis=0)
    usable = np.where(accuracies >= best - ACCURACY_TOLERANCE, rates, 0.0)
    largest = usable.max(axis=0)[best > MIN_LEARNED]
    return list(np.log10(largest[largest > 0]))  # NaN, from arms without rates, is not above 0


def _spreads(arms: Sequence[Arm]) -> list[float]:
    return list(np.ptp(_accuracies(arms), axis=0))


def _accuracies(arms: Sequence[Arm]) -> NDArray[np.float64]:
    """Return accuracies (arms, seeds) of the seeds that ran in all arms; no seeds for one arm."""
    by_seed = [arm.accuracy_by_seed for arm in arms]
    seeds = set.intersection(*map(set, by_seed)) if len(arms) > 1 else set()
    return np.array([[accuracies[seed] for seed in seeds] for accuracies in by_seed])


class Figure(NamedTuple):
    """A figure of trained runs: its name, its format, and the comparison of two arms.

    `over_arms` computes it for each seed that ran in several arms. Without it, each run has one.
    """

    title: str
    form: str
    compare: Callable[[Sequence[float], Sequence[float]], Estimate] = difference
    over_arms: Callable[[Sequence[Arm]], list[float]] | None = None

    def samples(self, name: str, arms: Sequence[Arm]) -> list[float]:
        return self.over_arms(arms) if self.over_arms else arms[0].samples(name)


FIGURES = {
    "accuracy": Figure("Test accuracy", ".4f"),
    "epoch_s": Figure("Seconds per epoch", ".3g", ratio),
    "epochs_to_converge": Figure("Epochs until the test accuracy is within .05 of the last", ".1f"),
    "log10_largest_rate": Figure(
        "Logarithm of the largest usable learning rate", ".2f", over_arms=_log10_largest_rates
    ),
    "memory": Figure("MiB of tensors", ".4g", _ratio_of_exact),
    "spread": Figure("Best test accuracy less the worst", ".4f", over_arms=_spreads),
    "test_loss_rise": Figure("Last test loss less the lowest", ".3f"),
}


class JudgedFinding(NamedTuple):
    """A finding: a sentence with the figures, the stated range, and the verdict."""

    sentence: str
    stated: str
    verdict: str


def judge_finding(
    finding: Finding,
    experiments: Mapping[str, Experiment],
    computed: Mapping[str, Estimate],
) -> JudgedFinding:
    """Judge a finding by the runs of its experiment or by a computed figure.

    A finding without a stated range has no verdict.
    """
    if finding.experiment:
        sentence, estimate = _measure(finding, experiments[finding.experiment])
    else:
        estimate = computed[finding.figure]
        sentence = f"{finding.text} {estimate.show('.3g')}."
    verdict = judge(estimate, finding.low, finding.high) if finding.stated else ""
    return JudgedFinding(sentence, finding.stated, verdict)


def _measure(finding: Finding, experiment: Experiment) -> tuple[str, Estimate]:
    """Return the figure of the arms in sentences, and the estimate that is judged."""
    figure = FIGURES[finding.figure]
    chosen = [_choose(arm, experiment.arms, figure) for arm in finding.arms]
    samples = [figure.samples(finding.figure, arms) for arms in chosen]
    missing = [arm for arm, values in zip(finding.arms, samples, strict=True) if not values]
    if missing:
        sentence, estimate = f"Not measured: {', '.join(missing)}", UNKNOWN
    else:
        parts = []
        for arm, arms, values in zip(finding.arms, chosen, samples, strict=True):
            name = arm if len(arms) > 1 else " ".join(arms[0].words)
            parts.append(f"{mean_and_std(values, figure.form)} with {name}")
        sentence = f"{figure.title}: {', '.join(parts)}"
        if len(samples) == 1:
            estimate = mean(samples[0])
        else:
            estimate = figure.compare(*samples)
            compared = "difference" if figure.compare is difference else "ratio"
            sentence += f"; {compared} {estimate.show(figure.form)}"
    doubts = _find_doubts(finding, experiment, chosen)
    return " ".join([f"{sentence}.", *doubts]), UNKNOWN if doubts else estimate


def _choose(text: str, arms: Sequence[Arm], figure: Figure) -> list[Arm]:
    """Return the arms that have the values in `text`.

    If the figure is not one over arms, return the most accurate arm. If no arm has the values,
    return an empty one.
    """
    fitting = []
    for arm in arms:
        if all(not options.isdisjoint(arm.words) for options in parse_arm(text)):
            fitting.append(arm)
    if figure.over_arms and fitting:
        return fitting

    def mean_accuracy(arm: Arm) -> float:
        return fmean(arm.samples("accuracy") or [0.0])

    return [max(fitting, key=mean_accuracy, default=Arm([], []))]


def _find_doubts(finding: Finding, experiment: Experiment, chosen: list[list[Arm]]) -> list[str]:
    """Return the reasons why the runs do not suffice for a verdict."""
    doubts = []
    if finding.only_if == "full_scale" and experiment.reduced:
        doubts.append("Not comparable: the experiment was reduced.")
    if finding.only_if == "overfits":
        rises = chosen[-1][0].samples("test_loss_rise")
        if not rises or fmean(rises) <= MIN_RISE:
            doubts.append("Too little overfits to judge.")
    precisions = set.union(*(arms[0].precisions for arms in chosen))
    if finding.figure == "epoch_s" and len(precisions) > 1:
        doubts.append(f"Not comparable: in {' and '.join(sorted(precisions))}.")
    if len(chosen) == 2 and not FIGURES[finding.figure].over_arms:
        for (arm,) in chosen:
            if arm.diverged:
                name = " ".join(arm.words)
                doubts.append(f"Runs that diverged with {name}: {len(arm.diverged)}.")
    return doubts


def judge_network(network: Network, experiment: Experiment) -> str:
    """Return "within", "above" or "below" for the accuracy in the book's range.

    Return "undecided" or "not comparable" if the runs do not suffice, and "" without figures.
    """
    accuracies = experiment.arms[0].samples("accuracy") if experiment.arms else []
    if not network.accuracies or not accuracies:
        return ""
    if experiment.reduced:
        return "not comparable"
    ours, theirs = mean(accuracies), network.accuracies
    if math.isnan(ours.margin):
        return "undecided"
    if judge(ours, min(theirs), max(theirs)) != "not repeated":
        return "within"
    return "above" if ours.value > max(theirs) else "below"
