"""The arms of an experiment: values, seeds, figures, and the chip and the scale they are from."""

from itertools import product
from typing import Any

import pytest
from helpers.fake_stored_runs import make_run, make_runs

from cnnbench.reports.reproduction.arms import Arm, Experiment, sort_runs
from cnnbench.reports.reproduction.stored_runs import StoredRun

NAME = "claims/x"
MODELS, RATES = ("model=lenet", "model=alexnet"), ("optimizer.lr=0.3", "optimizer.lr=10")
SEEDS = ("seed=0", "seed=1")
FULL = {NAME: [[f"experiment={NAME}", *words] for words in product(MODELS, RATES, SEEDS)]}
SMALLER = {NAME: [[*job[:-1], "data.resize=32", job[-1]] for job in FULL[NAME]]}
LENET, ALEXNET = ({"model": name, "optimizer.lr": "0.3"} for name in ("lenet", "alexnet"))


def sort(runs: list[StoredRun], **more: Any) -> Experiment:
    return sort_runs(runs, [FULL, SMALLER], **more)[NAME]


def only_arm(runs: list[StoredRun]) -> Arm:
    (arm,) = sort(runs).arms
    return arm


def test_arms_group_seeds_and_follow_the_order_of_jobs() -> None:
    others = make_runs("claims/y", LENET, [0.5])
    runs = others + make_runs(NAME, ALEXNET, [0.9]) + make_runs(NAME, LENET, [0.7, 0.8])
    arms = sort(runs).arms
    assert [arm.values for arm in arms] == [LENET, ALEXNET]
    assert [arm.samples("accuracy") for arm in arms] == [[0.7, 0.8], [0.9]]
    assert arms[0].words == ("model=lenet", "optimizer.lr=0.3")


def test_arm_has_the_values_of_the_jobs_whatever_their_order() -> None:
    run = make_run(NAME, {"optimizer.lr": "10", "model": "lenet"})
    assert only_arm([run]).words == ("model=lenet", "optimizer.lr=10")


def test_runs_that_are_no_jobs_are_left_out() -> None:
    former = make_run(NAME, LENET | {"optimizer.lr": "1"})
    others = [make_run(NAME, LENET, seed=2), make_run(NAME, LENET | {"train.epochs": "1"})]
    assert sort([former, *others]) == Experiment(NAME, [])


def test_runs_shorter_than_two_epochs_of_the_recipe_are_left_out() -> None:
    runs = [make_run(NAME, LENET, seed, steps=steps) for seed, steps in enumerate((99, 100))]
    assert [run.seed for run in only_arm(runs).runs] == [1]
    (arm,) = sort(runs, is_smoke=True).arms
    assert [run.seed for run in arm.runs] == [0, 1]


def test_run_without_a_figure_has_no_sample_of_it() -> None:
    runs = make_runs(NAME, LENET, [0.5, 0.6], epoch_s=None)
    names = ("train_less_test", "epochs_to_converge", "test_loss_rise", "epoch_s", "accuracy")
    assert [only_arm(runs).samples(name) for name in names] == [[], [], [], [], [0.5, 0.6]]


def test_diverged_run_has_accuracy_zero_and_no_samples() -> None:
    arm = only_arm([make_run(NAME, LENET), make_run(NAME, LENET, 1, None)])
    assert arm.accuracy_by_seed == {0: 0.8, 1: 0.0}
    assert arm.samples("accuracy") == [0.8]
    assert [run.seed for run in arm.diverged] == [1]


SMALL = {"data.resize": "32"}


@pytest.mark.parametrize(
    ("runs", "chip", "reduced"),
    [
        # the full scale before a smaller one
        ([make_run(NAME, LENET, chip="a"), make_run(NAME, LENET | SMALL, chip="b")], "a", ""),
        # the chip that measured more arms, also with smaller images
        (
            [
                make_run(NAME, LENET, chip="a"),
                make_run(NAME, LENET | SMALL, chip="b"),
                make_run(NAME, ALEXNET | SMALL, chip="b"),
            ],
            "b",
            "data.resize=32",
        ),
        # the chip with more seeds
        ([make_run(NAME, LENET, chip="a"), *make_runs(NAME, LENET, [0.7] * 2, chip="b")], "b", ""),
    ],
)
def test_experiment_has_the_runs_of_one_chip_and_scale(
    runs: list[StoredRun], chip: str, reduced: str
) -> None:
    experiment = sort(runs)
    assert {run.chip for run in experiment.runs} == {chip}
    assert experiment.reduced == reduced


def test_unreduced_job_of_a_smaller_scale_counts_as_full() -> None:
    jobs = {NAME: FULL[NAME][:1]}
    experiment = sort_runs([make_run(NAME, LENET)], [FULL, jobs])[NAME]
    assert (len(experiment.arms), experiment.reduced) == (1, "")


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ({}, "run cnnbench reproduce claims/x"),
        ({NAME: 1.5}, "needs a GPU: cnnbench reproduce claims/x, about 1.5 minutes on an H100"),
        ({NAME: 1.0}, "needs a GPU: cnnbench reproduce claims/x, about 1 minute on an H100"),
    ],
)
def test_experiment_says_how_to_measure_it(minutes: dict[str, float], expected: str) -> None:
    assert sort([], gpu_minutes=minutes).how_to_measure == expected
