"""Judge the findings of a claim, and the networks of the book, by the runs of their experiments."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cnnbench.analysis.format import mean_and_std
from cnnbench.analysis.judge import UNKNOWN, Estimate, difference, judge, mean, ratio
from cnnbench.analysis.memory import estimate_memory
from cnnbench.config import Config
from cnnbench.data import datasets
from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.statements import Finding, Network, parse_arm
from cnnbench.reports.reproduction.stored_runs import ACCURACY_TOLERANCE
from cnnbench.training.build import on_meta

__all__ = [
    "FIGURES",
    "MEMORY",
    "SHIFT_RATIO",
    "JudgedFinding",
    "judge_finding",
    "judge_network",
    "measure_memory",
    "memory_key",
]

MEMORY, SHIFT_RATIO = "memory", "shift_ratio"
RATE = "optimizer.lr"
MIN_ABOVE_CHANCE = 0.2  # accuracy on ten classes that shows that a network learns at all
MIN_RISE = 0.05  # rise of the test loss that shows that a network overfits


def _log10_largest_rates(arms: Sequence[Arm]) -> list[float]:
    """Return the logarithm of the largest usable learning rate for each seed.

    Seeds that learn at no rate are left out. The accuracy of a usable rate is at most
    `ACCURACY_TOLERANCE` below that of the best rate.
    """
    rates = np.array([[float(arm.values.get(RATE, "nan"))] for arm in arms])
    accuracies = _accuracies(arms)
    best = accuracies.max(axis=0)
    usable = np.where(accuracies >= best - ACCURACY_TOLERANCE, rates, 0.0)
    largest = usable.max(axis=0)[best > MIN_ABOVE_CHANCE]
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

    `over_arms` computes it for each seed that ran in several arms. Without it, each run has one. If
    `is_accuracy`, a network must have learned something for it.
    """

    title: str
    form: str
    compare: Callable[[Sequence[float], Sequence[float]], Estimate] = difference
    over_arms: Callable[[Sequence[Arm]], list[float]] | None = None
    is_accuracy: bool = False

    def samples(self, name: str, arms: Sequence[Arm]) -> list[float]:
        return self.over_arms(arms) if self.over_arms else arms[0].samples(name)


