"""The statements that several claims make of arms: accuracy, time, memory; and what they are measured by."""

import math
import statistics
from collections.abc import Mapping, Sequence

from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.verdicts import UNDECIDED, Figure, Finding, difference, lies_in, ratio
from cnnbench.reports.reproduction.words import accuracy, memory, points, seconds, times
from cnnbench.reports.text import three_digits

__all__ = [
    "ANY",
    "MARGIN",
    "at_full_scale",
    "ends",
    "epochs_in_words",
    "epochs_to_learn",
    "largest_rates",
    "more_accurate",
    "number",
    "ranges",
    "reaches",
    "remark",
    "takes_memory",
    "takes_time",
]

ANY = math.inf
MARGIN = 0.01  # of accuracy, which is no loss


def ends(experiment: Experiment) -> tuple[Arm, Arm]:
    """The arms with the smallest and the largest value of a number that is varied."""
    arms = sorted((arm for arm in experiment.arms if _is_number(arm.values[0])), key=lambda arm: float(arm.values[0]))
    return (arms[0], arms[-1]) if len(arms) > 1 else (Arm(("the smaller",), []), Arm(("the larger",), []))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def more_accurate(
    one: Arm, other: Arm, low: float, high: float, stated: str, name: str = "", other_name: str = ""
) -> Finding:
    gained = difference(one.accuracy, other.accuracy)
    return Finding(
        f"Test accuracy {accuracy(one.accuracies)} with {name or one.label}, {accuracy(other.accuracies)} with "
        f"{other_name or other.label}: {points(gained, signed=True)}.",
        lies_in(gained, low, high),
        stated,
    )


def remark(one: Arm, other: Arm) -> Finding:
    gained = points(difference(one.accuracy, other.accuracy), signed=True)
    return Finding(
        f"Trained, test accuracy {accuracy(one.accuracies)} with {one.label}, {accuracy(other.accuracies)} with "
        f"{other.label}: {gained}."
    )


def reaches(arm: Arm, goal: float) -> Finding:
    least = goal - MARGIN
    sentence = f"{arm.label} ends at {accuracy(arm.accuracies)}."
    return Finding(sentence, lies_in(arm.accuracy, least, ANY), f"at least {least:g}")


def at_full_scale(experiment: Experiment, finding: Finding) -> Finding:
    """Undecided if the experiment was reduced: for what depends on how long, with how much and on what it trained."""
    if not experiment.changes:
        return finding
    return Finding(f"{finding.sentence} The experiment was reduced: not comparable.", UNDECIDED, finding.stated)


def takes_time(
    one: Arm, other: Arm, low: float, high: float, stated: str, name: str = "", other_name: str = ""
) -> Finding:
    compared = ratio(one.epoch_s, other.epoch_s)
    return Finding(
        f"An epoch takes {seconds(one.epoch_times_s)} with {name or one.label}, {seconds(other.epoch_times_s)} with "
        f"{other_name or other.label}: {times(compared)}.",
        lies_in(compared, low, high),
        stated,
    )


def takes_memory(one: Arm, other: Arm, low: float, high: float, stated: str, name: str, other_name: str) -> Finding:
    """By the tensors that training needs, worked out: exact, so one run is enough."""
    figures = [None if arm.memory_bytes is None else Figure(arm.memory_bytes, 0.0) for arm in (one, other)]
    compared = ratio(*figures)
    return Finding(
        f"The tensors of training take {memory(one)} with {name}, {memory(other)} with {other_name}: "
        f"{times(compared)}.",
        lies_in(compared, low, high),
        stated,
    )


def epochs_to_learn(arm: Arm) -> Figure | None:
    return Figure.mean([float(epochs) for epochs, _ in map(_learnt, (run.rows for run in arm.finished))])


def _learnt(rows: Sequence[Mapping[str, float]]) -> tuple[int, float]:
    """Epochs and seconds until the test accuracy is within five points of the last."""
    goal = rows[-1].get("test_accuracy", math.nan) - 0.05
    number = next(
        (number for number, row in enumerate(rows) if row.get("test_accuracy", math.nan) >= goal), len(rows) - 1
    )
    return number + 1, sum(row.get("epoch_s", 0.0) for row in rows[: number + 1])


def epochs_in_words(arm: Arm) -> str:
    learnt = [_learnt(run.rows) for run in arm.finished]
    if not learnt:
        return f"{arm.label}: not measured"
    epochs, spent = (statistics.fmean(each) for each in zip(*learnt, strict=True))
    return f"{arm.label} {epochs:.1f} epochs ({three_digits(spent)} s)"


def largest_rates(experiment: Experiment, network: str) -> list[float]:
    """Of each seed, the largest rate whose accuracy is within five points of the best; diverged is none."""
    return [
        max(float(rate) for rate, figure in reached.items() if figure >= max(reached.values()) - 0.05)
        for reached in _by_value(experiment, network)
        if all(map(_is_number, reached))
    ]


def ranges(experiment: Experiment, network: str) -> list[float]:
    """Of each seed, the accuracy with the best initialisation less that with the worst; diverged is none."""
    return [max(reached.values()) - min(reached.values()) for reached in _by_value(experiment, network)]


def _by_value(experiment: Experiment, network: str) -> list[dict[str, float]]:
    """Of each seed that has run with all values of the second key, the accuracy with each: 0 for what diverged."""
    arms = [arm for arm in experiment.arms if arm.values[0] == network]
    reached: dict[str, dict[str, float]] = {}
    for arm in arms:
        for seed, figure in arm.by_seed().items():
            reached.setdefault(seed, {})[arm.values[1]] = figure or 0.0
    return [each for each in reached.values() if len(each) == len(arms) > 1]


def number(figure: Figure | None) -> str:
    return "not measured" if figure is None else f"{figure.value:.3g}"
