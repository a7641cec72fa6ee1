"""`cnnbench -m --dry-run`: list the jobs of a sweep and estimate their time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from cnnbench.analysis.format import align, format_count, format_duration, printable
from cnnbench.analysis.timing import count_flops, time_rounds
from cnnbench.config import Config, load_config
from cnnbench.data import datasets
from cnnbench.data.device_data import ResidentData
from cnnbench.data.splits import check_sizes, count_validation
from cnnbench.errors import CnnbenchError, DataError
from cnnbench.runs.directory import STATUS
from cnnbench.runs.records import Record, read_records
from cnnbench.sweeps.jobs import Overrides
from cnnbench.training.build import build_engine, on_meta
from cnnbench.training.engine import endless_steps

if TYPE_CHECKING:
    from cnnbench.sweeps.sweeper import Sweep

__all__ = ["estimate"]

PAIR = 2  # images for which operations are counted, as batch normalization needs two
MAX_CPU_FLOPS = 1e11  # in a measured step on a CPU, as a full batch may take many seconds


@dataclass(frozen=True)
class Work:
    """Floating-point operations of training and evaluation; in a speed, seconds per operation."""

    training: float
    evaluation: float

    def seconds(self, speed: "Work") -> float:
        """Return the seconds that the work takes at a speed."""
        return self.training * speed.training + self.evaluation * speed.evaluation


@dataclass(frozen=True)
class PlannedJob:
    """A job in the list. `seconds` is 0 if the job need not or cannot run."""

    overrides: Overrides
    state: str
    seconds: float = 0.0


def estimate(sweep: "Sweep") -> int:
    """Print the jobs of a sweep and their estimated time. Start none of them.

    Return the exit code: 0, or the code of the first job that would fail.
    """
    directory, jobs = sweep.directory, sweep.jobs
    has_begun = any(directory.glob(f"*/{STATUS}"))
    records = read_records(directory) if has_begun else []
    recorded = {record.path.name: record for record in records}
    estimator = Estimator(recorded.values())
    planned, codes = [], []
    for name, job in jobs.items():
        record = recorded.get(name)
        state, seconds = "to run" if record is None else record.state, 0.0
        try:
            settings = sweep.check(name)
            if not sweep.is_finished(name):
                seconds = estimator.seconds(settings, 0 if record is None else len(record.rows))
        except CnnbenchError as error:
            codes.append(error.exit_code)
            state = f"would fail: {str(error).partition(chr(10))[0]}"
        planned.append(PlannedJob(job.overrides, state, seconds))
    list_planned = _list_experiments if sweep.request.is_reproduction else _list_jobs
    print(printable(list_planned(planned)))
    print(f"{format_count(len(jobs), 'job')} in {directory}. Nothing was started.")
    if estimator.speed is not None:
        duration = format_duration(sum(job.seconds for job in planned))
        source = estimator.speed[1]
        print(f"Training and evaluation will take about {duration} one after another, {source}.")
    return codes[0] if codes else 0


def _list_jobs(planned: Sequence[PlannedJob]) -> str:
    rows = [
        [f"#{number}", " ".join(job.overrides), _format_time([job]), job.state]
        for number, job in enumerate(planned)
    ]
    return align(rows, right=[0, 2])


def _list_experiments(planned: Sequence[PlannedJob]) -> str:
    """Return a table of the experiments. The first override of a job is its experiment."""
    experiments: dict[str, list[PlannedJob]] = {}
    for job in planned:
        experiments.setdefault(job.overrides[0].partition("=")[2], []).append(job)
    rows = [["experiment", "jobs", "time", ""]]
    for name, jobs in experiments.items():
        states = Counter(job.state for job in jobs)
        counts = ", ".join(f"{number} {state}" for state, number in states.items())
        rows.append([name, str(len(jobs)), _format_time(jobs), counts])
    return align(rows, right=[1, 2])


def _format_time(jobs: Sequence[PlannedJob]) -> str:
    seconds = sum(job.seconds for job in jobs)
    return format_duration(seconds) if seconds else ""


class Estimator:
    """An estimate of the time of jobs, from a finished run or from some measured steps.

    `speed` is the speed and its source in words. It is None until a job needs it.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.speed: tuple[Work, str] | None = None
        self._flops: dict[str, tuple[float, float]] = {}
        self._missing: dict[tuple[str | None, ...], DataError] = {}
        for record in records:
            spent = record.figure("wall_s", "train"), record.figure("wall_s", "evaluation")
            if self.speed is None and spent[0] and spent[1]:
                work = self._work(load_config(record.config))
                speed = Work(spent[0] / work.training, spent[1] / work.evaluation)
                self.speed = speed, f"as {record.path.name} ran"

    def seconds(self, config: Config, epochs_done: int) -> float:
        """Return the seconds that the rest of a job will take.

        Raises:
            CnnbenchError: the job would fail.
        """
        data = config.data
        place = (data.name, data.path, data.root)
        if place in self._missing:  # do not search again, as the network may be slow
            raise self._missing[place]
        try:
            self.speed = self.speed or self._measure(config)
        except DataError as error:
            self._missing[place] = error
            raise
        return self._work(config, epochs_done).seconds(self.speed[0])

    def _work(self, config: Config, epochs_done: int = 0) -> Work:
        """Return the work in the rest of a run."""
        dataset = datasets.dataset_info(config.data)
        num_train = check_sizes(config.data, dataset)
        num_validation = count_validation(config.data, dataset)
        num_test = config.data.test_examples or dataset.test_examples
        epochs = config.train.epochs - epochs_done
        # Without a validation set each epoch is evaluated on the test set.
        num_evaluated = epochs * (num_validation or num_test)
        if num_validation:
            num_evaluated += num_test
        training_flops, inference_flops = self._flops_per_image(config)
        return Work(epochs * num_train * training_flops, num_evaluated * inference_flops)

    def _flops_per_image(self, config: Config) -> tuple[float, float]:
        """Return the operations per image in training and in inference, once for each network."""
        dataset = datasets.dataset_info(config.data)
        sizes = (config.data.resize, dataset.in_channels, len(dataset.classes))
        key = repr((config.model.name, config.model.arguments, sizes))
        if key not in self._flops:
            training, inference = count_flops(*on_meta(config, dataset, PAIR))
            self._flops[key] = training / PAIR, inference / PAIR
        return self._flops[key]

    def _measure(self, config: Config) -> tuple[Work, str]:
        """Measure the speed of some steps of a job. Return the speed and its source in words."""
        training_flops, evaluation_flops = self._flops_per_image(config)
        dataset, arrays = datasets.load_dataset(config.data)
        engine = build_engine(config, dataset)
        device, synchronize = engine.device.torch_device, engine.device.synchronize
        data = ResidentData.from_arrays(config.data, arrays, config.seed, device)
        batch_size = min(config.train.batch_size, len(data.train))
        if device.type == "cpu":
            batch_size = min(batch_size, max(PAIR, int(MAX_CPU_FLOPS / training_flops)))
        engine.prepare(data.train, batch_size)
        steps = endless_steps(engine, data.train, batch_size)
        training = time_rounds(lambda: next(steps), synchronize, rounds=1)
        images, labels = data.train.take(torch.arange(batch_size, device=device))
        engine.eval_model.eval()
        with torch.inference_mode():
            evaluate = partial(engine.evaluate_step, images, labels)
            evaluation = time_rounds(evaluate, synchronize, rounds=1)
        rate = f"{batch_size / training.median_s:,.0f} training examples/s"
        source = f"as the first was measured just now on {device}, {rate}"
        training_s, evaluation_s = training.median_s / batch_size, evaluation.median_s / batch_size
        return Work(training_s / training_flops, evaluation_s / evaluation_flops), source