FIGURES = {
    "accuracy": Figure("Test accuracy", ".4f", is_accuracy=True),
    "epoch_s": Figure("Seconds per epoch", ".3g", ratio),
    "epochs_to_converge": Figure(
        "Epochs until the test accuracy is within .05 of the last", ".1f", is_accuracy=True
    ),
    "log10_largest_rate": Figure(
        "Logarithm of the largest usable learning rate", ".2f", over_arms=_log10_largest_rates
    ),
    MEMORY: Figure("MiB of tensors in fp32", ".4g"),
    SHIFT_RATIO: Figure(
        "Change of the maps after pooling as a share of that before, by shifts of 1 to 3 pixels",
        ".3f",
        is_accuracy=True,
    ),
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
    """Judge a finding by the runs of its experiments or by computed figures.

    `computed` has the figures that need no runs by name, and the memory of arms by `memory_key`. A
    finding without a stated range has no verdict.
    """
    if finding.text:
        estimate = computed[finding.figure]
        sentence = f"{finding.text} {estimate.show('.3g')}."
    elif finding.figure == MEMORY:
        sentence, estimate = _compare_memory(finding, computed)
    else:
        sentence, estimate = _measure(finding, experiments)
    verdict = judge(estimate, finding.low, finding.high) if finding.stated else ""
    return JudgedFinding(sentence, finding.stated, verdict)


def memory_key(experiment: str, arm: str) -> str:
    return f"memory of {experiment} {arm}"


def measure_memory(settings: Config) -> Estimate:
    """Return the MiB of the tensors that training needs, computed in fp32 on the meta device."""
    dataset = datasets.dataset_info(settings.data)
    network, images = on_meta(settings, dataset, settings.train.batch_size)
    memory = estimate_memory(network, images, settings.optimizer, torch.float32)
    return Estimate(memory.total / 2**20)


def _compare_memory(finding: Finding, computed: Mapping[str, Estimate]) -> tuple[str, Estimate]:
    figure, parts = FIGURES[MEMORY], []
    estimates = [computed[memory_key(*arm)] for arm in finding.placed_arms]
    for arm, estimate in zip(finding.arms, estimates, strict=True):
        parts.append(f"{estimate.show(figure.form)} with {arm}")
    sentence = f"{figure.title}: {', '.join(parts)}"
    if len(estimates) == 1:
        return f"{sentence}.", estimates[0]
    quotient = Estimate(estimates[0].value / estimates[1].value)
    return f"{sentence}; ratio {quotient.show(figure.form)}.", quotient


def _measure(finding: Finding, experiments: Mapping[str, Experiment]) -> tuple[str, Estimate]:
    """Return the figure of the arms in sentences, and the estimate that is judged."""
    figure = FIGURES[finding.figure]
    used = [experiments[name] for name, _ in finding.placed_arms]
    fitting = []
    for experiment, (_, text) in zip(used, finding.placed_arms, strict=True):
        fitting.append(_find_arms(text, experiment.arms))
    chosen = [arms if figure.over_arms else [_most_accurate(arms)] for arms in fitting]
    samples = [figure.samples(finding.figure, arms) for arms in chosen]
    measured = [bool(values) for values in samples]
    if figure.is_accuracy and not _has_learned(used, [arms[0] for arms in chosen]):
        measured = [False] * len(used)
    if not all(measured):
        reasons = [_explain_missing(finding, used, measured), *_doubt_diverged(chosen)]
        return " ".join(reasons), UNKNOWN
    parts = []
    for arm, arms, values in zip(finding.arms, chosen, samples, strict=True):
        name = " ".join(arms[0].words) if len(arms) == 1 else ""
        parts.append(f"{mean_and_std(values, figure.form)} with {name or arm}")
    sentence = f"{figure.title}: {', '.join(parts)}"
    if len(samples) == 1:
        estimate = mean(samples[0])
    else:
        estimate = figure.compare(*samples)
        compared = "difference" if figure.compare is difference else "ratio"
        sentence += f"; {compared} {estimate.show(figure.form)}"
    reductions = dict.fromkeys(experiment.reduced for experiment in used)
    notes = [f"Reduced by {reduction}." for reduction in reductions if reduction]
    doubts = _find_doubts(finding, used, chosen)
    if not figure.over_arms:
        if len(chosen) == 2:
            doubts += _doubt_diverged(chosen)
        for (best,), arms in zip(chosen, fitting, strict=True):
            doubts += _doubt_best_rate(best, arms)
    return " ".join([f"{sentence}.", *notes, *doubts]), UNKNOWN if doubts else estimate


def _find_arms(text: str, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms that have the values in `text`, or an empty one if there is none."""
    fitting = []
    for arm in arms:
        if all(not options.isdisjoint(arm.words) for options in parse_arm(text)):
            fitting.append(arm)
    return fitting or [Arm([], [])]


def _most_accurate(arms: Sequence[Arm]) -> Arm:
    return max(arms, key=_mean_accuracy)


def _mean_accuracy(arm: Arm) -> float:
    return fmean(arm.samples("accuracy") or [0.0])


def _has_learned(used: Sequence[Experiment], arms: Sequence[Arm]) -> bool:
    """Return whether one of the arms has learned enough to compare accuracies."""
    limits = [experiment.min_accuracy for experiment in used if experiment.min_accuracy is not None]
    return not limits or max(map(_mean_accuracy, arms)) > max(limits)


def _explain_missing(finding: Finding, used: Sequence[Experiment], measured: Sequence[bool]) -> str:
    missing, ways = [], []
    for arm, experiment, is_measured in zip(finding.arms, used, measured, strict=True):
        if not is_measured:
            missing.append(arm)
            ways.append(experiment.how_to_measure)
    return f"Not measured ({', '.join(missing)}): {'; '.join(dict.fromkeys(ways))}."


def _find_doubts(
    finding: Finding, used: Sequence[Experiment], chosen: Sequence[Sequence[Arm]]
) -> list[str]:
    """Return the reasons why the runs do not suffice for a verdict."""
    doubts = []
    first_arms = [arms[0] for arms in chosen]
    if finding.only_if == "full_scale" and any(experiment.reduced for experiment in used):
        doubts.append("Not comparable: the experiment was reduced.")
    if finding.only_if == "overfits":
        rises = first_arms[-1].samples("test_loss_rise")
        if not rises or fmean(rises) <= MIN_RISE:
            doubts.append("Too little overfits to judge.")
    if finding.figure == "epoch_s":
        runs = [run for arm in first_arms for run in arm.finished]
        places = sorted({f"{run.chip} in {run.precision}" for run in runs})
        if len(places) > 1:
            doubts.append(f"Not comparable: on {' and '.join(places)}.")
        if any(run.device == "cpu" for run in runs):
            doubts.append("Times on a CPU are not held against a claim about a GPU.")
    return doubts


def _doubt_diverged(chosen: Sequence[Sequence[Arm]]) -> list[str]:
    doubts = []
    for arm in chain(*chosen):
        if arm.diverged:
            name = " ".join(arm.words)
            doubts.append(f"Runs that diverged with {name}: {len(arm.diverged)}.")
    return doubts


def _doubt_best_rate(best: Arm, fitting: Sequence[Arm]) -> list[str]:
    """Return a doubt if the best learning rate of several is the smallest or the largest."""
    tried = [arm.values[RATE] for arm in fitting if RATE in arm.values]
    rates = set(map(float, tried))
    if len(rates) < 2 or float(best.values[RATE]) not in (min(rates), max(rates)):
        return []
    return [f"The best lies at an end of the grid: {best.values[RATE]} of {', '.join(tried)}."]


def judge_network(network: Network, experiment: Experiment, arm: Arm) -> str:
    """Return "within", "above" or "below" for the accuracy in the book's range.

    Return "undecided" or "not comparable" if the runs do not suffice, "not measured" with the way
    to measure it if there are none or they learned too little, and "" without the book's figures.
    """
    accuracies = arm.samples("accuracy")
    if not accuracies or not _has_learned([experiment], [arm]):
        return f"not measured: {experiment.how_to_measure}"
    if not network.accuracies:
        return ""
    if experiment.reduced:
        return "not comparable"
    ours, theirs = mean(accuracies), network.accuracies
    if math.isnan(ours.margin):
        return "undecided"
    if judge(ours, min(theirs), max(theirs)) != "not repeated":
        return "within"
    return "above" if ours.value > max(theirs) else "below"
