"""Experiments and their arms. The runs of an arm differ only in the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cnnbench.reports.reproduction.stored_runs import StoredRun

__all__ = ["Arm", "Experiment", "sort_runs"]

MIN_ACCURACY = 0.7  # on ten classes, of a network that has learned enough to be compared
Jobs = Mapping[str, Sequence[Sequence[str]]]  # the overrides of each job, by experiment


@dataclass(frozen=True)
class Arm:
    """Repetitions of one run. The overrides in `words` distinguish it from other arms."""

    words: Sequence[str]
    runs: Sequence[StoredRun]

    @property
    def values(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.words)

    @property
    def finished(self) -> list[StoredRun]:
        return [run for run in self.runs if run.state == "finished"]

    @property
    def diverged(self) -> list[StoredRun]:
        return [run for run in self.runs if run.state == "diverged"]

    def samples(self, figure: str) -> list[float]:
        """Return a figure of each finished run that has it."""
        figures = (getattr(run, figure) for run in self.finished)
        return [value for value in figures if value is not None]

    @property
    def accuracy_by_seed(self) -> dict[int, float]:
        """Return the accuracy of each seed, 0 if training diverged."""
        return {run.seed: run.accuracy or 0.0 for run in self.runs}


class Experiment(NamedTuple):
    """The arms of an experiment, all measured on one chip and at one scale.

    `reduced` has the overrides that make it smaller, if any. One of the compared arms must then be
    more accurate than `min_accuracy`. `gpu_minutes` is the estimated time on a GPU of an experiment
    that takes hours without one.
    """

    name: str
    arms: list[Arm]
    reduced: str = ""
    min_accuracy: float | None = None
    gpu_minutes: float | None = None

    @property
    def runs(self) -> list[StoredRun]:
        return [run for arm in self.arms for run in arm.runs]

    @property
    def how_to_measure(self) -> str:
        """Return what it takes to measure the experiment."""
        command = f"cnnbench reproduce {self.name}"
        if self.gpu_minutes is None:
            return f"run {command}"
        minutes = "1 minute" if self.gpu_minutes == 1 else f"{self.gpu_minutes:g} minutes"
        return f"needs a GPU: {command}, about {minutes} on an H100"


def sort_runs(
    runs: Sequence[StoredRun],
    scales: Sequence[Jobs],
    gpu_minutes: Mapping[str, float] | None = None,
    is_smoke: bool = False,
) -> dict[str, Experiment]:
    """Return the experiments by name, their arms in the order of their jobs at full scale.

    `scales` has the jobs of each scale, beginning with the full one. Runs that are no job of a
    scale, as those of an earlier version of an experiment, are left out, and so are runs that were
    too short for the network to learn, unless `is_smoke`. Of several chips and scales those are
    taken that measured most arms, then the fullest scale, then those with most runs.
    """
    minutes = gpu_minutes or {}
    usable = [run for run in runs if is_smoke or run.is_long_enough]
    experiments = {}
    for name in scales[0]:
        jobs = [{frozenset(job) for job in scale.get(name, ())} for scale in scales]
        groups: dict[tuple[int, str], list[StoredRun]] = {}
        for run in usable:
            places = [place for place, known in enumerate(jobs) if run.job in known]
            if places:
                groups.setdefault((places[0], run.chip), []).append(run)
        best = Experiment(name, [], gpu_minutes=minutes.get(name))
        best_rank = (0, 0, 0)
        for (place, _), members in groups.items():
            arms, reduced = _sort_arms(members, scales[0][name])
            rank = (len(arms), -place, len(members))
            if rank > best_rank:
                best, best_rank = best._replace(arms=arms, reduced=reduced), rank
        if best.reduced and not is_smoke:
            best = best._replace(min_accuracy=MIN_ACCURACY)
        experiments[name] = best
    return experiments


def _sort_arms(runs: Sequence[StoredRun], jobs: Sequence[Sequence[str]]) -> tuple[list[Arm], str]:
    """Return the arms that have runs, and the overrides of the runs that are not of an arm."""
    members: dict[tuple[str, ...], list[StoredRun]] = {}
    for _, *words in jobs:
        members[tuple(word for word in words if not word.startswith("seed="))] = []
    keys = [word.partition("=")[0] for word in next(iter(members))]
    reductions: dict[str, None] = {}
    for run in runs:
        by_key = {word.partition("=")[0]: word for word in run.words}
        members.setdefault(tuple(by_key[key] for key in keys), []).append(run)
        reductions |= dict.fromkeys(word for key, word in by_key.items() if key not in keys)
    arms = [Arm(words, repeated) for words, repeated in members.items() if repeated]
    return arms, " ".join(reductions)
