"""The jobs of a sweep and its progress."""

import logging
import pickle
from collections.abc import Sequence

import pytest

from cnnbench.cli.hydra_app import HydraJob
from cnnbench.errors import ConfigError
from cnnbench.sweeps import jobs
from cnnbench.sweeps.jobs import MAX_JOBS, SweepProgress, SweepRequest, list_jobs


@pytest.mark.parametrize(
    ("finished", "parallel", "number", "elapsed_s", "messages"),
    [
        (0, 1, 0, 0, []),
        (0, 1, 2, 120, ["3 of 12, about 10 min left"]),
        (8, 1, 1, 30, ["10 of 12, about 2 min left"]),
        (0, 3, 2, 1, []),  # the third of three parallel jobs
        (0, 3, 3, 60, ["4 of 12, about 5 min left"]),  # one has ended, two are half done
        (0, 1, 11, 11, ["12 of 12, about 1 s left"]),
    ],
)
def test_progress_estimates_the_time_left(
    finished: int,
    parallel: int,
    number: int,
    elapsed_s: int,
    messages: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(jobs.time, "time", lambda: 1000.0 + elapsed_s)
    SweepProgress(12, finished, parallel, started=1000.0).log(number)
    assert caplog.messages == messages


def test_pickled_job_has_the_progress_but_not_the_other_jobs() -> None:
    progress = SweepProgress(2, 0, 1, 0.0)
    job = HydraJob(print, SweepRequest(["-m"], [["seed=0"], ["seed=1"]], progress=progress))
    sent = pickle.loads(pickle.dumps(job)).sweep
    assert (sent.progress, sent.jobs) == (progress, None)


def test_jobs_are_all_combinations_in_order() -> None:
    assert list_jobs(["optimizer.lr=0.1,0.2", "seed=0,1"]) == [
        ["optimizer.lr=0.1", "seed=0"],
        ["optimizer.lr=0.1", "seed=1"],
        ["optimizer.lr=0.2", "seed=0"],
        ["optimizer.lr=0.2", "seed=1"],
    ]


def test_last_override_of_a_key_counts() -> None:
    assert list_jobs(["seed=0,1", "seed=5"]) == [["seed=5"]]


def test_lines_of_a_jobs_file_multiply_the_jobs() -> None:
    jobs = list_jobs(["seed=0,1"], lines=[["optimizer.lr=0.1"], ["optimizer.lr=0.2"]])
    assert [" ".join(job) for job in jobs] == [
        f"optimizer.lr={lr} seed={seed}" for lr in (0.1, 0.2) for seed in (0, 1)
    ]


def test_command_line_and_jobs_file_replace_proposed_values() -> None:
    proposed = {"seed": "0,1", "optimizer.lr": "0.1,0.2"}
    assert list_jobs(["seed=7"], proposed, [["optimizer.lr=1"]]) == [["optimizer.lr=1", "seed=7"]]


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("range(0.1,0.35,0.1)", ["0.1", "0.2", "0.3"]),
        ("range(0.1,0.65,0.1)", ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]),
        ("range(1e-4,4e-4,1e-4)", ["0.0001", "0.0002", "0.0003"]),
        ("range(1,3)", ["1", "2"]),
        ("range(1.0,3.0)", ["1.0", "2.0"]),
        ("choice(0.1,0.5)", ["0.1", "0.5"]),
        ("sort(3,1,2)", ["1", "2", "3"]),
    ],
)
def test_values_are_written_without_rounding_errors(written: str, values: Sequence[str]) -> None:
    assert list_jobs([f"optimizer.lr={written}"]) == [[f"optimizer.lr={v}"] for v in values]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=range(3,3)"], "seed=range(3,3) has no values"),
        (["seed=0", "optimizer.lr=interval(0,1)"], "an interval has no values to list"),
        (["seed=range(1,2,0)"], "seed=range(1,2,0) is not a range"),
        ([f"seed=range({MAX_JOBS + 1})"], "a sweep of more than 10,000 jobs"),
        (["seed=range(1000000000000)"], "a sweep of more than 10,000 jobs"),
        (["seed=shuffle(range(1,1000000000))"], "a sweep of more than 10,000 jobs"),
        (["optimizer.lr=range(0,1,1e-9)"], "a sweep of more than 10,000 jobs"),
        (["seed=range(101)", "train.epochs=range(1,101)"], "seed alone has 101 values"),
    ],
)
def test_no_jobs_and_too_many_jobs_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        list_jobs(overrides)
    assert words in str(error.value)
