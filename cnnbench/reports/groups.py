"""Which runs are repetitions of one another: those that differ in nothing but seed and fold."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.config import BOOKKEEPING_KEYS
from cnnbench.runs.records import Record

__all__ = [
    "NO_MATTER",
    "REPEATS",
    "Group",
    "differing",
    "distinguishing",
    "flat",
    "given",
    "group",
    "ranked",
]

REPEATS = ("seed", "data.fold")  # runs that differ in these alone are repetitions of one another
# to what is computed
NO_MATTER = ("sweep", "tracker", "data.root", "device.threads", "train.checkpoint_every", "model.recipe")


@dataclass(frozen=True)
class Group:
    """Finished runs that are repetitions of one another."""

    values: tuple[str, ...]
    runs: list[Record]

    @property
    def repetitions(self) -> list[Record]:
        """One run for each seed and fold, the latest: the same seed again says nothing about the deviation."""
        in_time = sorted(self.runs, key=lambda run: str(run.status.get("since")))
        return list({tuple(run.plain_value(key) for key in REPEATS): run for run in in_time}.values())

    def accuracies(self, part: str) -> list[float]:
        return [figure for run in self.repetitions if (figure := _accuracy(run, part)) is not None]

    @property
    def rank(self) -> float:
        """What groups are sorted by: the mean accuracy on the validation set or, if none was held out, the test set."""
        return statistics.fmean(self.accuracies("validation") or self.accuracies("test") or [0.0])


def ranked(runs: Sequence[Record]) -> list[Record]:
    """The best first, those without a figure last."""
    return sorted(runs, key=lambda run: -Group((), [run]).rank)


def distinguishing(runs: Sequence[Record]) -> list[str]:
    """The keys in which runs differ that are no repetitions of one another: those that were given, then others."""
    columns = [key for key in differing(runs) if key not in REPEATS]
    return columns + _hidden([run for run in runs if run.state == "finished"], columns)


def group(finished: Sequence[Record], columns: Sequence[str]) -> list[Group]:
    """Repetitions together, the best first; they have the same values of the keys in `columns`."""
    together: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in finished:
        together[tuple(run.plain_value(key) for key in columns)].append(run)
    groups = [Group(tuple(runs[0].value(key) for key in columns), runs) for runs in together.values()]
    return sorted(groups, key=lambda group: -group.rank)


def given(runs: Sequence[Record]) -> list[str]:
    """The keys that were given to any run, in the order of their first use."""
    keys = (override.partition("=")[0] for run in runs for override in run.overrides if "=" in override)
    return [
        key for key in dict.fromkeys(keys) if key not in BOOKKEEPING_KEYS and not key.startswith(("hydra.", "hydra/"))
    ]


def differing(runs: Sequence[Record]) -> list[str]:
    """Those of them whose values are not all the same."""
    return [key for key in given(runs) if len({run.plain_value(key) for run in runs}) > 1]


def _hidden(finished: Sequence[Record], columns: Sequence[str]) -> list[str]:
    """The keys that nobody gave and that differ all the same between runs whose given values are equal.

    They come of other versions of a recipe, or of runs that went on with other values.
    """
    hidden: dict[str, None] = {}
    for alike in group(finished, columns):
        values = [dict(flat(run.config)) for run in alike.runs]
        names = dict.fromkeys(name for each in values for name in each)
        hidden |= dict.fromkeys(name for name in names if len({repr(each.get(name)) for each in values}) > 1)
    return [name for name in hidden if name not in columns and not name.startswith((*REPEATS, *NO_MATTER))]


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a configuration by their whole keys, such as optimizer.lr."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _accuracy(run: Record, part: str) -> float | None:
    return run.validation_accuracy if part == "validation" else run.figure("test_accuracy")
