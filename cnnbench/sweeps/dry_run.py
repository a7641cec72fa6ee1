"""`cnnbench -m --dry-run`: the jobs of a sweep, and how long they will take, by the measured speed of the first."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnnbench.analysis.format import align, format_count, format_duration, printable
from cnnbench.analysis.timing import count_flops, time_rounds
from cnnbench.config import Config, load
from cnnbench.data import datasets
from cnnbench.data.resident import ResidentData
from cnnbench.data.splits import check_sizes, num_held_out
from cnnbench.errors import CnnbenchError
from cnnbench.runs.directory import STATUS
from cnnbench.runs.records import Record, read_records
from cnnbench.training.build import build_engine, on_meta
from cnnbench.training.engine import endless_steps

if TYPE_CHECKING:
    from cnnbench.sweeps.sweeper import Sweep

__all__ = ["estimate"]

PAIR = 2  # of images, whose arithmetic is counted: one alone is too few for batch normalisation


@dataclass(frozen=True)
class Work:
    """Floating-point operations of training and of evaluation; in a speed, the seconds that one of each takes."""

    training: float
    evaluation: float

    def seconds(self, speed: "Work") -> float:
        return self.training * speed.training + self.evaluation * speed.evaluation


def estimate(sweep: "Sweep") -> int:
    """List the jobs of a sweep and estimate their time; start none. Return the exit code.

    That is 0, or the code of the first job that would fail.
    """
    directory, jobs = sweep.directory, sweep.jobs
    begun = any(directory.glob(f"*/{STATUS}"))
    recorded = {record.path.name: record for record in (read_records(directory) if begun else [])}
    rows, codes, left_s = [], [], 0.0
    speed: tuple[Work, str] | None = None
    for number, (name, job) in enumerate(jobs.items()):
        record = recorded.get(name)
        state = "to run" if record is None else record.state
        time = ""
        try:
            settings = sweep.check(job)
            if not sweep.is_finished(name):
                speed = speed or _recorded(recorded.values()) or _measure(settings)
                epochs_done = 0 if record is None else len(record.rows)
                seconds = _work(settings, epochs_done).seconds(speed[0])
                left_s += seconds
                time = format_duration(seconds)
        except CnnbenchError as error:
            codes.append(error.exit_code)
            state = f"would fail: {str(error).partition(chr(10))[0]}"
        rows.append([f"#{number}", " ".join(job.overrides), time, state])
    print(printable(align(rows, right=[0, 2])))
    print(f"{format_count(len(jobs), 'job')} in {directory}. Nothing was started.")
    if speed is not None:
        duration = format_duration(left_s)
        print(f"Training and evaluation will take about {duration} one after another, {speed[1]}.")
    return codes[0] if codes else 0


def _work(config: Config, epochs_done: int = 0) -> Work:
    """What is left of a run."""
    dataset = datasets.dataset_info(config.data)
    num_train, held_out = check_sizes(config.data, dataset), num_held_out(config.data, dataset)
    num_test = config.data.test_examples or dataset.test_examples
    epochs = config.train.epochs - epochs_done
    evaluated = epochs * held_out + num_test if held_out else epochs * num_test
    of_training, of_inference = count_flops(*on_meta(config, dataset, PAIR))
    return Work(epochs * num_train * of_training / PAIR, evaluated * of_inference / PAIR)


def _recorded(records: Iterable[Record]) -> tuple[Work, str] | None:
    """The speed of the first run that is finished."""
    for record in records:
        training_s, evaluation_s = record.figure("wall_s", "train"), record.figure("wall_s", "evaluation")
        if training_s and evaluation_s:
            work = _work(load(record.config))
            return Work(training_s / work.training, evaluation_s / work.evaluation), f"as {record.path.name} ran"
    return None


def _measure(config: Config) -> tuple[Work, str]:
    """The speed of some steps of a job, taken here and now."""
    dataset, arrays = datasets.load(config.data)
    engine = build_engine(config, dataset)
    data = ResidentData.from_arrays(config.data, arrays, config.seed, engine.device.torch_device)
    batch_size = min(config.train.batch_size, len(data.train))
    engine.prepare(data.train, batch_size)
    steps = endless_steps(engine, data.train, batch_size)
    training = time_rounds(lambda: next(steps), engine.device.synchronize, rounds=1)
    images, labels = data.train.take(torch.arange(batch_size, device=engine.device.torch_device))
    engine.eval_model.eval()
    with torch.inference_mode():
        evaluation = time_rounds(lambda: engine.evaluate_step(images, labels), engine.device.synchronize, rounds=1)
    of_training, of_evaluation = count_flops(*on_meta(config, dataset, batch_size))
    rate = f"{batch_size / training.median_s:,.0f} training examples/s"
    source = f"as the first was measured just now on {engine.device.torch_device}, {rate}"
    return Work(training.median_s / of_training, evaluation.median_s / of_evaluation), source
