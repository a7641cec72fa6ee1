"""The runs of an experiment, sorted into its arms: those that are alike in all but the seed."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cnnbench.analysis.verdicts import Figure
from cnnbench.errors import DivergedError
from cnnbench.reports.comparison import error
from cnnbench.reports.groups import Group
from cnnbench.reports.table import as_text
from cnnbench.runs.records import Record

__all__ = ["Arm", "Experiment", "experiments"]

EXPERIMENT, SEED = "experiment", "seed"
# keys that say nothing about what is trained
OF_THE_MACHINE = ("device", "data.root", "tracker", "train.checkpoint_every", "sweep")
IN_WORDS: dict[str, Callable[[str], str]] = {
    "data.train_examples": lambda value: f"{int(value):,} training examples",
    "data.test_examples": lambda value: f"{int(value):,} test examples",
    "data.resize": lambda value: f"{value} px",
    "train.epochs": lambda value: f"{value} epoch{'' if value == '1' else 's'}",
    "train.batch_size": lambda value: f"batch {value}",
    "data": lambda value: f"data {value}",
}


@dataclass(frozen=True)
class Arm:
    """Runs that are repetitions of one another; `values` are those of the keys that the experiment varies.

    `memory_bytes` is what training takes by the tensors that it needs, worked out; None if it was not.
    """

    values: tuple[str, ...]
    runs: Sequence[Record]
    memory_bytes: int | None = None

    @property
    def label(self) -> str:
        return ", ".join(self.values) or "as configured"

    @cached_property
    def finished(self) -> list[Record]:
        """One run for each seed, those with the lower seeds first."""
        finished = Group(self.values, [run for run in self.runs if run.state == "finished"]).repetitions
        sound = [run for run in finished if run.figure("test_accuracy") is not None and run.rows]
        return sorted(sound, key=lambda run: (len(run.plain_value(SEED)), run.plain_value(SEED)))

    @property
    def accuracies(self) -> list[float]:
        return [figure for run in self.finished if (figure := run.figure("test_accuracy")) is not None]

    @property
    def accuracy(self) -> Figure | None:
        return Figure.mean(self.accuracies)

    @property
    def epoch_times_s(self) -> list[float]:
        """Of each run the median over its epochs, evaluation included."""
        columns = [run.column("epoch_s") for run in self.finished]
        return [statistics.median(column) for column in columns if column]

    @property
    def epoch_s(self) -> Figure | None:
        return Figure.mean(self.epoch_times_s)

    @property
    def gap(self) -> Figure | None:
        """Train less test accuracy in the last epoch; the former as it went, with dropout."""
        ends = [(run.figure("final", "train_accuracy"), run.figure("test_accuracy")) for run in self.finished]
        return Figure.mean([train - test for train, test in ends if train is not None and test is not None])

    @property
    def test_loss_rise(self) -> Figure | None:
        """How far the test loss ends above its lowest: the sign of overfitting that needs no train accuracy."""
        columns = [run.column("test_loss") for run in self.finished]
        return Figure.mean([losses[-1] - min(losses) for losses in columns if losses])

    @property
    def peaks_gib(self) -> list[float]:
        """The most memory that tensors took on a GPU; on a CPU nothing is known of a run by itself."""
        on_gpu = [run for run in self.finished if run.result.get("device") == "cuda"]
        return [max(column) for run in on_gpu if (column := run.column("peak_gib"))]

    @property
    def unfinished(self) -> str:
        """What became of the other runs, such as ``1 failed (not enough memory), 2 not begun``."""
        others = [run for run in self.runs if run.state != "finished"]
        parts = []
        for state, number in Counter(run.state for run in others).items():
            told = next((error(run) for run in others if run.state == state and error(run)), "")
            parts.append(f"{number} {state}" + (f" ({as_text(told).rstrip('.')})" if told else ""))
        return ", ".join(parts)

    @property
    def precisions(self) -> set[str]:
        return {str(run.environment.get("precision", "?")) for run in self.finished}

    @property
    def num_diverged(self) -> int:
        return sum(map(_diverged, self.runs))

    def by_seed(self) -> dict[str, float | None]:
        """The accuracy of each seed; None where training diverged."""
        accuracies = {run.plain_value(SEED): run.figure("test_accuracy") for run in self.finished}
        return {**{run.value(SEED): None for run in self.runs if _diverged(run)}, **accuracies}


def _diverged(run: Record) -> bool:
    return run.state == "failed" and run.status.get("exit_code") == DivergedError.exit_code


@dataclass(frozen=True)
class Experiment:
    """`name` is that of its YAML, `keys` are those that it varies beside the seed, `arms` are in their order.

    `changes` says in words what is not as the YAML has it, and `num_seeds` of how many seeds the runs are, where it
    asks for more.
    """

    name: str
    keys: tuple[str, ...] = ()
    arms: Sequence[Arm] = ()
    changes: Sequence[str] = ()
    num_seeds: int | None = None

    @property
    def reductions(self) -> list[str]:
        """All of that in words."""
        fewer = [] if self.num_seeds is None else [f"{self.num_seeds} seed{'' if self.num_seeds == 1 else 's'}"]
        return [*self.changes, *fewer]

    def arm(self, *values: str) -> Arm:
        """The one with these values of the keys; one without runs if there is none."""
        return next((arm for arm in self.arms if arm.values == values), Arm(values, []))


def experiments(
    runs: Sequence[Record],
    varied: Mapping[str, Mapping[str, str]],
    memory_of: Callable[[Record], int | None] = lambda run: None,
) -> dict[str, Experiment]:
    """All that `varied` names, with the values that each varies by key, and what there is of its runs."""
    return {
        name: _experiment(name, values, [run for run in runs if run.value(EXPERIMENT) == name], memory_of)
        for name, values in varied.items()
    }


def _experiment(
    name: str, varied: Mapping[str, str], runs: Sequence[Record], memory_of: Callable[[Record], int | None]
) -> Experiment:
    keys = tuple(key for key in varied if key != SEED)
    together: dict[tuple[str, ...], list[Record]] = {}
    for run in sorted(runs, key=lambda run: _place(run, varied)):
        together.setdefault(tuple(_value(run, key) for key in keys), []).append(run)
    arms = []
    for values, alike in together.items():
        known = next((memory for run in alike if run.state == "finished" and (memory := memory_of(run))), None)
        arms.append(Arm(values, alike, known))
    num_seeds, asked = len({run.value(SEED) for run in runs}), len(varied.get(SEED, "").split(","))
    return Experiment(name, keys, arms, _changes(varied, runs), num_seeds if 0 < num_seeds < asked else None)


def _value(run: Record, key: str) -> str:
    """Spelt the same whether or not the run has begun and has a configuration: 10 for 10.0 too."""
    value = run.plain_value(key)
    try:
        return f"{float(value):g}"
    except ValueError:
        return as_text(value)


def _place(run: Record, varied: Mapping[str, str]) -> list[tuple[int, str]]:
    """Where a run stands among others: in the order of the values that are varied."""
    orders = {key: values.split(",") for key, values in varied.items()}
    given = {key: run.value(key) for key in varied}
    return [
        (orders[key].index(value) if value in orders[key] else len(orders[key]), value) for key, value in given.items()
    ]


def _changes(varied: Mapping[str, str], runs: Sequence[Record]) -> list[str]:
    """What was given beside the experiment and the values that it varies, in words."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, equals, value in (override.partition("=") for override in run.overrides):
            own = key in (EXPERIMENT, SEED) or value in varied.get(key, "").split(",")
            if equals and not own and not key.startswith(OF_THE_MACHINE):
                found.setdefault(key, {})[value] = None
    return [_in_words(key, list(values)) for key, values in found.items()]


def _in_words(key: str, values: Sequence[str]) -> str:
    (value, *others) = values
    number = value.isdecimal() and len(value) < 10
    if not others and (number or key == "data") and key in IN_WORDS:
        return as_text(IN_WORDS[key](value))
    return as_text(f"{key} {', '.join(values)}")
