"""Judge the findings of a claim, and the networks of the book, by the runs of their experiments."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnbench.analysis.format import mean_and_std
from cnnbench.analysis.judge import (
    UNDECIDED,
    Estimate,
    Estimates,
    combine,
    difference,
    judge,
    mean,
    ratio,
)
from cnnbench.reports.reproduction.arms import CLOSE, Arm, Experiment, Experiments, plain_value
from cnnbench.reports.reproduction.statements import Claim, Finding, Network, parse_arm

__all__ = ["FIGURES", "Judged", "JudgedClaim", "judge_claim", "judge_network"]

MIN_LEARNED = 0.2  # accuracy that a network which learned nothing of ten classes stays below
MIN_RISE = 0.05  # of the test loss, which shows that a network overfits
UNKNOWN = Estimate(math.nan, None)


class Figure(NamedTuple):
    """A figure of trained runs: its name, its format, and how those of two arms compare.

    `over_arms` computes it for each seed that has run in several arms; without it each run has one.
    """

    title: str
    form: str
    compare: Callable[[Sequence[float], Sequence[float]], Estimate] = difference
    over_arms: Callable[[Sequence[Arm]], list[float]] | None = None

    def sample(self, name: str, arms: Sequence[Arm]) -> list[float]:
        return self.over_arms(arms) if self.over_arms else arms[0].samples(name)


def _ratio_of_exact(ones: Sequence[float], others: Sequence[float]) -> Estimate:
    return Estimate(ones[0] / others[0])


def _log10_largest_rates(arms: Sequence[Arm]) -> list[float]:
    """Return the logarithm of the largest usable rate, for each seed that learns at any."""
    try:
        logs = [math.log10(float(arm.values["optimizer.lr"])) for arm in arms]
    except (KeyError, ValueError):  # rates that no optimizer has
        return []
    largest = []
    for accuracies in _accuracies_by_seed(arms):
        best = max(accuracies)
        pairs = zip(logs, accuracies, strict=True)
        usable = [log for log, accuracy in pairs if accuracy >= best - CLOSE]
        largest += [max(usable)] if best > MIN_LEARNED else []
    return largest


def _spreads(arms: Sequence[Arm]) -> list[float]:
    return [max(accuracies) - min(accuracies) for accuracies in _accuracies_by_seed(arms)]


def _accuracies_by_seed(arms: Sequence[Arm]) -> list[list[float]]:
    """Return the accuracies in all arms, for each seed that has run in all of several."""
    by_seed = [arm.accuracy_by_seed for arm in arms]
    complete = set.intersection(*map(set, by_seed)) if len(arms) > 1 else set()
    return [[accuracies[seed] for accuracies in by_seed] for seed in complete]


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


@dataclass(frozen=True)
class Judged:
    """A finding: a sentence with the figures, the range that was stated, and the verdict."""

    sentence: str
    stated: str
    verdict: str


@dataclass(frozen=True)
class JudgedClaim:
    claim: Claim
    findings: Sequence[Judged]

    @property
    def verdict(self) -> str:
        return combine(finding.verdict for finding in self.findings if finding.stated)


def judge_claim(claim: Claim, experiments: Experiments, computed: Estimates) -> JudgedClaim:
    """Judge each finding of the claim, by its experiment or by what was computed."""
    findings = []
    for finding in claim.findings:
        if finding.experiment:
            sentence, estimate = _measure(finding, experiments[finding.experiment])
        else:
            estimate = computed[finding.figure]
            sentence = f"{finding.text} {estimate.show('.3g')}."
        verdict = judge(estimate, finding.low, finding.high) if finding.stated else ""
        findings.append(Judged(sentence, finding.stated, verdict))
    return JudgedClaim(claim, findings)


def _measure(finding: Finding, experiment: Experiment) -> tuple[str, Estimate]:
    """Return the figure of the arms in sentences, and the estimate that is judged."""
    chosen = [_choose(arm, experiment, finding.figure) for arm in finding.arms]
    sentence, estimate = _compare(finding, chosen)
    doubts = _find_doubts(finding, experiment, chosen)
    return " ".join([sentence, *doubts]), UNKNOWN if doubts else estimate


def _compare(finding: Finding, chosen: list[list[Arm]]) -> tuple[str, Estimate]:
    figure = FIGURES[finding.figure]
    samples = [figure.sample(finding.figure, arms) for arms in chosen]
    missing = [arm for arm, values in zip(finding.arms, samples, strict=True) if not values]
    if missing:
        return f"Not measured: {', '.join(missing)}.", UNKNOWN
    parts = []
    for arm, arms, values in zip(finding.arms, chosen, samples, strict=True):
        name = arm if len(arms) > 1 else arms[0].label
        parts.append(f"{mean_and_std(values, figure.form)} with {name}")
    sentence = f"{figure.title}: {', '.join(parts)}"
    if len(samples) == 1:
        return f"{sentence}.", mean(samples[0])
    estimate = figure.compare(*samples)
    compared = "difference" if figure.compare is difference else "ratio"
    return f"{sentence}; {compared} {estimate.show(figure.form)}.", estimate


def _choose(text: str, experiment: Experiment, figure: str) -> list[Arm]:
    """Return the arms that have these values, or the most accurate of them; else an empty one."""
    asked = {key: set(map(plain_value, values)) for key, values in parse_arm(text).items()}
    fitting = []
    for arm in experiment.arms:
        if all(arm.values[key] in values for key, values in asked.items()):
            fitting.append(arm)
    if FIGURES[figure].over_arms and fitting:
        return fitting

    def mean_accuracy(arm: Arm) -> float:
        return statistics.fmean(arm.samples("accuracy") or [0.0])

    return [max(fitting, key=mean_accuracy, default=Arm({}, []))]


def _find_doubts(finding: Finding, experiment: Experiment, chosen: list[list[Arm]]) -> list[str]:
    """Return why the runs decide nothing, whatever their figures are."""
    doubts = []
    if finding.only_if == "full_scale" and experiment.reduced:
        doubts.append("Not comparable: the experiment was reduced.")
    if finding.only_if == "overfits":
        rises = chosen[-1][0].samples("test_loss_rise")
        if not rises or statistics.fmean(rises) <= MIN_RISE:
            doubts.append("Too little overfits to judge.")
    precisions = set.union(*(arms[0].precisions for arms in chosen))
    if finding.figure == "epoch_s" and len(precisions) > 1:
        doubts.append(f"Not comparable: in {' and '.join(sorted(precisions))}.")
    if len(chosen) == 2 and not FIGURES[finding.figure].over_arms:
        for (arm,) in chosen:
            if arm.diverged:
                doubts.append(f"Runs that diverged with {arm.label}: {len(arm.diverged)}.")
    return doubts


def judge_network(network: Network, experiment: Experiment) -> str:
    """Return how the accuracy lies to the book's range; nothing if either is not known."""
    accuracies = experiment.arms[0].samples("accuracy") if experiment.arms else []
    if not network.accuracies or not accuracies:
        return ""
    if experiment.reduced:
        return "not comparable"
    ours = mean(accuracies)
    if ours.margin is None:
        return UNDECIDED
    if ours.value - ours.margin > max(network.accuracies):
        return "above"
    is_below = ours.value + ours.margin < min(network.accuracies)
    return "below" if is_below else "within"
