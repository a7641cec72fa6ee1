"""The statements that several claims make of two arms: accuracy, time, memory; and what they are measured by."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnnbench.analysis.format import three_digits
from cnnbench.analysis.verdicts import UNDECIDED, Figure, Finding, difference, lies_in, ratio
from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.words import NONE, accuracy, loss, memory, points, seconds, times

__all__ = [
    "ANY",
    "LESS",
    "MARGIN",
    "MORE",
    "Pair",
    "Stated",
    "at_full_scale",
    "ends",
    "geometric_mean",
    "largest_rates",
    "learns_slower",
    "more_accurate",
    "most_accurate",
    "overfits_less",
    "ranges",
    "reaches",
    "remark",
    "takes_memory",
    "takes_time",
]

ANY = math.inf
MARGIN = 0.01  # of accuracy, which is no loss
LEARNT = 0.2  # accuracy that a network which has learnt nothing of ten classes stays below
OVERFITS = 0.05  # a rise of the test loss that is seen


@dataclass(frozen=True)
class Stated:
    """The range that a figure is said to lie in, and the same in words."""

    low: float
    high: float
    words: str


MORE, LESS = Stated(0, ANY, "more"), Stated(-ANY, 0, "less")


@dataclass(frozen=True)
class Pair:
    """Two arms to be compared, and what sentences call them: by their labels, unless other names are given."""

    one: Arm
    other: Arm
    name: str = ""
    other_name: str = ""

    @property
    def named(self) -> list[tuple[str, Arm]]:
        return [(self.name or self.one.label, self.one), (self.other_name or self.other.label, self.other)]


def ends(experiment: Experiment) -> tuple[Arm, Arm]:
    """The arms with the smallest and the largest value of a number that is varied."""
    arms = sorted((arm for arm in experiment.arms if _is_number(arm.values[0])), key=lambda arm: float(arm.values[0]))
    return (arms[0], arms[-1]) if len(arms) > 1 else (Arm(("smaller",), []), Arm(("larger",), []))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def most_accurate(arms: Sequence[Arm]) -> Arm:
    return max(arms, key=lambda arm: statistics.fmean(arm.accuracies or [0.0]))


def more_accurate(pair: Pair, stated: Stated) -> Finding:
    gained = difference(pair.one.accuracy, pair.other.accuracy)
    in_words = points(gained, signed=True)
    return _compared("Test accuracy", lambda arm: accuracy(arm.accuracies), pair, gained, in_words, stated)


def remark(pair: Pair) -> Finding:
    """The accuracies, of which nothing is stated."""
    return Finding(more_accurate(pair, Stated(-ANY, ANY, "")).sentence)


def takes_time(pair: Pair, stated: Stated) -> Finding:
    compared = ratio(pair.one.epoch_s, pair.other.epoch_s)
    finding = _compared(
        "An epoch takes", lambda arm: seconds(arm.epoch_times_s), pair, compared, times(compared), stated
    )
    precisions = sorted(pair.one.precisions | pair.other.precisions)
    return undecided(finding, f"Not comparable: in {' and '.join(precisions)}.") if len(precisions) > 1 else finding


def takes_memory(pair: Pair, stated: Stated) -> Finding:
    """By the tensors that training needs, worked out: exact, so one run is enough."""
    figures = [None if arm.memory_bytes is None else Figure(arm.memory_bytes, 0.0) for arm in (pair.one, pair.other)]
    compared = ratio(*figures)
    return _compared("The tensors of training take", memory, pair, compared, times(compared), stated)


def learns_slower(pair: Pair, stated: Stated) -> Finding:
    slower = difference(*(Figure.mean([epochs for epochs, _ in _learnt(arm)]) for arm in (pair.one, pair.other)))

    def told(arm: Arm) -> str:
        if not arm.finished:
            return NONE
        epochs, spent = (statistics.fmean(each) for each in zip(*_learnt(arm), strict=True))
        return f"{epochs:.1f} epochs ({three_digits(spent)} s)"

    in_words = "" if slower is None else f"{slower.value:+.1f} epochs"
    what = "To come within five points of the accuracy that it ends with takes"
    return _compared(what, told, pair, slower, in_words, stated)


def _learnt(arm: Arm) -> list[tuple[float, float]]:
    """Of each run epochs and seconds until the test accuracy is within five points of the last."""
    return [_learnt_by(run.rows) for run in arm.finished]


def _learnt_by(rows: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    goal = rows[-1].get("test_accuracy", math.nan) - 0.05
    number = next(
        (number for number, row in enumerate(rows) if row.get("test_accuracy", math.nan) >= goal), len(rows) - 1
    )
    return number + 1.0, sum(row.get("epoch_s", 0.0) for row in rows[: number + 1])


def overfits_less(given: Arm, without: Arm, what: str) -> list[Finding]:
    """By test loss and accuracy alone: dropout lowers the train accuracy that is measured as it trains."""
    pair = Pair(given, without, f"{what} {given.label}", f"{what} {without.label}")
    rise = difference(given.test_loss_rise, without.test_loss_rise)
    above = "The test loss ends above its lowest by"
    findings = [
        _compared(above, lambda arm: loss(arm.test_loss_rise), pair, rise, loss(rise, signed=True), LESS),
        more_accurate(pair, MORE),
    ]
    if without.test_loss_rise is None or without.test_loss_rise.value > OVERFITS:
        return findings
    return [undecided(each, "Too little overfits to judge.") for each in findings]


def _compared(
    what: str, told: Callable[[Arm], str], pair: Pair, figure: Figure | None, in_words: str, stated: Stated
) -> Finding:
    """`told` of both arms and, `in_words`, the figure that compares them; undecided if runs of either diverged."""
    missing = [name for name, arm in pair.named if told(arm) == NONE]
    sentence = f"{what} {' and '.join(f'{told(arm)} with {name}' for name, arm in pair.named)}: {in_words}."
    finding = Finding(sentence, lies_in(figure, stated.low, stated.high), stated.words)
    if missing:
        finding = Finding(f"Not measured: {' and '.join(missing)}.", UNDECIDED, stated.words)
    diverged = [f"{arm.num_diverged} with {name}" for name, arm in pair.named if arm.num_diverged]
    return undecided(finding, f"Runs that diverged: {', '.join(diverged)}.") if diverged else finding


def undecided(finding: Finding, why: str) -> Finding:
    return Finding(f"{finding.sentence} {why}", UNDECIDED, finding.stated)


def at_full_scale(experiment: Experiment, finding: Finding) -> Finding:
    """Undecided if the experiment was reduced: for what depends on how long, with how much and on what it trained."""
    return undecided(finding, "Not comparable: the experiment was reduced.") if experiment.changes else finding


def reaches(arm: Arm, goal: float) -> Finding:
    least = goal - MARGIN
    if arm.accuracy is None:
        return Finding(f"Not measured: {arm.label}.", UNDECIDED, f"at least {least:g}")
    sentence = f"{arm.label} ends at {accuracy(arm.accuracies)}."
    return Finding(sentence, lies_in(arm.accuracy, least, ANY), f"at least {least:g}")


def largest_rates(experiment: Experiment, network: str) -> list[float]:
    """Of each seed, the logarithm of the largest rate whose accuracy is within five points of the best.

    What diverged has none; seeds that learn at no rate are left out.
    """
    return [
        max(math.log(float(rate)) for rate, figure in reached.items() if figure >= max(reached.values()) - 0.05)
        for reached in _by_value(experiment, network)
        if all(map(_is_number, reached)) and max(reached.values()) > LEARNT
    ]


def geometric_mean(logarithm: Figure | None) -> str:
    return NONE if logarithm is None else f"{math.exp(logarithm.value):.3g}"


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
