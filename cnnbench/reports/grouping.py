"""Groups of repetitions: runs that differ only in seed and fold."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.config import BOOKKEEPING_KEYS, IGNORED_KEYS, REPEATED_KEYS, flatten, is_below
from cnnbench.runs.records import Record

__all__ = [
    "RunGroup",
    "group_runs",
    "grouping_keys",
    "is_varying",
    "override_keys",
    "rank_runs",
    "varying_keys",
]


@dataclass(frozen=True)
class RunGroup:
    """Finished runs that are repetitions of one another, and the values that they share."""

    values: tuple[str, ...]
    runs: list[Record]

    @property
    def repetitions(self) -> list[Record]:
        """Return the latest run of each seed and fold: running a seed again adds nothing."""
        in_time = sorted(self.runs, key=lambda run: str(run.status.get("since")))
        latest = {tuple(map(run.plain_value, REPEATED_KEYS)): run for run in in_time}
        return list(latest.values())

    def figures(self, *keys: str) -> list[float]:
        """Return a number of result.json for each repetition that has it."""
        figures = (run.figure(*keys) for run in self.repetitions)
        return [figure for figure in figures if figure is not None]

    def accuracies(self, part: str) -> list[float]:
        """Return the accuracy of each repetition on the `part` "test" or "validation".

        On the validation set it is the accuracy of the best epoch.
        """
        keys = ("best", "validation_accuracy") if part == "validation" else ("test_accuracy",)
        return self.figures(*keys)

    @property
    def times(self) -> list[float]:
        """Return the seconds of training and evaluation for each repetition that has them."""
        times = (run.train_eval_s for run in self.repetitions)
        return [seconds for seconds in times if seconds is not None]

    @property
    def rank(self) -> float:
        """Return the mean accuracy on the validation set or, if there was none, on the test set."""
        accuracies = self.accuracies("validation") or self.accuracies("test")
        return statistics.fmean(accuracies or [0.0])


def rank_runs(runs: Sequence[Record]) -> list[Record]:
    """Return the runs by accuracy: the best first, runs without an accuracy last."""
    return sorted(runs, key=lambda run: -RunGroup((), [run]).rank)


def grouping_keys(runs: Sequence[Record]) -> list[str]:
    """Return the keys whose values distinguish runs that are not repetitions.

    First come network and data, then keys that were overridden, then keys that were not.
    """
    known = {key: {run.plain_value(key) for run in runs} - {""} for key in ("model", "data")}
    named = [key for key, values in known.items() if len(values) > 1]
    left_out = (*REPEATED_KEYS, *(f"{key}.name" for key in named))
    keys = dict.fromkeys([*named, *varying_keys(runs)])
    columns = [key for key in keys if key not in left_out]
    return columns + _hidden_keys([run for run in runs if run.state == "finished"], columns)


def group_runs(finished: Sequence[Record], keys: Sequence[str]) -> list[RunGroup]:
    """Return groups of runs that have the same values of the keys, the best group first."""
    together: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in finished:
        together[tuple(map(run.plain_value, keys))].append(run)
    groups = [RunGroup(tuple(map(runs[0].value, keys)), runs) for runs in together.values()]
    return sorted(groups, key=lambda group: -group.rank)


def override_keys(runs: Sequence[Record]) -> list[str]:
    """Return the keys that were overridden for any run, in the order of their first use."""
    words = [word for run in runs for word in run.overrides if "=" in word]
    keys = dict.fromkeys(word.partition("=")[0] for word in words)
    keys = dict.fromkeys(key for key in keys if not key.startswith(("hydra.", "hydra/")))
    return [key for key in keys if not is_below(key, BOOKKEEPING_KEYS)]


def varying_keys(runs: Sequence[Record]) -> list[str]:
    """Return the overridden keys whose values are not the same in all runs."""
    return [key for key in override_keys(runs) if is_varying(key, runs)]


def is_varying(key: str, runs: Sequence[Record]) -> bool:
    """Return whether the value of a key is not the same in all runs."""
    return len({run.plain_value(key) for run in runs}) > 1


def _hidden_keys(finished: Sequence[Record], columns: Sequence[str]) -> list[str]:
    """Return the keys that were not overridden, yet differ between runs with equal overrides.

    The cause is another version of a recipe, or a run that was resumed with other values.
    """
    hidden: dict[str, None] = {}
    for group in group_runs(finished, columns):
        configs = [flatten(run.config) for run in group.runs]
        for name in dict.fromkeys(name for config in configs for name in config):
            if len({repr(config.get(name)) for config in configs}) > 1:
                hidden[name] = None
    known = (*REPEATED_KEYS, *IGNORED_KEYS)
    return [name for name in hidden if name not in columns and not is_below(name, known)]
