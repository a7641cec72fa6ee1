"""Which runs are repetitions of one another: those that differ in nothing but seed and fold."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbench.config import BOOKKEEPING_KEYS, IGNORED_KEYS, REPEATED_KEYS, flatten, is_below
from cnnbench.runs.records import Record

__all__ = ["Group", "group_runs", "grouping_keys", "override_keys", "rank_runs", "varying_keys"]


@dataclass(frozen=True)
class Group:
    """Finished runs that are repetitions of one another."""

    values: tuple[str, ...]
    runs: list[Record]

    @property
    def repetitions(self) -> list[Record]:
        """Return the latest run of each seed and fold: the same seed again adds nothing."""
        in_time = sorted(self.runs, key=lambda run: str(run.status.get("since")))
        latest = {tuple(map(run.plain_value, REPEATED_KEYS)): run for run in in_time}
        return list(latest.values())

    def figures(self, *keys: str) -> list[float]:
        """Return a number of result.json of each repetition that has it."""
        figures = (run.figure(*keys) for run in self.repetitions)
        return [figure for figure in figures if figure is not None]

    def accuracies(self, part: str) -> list[float]:
        """Return those on the test set or, of the chosen epoch, on the validation set."""
        keys = ("best", "validation_accuracy") if part == "validation" else ("test_accuracy",)
        return self.figures(*keys)

    @property
    def times(self) -> list[float]:
        """Return the seconds of training and evaluation of each repetition that has them."""
        times = (run.train_eval_s for run in self.repetitions)
        return [seconds for seconds in times if seconds is not None]

    @property
    def rank(self) -> float:
        """Return the mean accuracy on the validation set or, if there was none, on the test set."""
        return statistics.fmean(self.accuracies("validation") or self.accuracies("test") or [0.0])


def rank_runs(runs: Sequence[Record]) -> list[Record]:
    """Return the runs, the best first, those without a figure last."""
    return sorted(runs, key=lambda run: -Group((), [run]).rank)


def grouping_keys(runs: Sequence[Record]) -> list[str]:
    """Return the keys in which runs differ that are no repetitions.

    First come network and data, then what was given, then what nobody gave.
    """
    named = [key for key in ("model", "data") if _num_known(runs, key) > 1]
    left_out = (*REPEATED_KEYS, *(f"{key}.name" for key in named))
    keys = dict.fromkeys([*named, *varying_keys(runs)])
    columns = [key for key in keys if key not in left_out]
    return columns + _hidden([run for run in runs if run.state == "finished"], columns)


def group_runs(finished: Sequence[Record], columns: Sequence[str]) -> list[Group]:
    """Return runs with the same values of the keys in `columns` together, the best first."""
    together: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in finished:
        together[tuple(map(run.plain_value, columns))].append(run)
    groups = [Group(tuple(map(runs[0].value, columns)), runs) for runs in together.values()]
    return sorted(groups, key=lambda group: -group.rank)


def override_keys(runs: Sequence[Record]) -> list[str]:
    """Return the keys that were given to any run, in the order of their first use."""
    words = [word for run in runs for word in run.overrides if "=" in word]
    keys = dict.fromkeys(word.partition("=")[0] for word in words)
    keys = dict.fromkeys(key for key in keys if not key.startswith(("hydra.", "hydra/")))
    return [key for key in keys if not is_below(key, BOOKKEEPING_KEYS)]


def varying_keys(runs: Sequence[Record]) -> list[str]:
    """Return the given keys whose values are not the same in all runs."""
    return [key for key in override_keys(runs) if len({run.plain_value(key) for run in runs}) > 1]


def _num_known(runs: Sequence[Record], key: str) -> int:
    """Return how many values a key has among the runs that have one: others failed before."""
    return len({run.plain_value(key) for run in runs} - {""})


def _hidden(finished: Sequence[Record], columns: Sequence[str]) -> list[str]:
    """Return the keys that nobody gave and that differ between runs whose given values are equal.

    They come of other versions of a recipe, or of runs that were resumed with other values.
    """
    hidden: dict[str, None] = {}
    for alike in group_runs(finished, columns):
        configs = [flatten(run.config) for run in alike.runs]
        for name in dict.fromkeys(name for config in configs for name in config):
            if len({repr(config.get(name)) for config in configs}) > 1:
                hidden[name] = None
    known = (*REPEATED_KEYS, *IGNORED_KEYS)
    return [name for name in hidden if name not in columns and not is_below(name, known)]
