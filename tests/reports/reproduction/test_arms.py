"""The runs of an experiment in groups: values, seeds, what is missing, what was reduced."""

import pytest
from made_records import made, made_record

from cnnbench.reports.reproduction.arms import Experiment, experiments
from cnnbench.runs.records import Record

NAME = "claims/x"
VARIED = {NAME: {"model": "lenet,alexnet", "optimizer.lr": "0.3,10", "seed": "0,1,2"}}
LENET, ALEXNET = ({"model": name, "optimizer.lr": "0.3"} for name in ("lenet", "alexnet"))


def experiment(runs: list[Record]) -> Experiment:
    return experiments(runs, VARIED)[NAME]


def test_runs_that_differ_in_the_seed_alone_are_one_arm() -> None:
    arms = experiment(made(NAME, LENET, [0.7, 0.8]) + made(NAME, ALEXNET, [0.9])).arms
    assert [(arm.values, arm.accuracies) for arm in arms] == [
        (("lenet", "0.3"), [0.7, 0.8]),
        (("alexnet", "0.3"), [0.9]),
    ]


def test_arms_have_the_order_in_which_they_are_varied() -> None:
    found = experiment(made(NAME, ALEXNET, [0.9]) + made(NAME, LENET, [0.7]))
    assert [arm.values[0] for arm in found.arms] == ["lenet", "alexnet"]


def test_runs_of_other_experiments_are_left_out() -> None:
    assert experiment(made("claims/y", LENET, [0.7])).arms == []


def test_a_job_that_has_not_begun_is_of_the_arm_of_those_that_have() -> None:
    values = {"model": "lenet", "optimizer.lr": "10"}  # which a configuration has as 10.0
    (arm,) = experiment([made_record(NAME, values), made_record(NAME, values, seed=1, state="not begun")]).arms
    assert (arm.values, len(arm.runs), arm.unfinished) == (("lenet", "10"), 2, "1 not begun")


def test_what_failed_is_told_with_the_reason() -> None:
    failed = made_record(NAME, LENET, seed=1, state="failed", error="The memory does not suffice.\nMore.", exit_code=2)
    (arm,) = experiment([made_record(NAME, LENET), failed]).arms
    assert (arm.accuracies, arm.unfinished) == ([0.8], "1 failed (The memory does not suffice)")


def test_of_a_seed_that_was_run_twice_the_latest_counts() -> None:
    runs = [made_record(NAME, LENET, accuracy=each, since=f"2026-01-0{day}") for each, day in ((0.9, 2), (0.5, 1))]
    (arm,) = experiment(runs).arms
    assert arm.accuracies == [0.9]


def test_the_time_of_an_epoch_is_the_mean_over_runs_of_their_medians() -> None:
    runs = [made_record(NAME, LENET, seed, earlier=[0.1] * 2, epoch_s=time) for seed, time in ((0, 1.0), (1, 3.0))]
    runs[0].rows[0]["epoch_s"] = 90.0  # the first, which prepares
    (arm,) = experiment(runs).arms
    assert arm.epoch_times_s == [1.0, 3.0]
    assert arm.epoch_s is not None
    assert arm.epoch_s.value == 2.0


def test_the_gap_is_train_less_test_accuracy() -> None:
    (arm,) = experiment(made(NAME, LENET, [0.7, 0.8], train_accuracy=0.9)).arms
    assert arm.gap is not None
    assert arm.gap.value == pytest.approx(0.15)


def test_the_peak_of_a_process_on_a_cpu_is_that_of_no_run() -> None:
    (arm,) = experiment([made_record(NAME, LENET)]).arms
    assert arm.peaks_gib == []


def test_the_peak_of_a_run_on_a_gpu_is_told() -> None:
    (arm,) = experiment([made_record(NAME, LENET, result={"device": "cuda"})]).arms
    assert arm.peaks_gib == [1.5]


def test_what_diverged_has_no_accuracy_and_what_failed_otherwise_is_not_there() -> None:
    failed = [made_record(NAME, LENET, seed, state="failed", exit_code=code) for seed, code in ((1, 4), (2, 2))]
    (arm,) = experiment([made_record(NAME, LENET), *failed]).arms
    assert arm.by_seed() == {"0": 0.8, "1": None}


def test_as_configured_nothing_is_reduced() -> None:
    assert experiment(made(NAME, LENET, [0.7, 0.8, 0.9])).reductions == []


def test_what_is_reduced_is_told_in_words() -> None:
    values = {**LENET, "optimizer.lr": "3", "data.train_examples": "10000", "train.epochs": "1", "device": "cpu"}
    found = experiment(made(NAME, values, [0.7]))
    assert found.reductions == ["optimizer.lr 3", "10,000 training examples", "1 epoch", "1 seed"]


def test_other_seeds_are_no_change() -> None:
    assert experiment(made(NAME, LENET, [0.7, 0.8, 0.9, 0.9])).reductions == []


def test_fewer_seeds_alone_change_nothing_in_a_run() -> None:
    found = experiment(made(NAME, LENET, [0.7, 0.8]))
    assert (found.changes, found.reductions) == ([], ["2 seeds"])


@pytest.mark.parametrize("value", ["9" * 5000, "²", "\x1b[31m", "1_0"])
def test_a_value_of_anyones_is_no_harm(value: str) -> None:
    found = experiment(made(NAME, {**LENET, "data.resize": value, "model": value}, [0.7]))
    assert "\x1b" not in "".join(found.reductions) + found.arms[0].label
    assert len(found.arms[0].label) < 400
