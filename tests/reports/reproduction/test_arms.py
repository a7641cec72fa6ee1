"""The arms of an experiment: values, seeds, figures, missing runs."""

from itertools import product

import pytest
from helpers.fake_records import FakeEpochs, make_record, make_records

from cnnbench.reports.reproduction.arms import Arm, sort_runs
from cnnbench.runs.records import Record

NAME = "claims/x"
MODELS, RATES = ("model=lenet", "model=alexnet"), ("optimizer.lr=0.3", "optimizer.lr=10")
JOBS = [[f"experiment={NAME}", *words] for words in product(MODELS, RATES, ("seed=0", "seed=1"))]
LENET, ALEXNET = ({"model": name, "optimizer.lr": "0.3"} for name in ("lenet", "alexnet"))


def sort(runs: list[Record]) -> list[Arm]:
    return sort_runs(runs, {NAME: JOBS}, {NAME: ""})[NAME].arms


def only_arm(runs: list[Record]) -> Arm:
    (arm,) = sort(runs)
    return arm


def test_arms_group_seeds_and_follow_the_order_of_jobs() -> None:
    others = make_records("claims/y", LENET, [0.5])
    arms = sort(others + make_records(NAME, ALEXNET, [0.9]) + make_records(NAME, LENET, [0.7, 0.8]))
    assert [arm.values for arm in arms] == [LENET, ALEXNET]
    assert [arm.samples("accuracy") for arm in arms] == [[0.7, 0.8], [0.9]]
    assert arms[0].words == ("model=lenet", "optimizer.lr=0.3")


def test_job_not_begun_belongs_to_the_arm_of_its_values() -> None:
    values = {"model": "lenet", "optimizer.lr": "10"}  # a configuration has 10.0
    waiting = make_record(NAME, values, seed=1, state="not begun")
    arm = only_arm([make_record(NAME, values), waiting])
    assert (arm.values, len(arm.runs), arm.unfinished) == (values, 2, "1 not begun")


def test_arm_uses_the_latest_run_of_a_seed() -> None:
    days = {0.9: "2026-01-02", 0.5: "2026-01-01"}
    runs = []
    for accuracy, day in days.items():
        runs.append(make_record(NAME, LENET, accuracy=accuracy, status={"since": day}))
    assert only_arm(runs).samples("accuracy") == [0.9]


def test_finished_run_without_files_has_no_figures() -> None:
    runs = make_records(NAME, LENET, [0.5, 0.6, 0.7])
    runs[0].rows.clear()
    del runs[1].result["test_accuracy"]
    assert only_arm(runs).samples("accuracy") == [0.7]
    runs[2].rows[0].clear()
    names = ("train_less_test", "epochs_to_converge", "test_loss_rise", "epoch_s")
    assert [only_arm(runs).samples(name) for name in names] == [[]] * 4


def test_arm_figures_are_computed_from_epochs() -> None:
    losses = [0.9, 0.4, 0.5, 0.55]
    epochs = FakeEpochs(earlier=[0.1, 0.76, 0.7], test_losses=losses, epoch_s=2.0)
    run = make_record(NAME, LENET, epochs=epochs)
    run.rows[0]["epoch_s"] = 90.0  # the first epoch includes preparations
    arm = only_arm([run])
    assert arm.samples("epoch_s") == [2.0]
    assert arm.samples("test_loss_rise") == pytest.approx([0.15])
    assert arm.samples("epochs_to_converge") == [2.0]
    assert arm.samples("train_less_test") == [0.0]


def test_diverged_run_has_accuracy_zero_and_failed_run_none() -> None:
    runs = [make_record(NAME, LENET)]
    for seed, code in ((1, 4), (2, 2)):
        runs.append(make_record(NAME, LENET, seed, state="failed", status={"exit_code": code}))
    assert only_arm(runs).accuracy_by_seed == {"0": 0.8, "1": 0.0}


@pytest.mark.parametrize("value", ["9" * 5000, "²", "\x1b[31m", "1_0"])
def test_untrusted_value_is_sanitized(value: str) -> None:
    (word, _) = only_arm(make_records(NAME, {**LENET, "model": value}, [0.7])).words
    assert "\x1b" not in word
    assert len(word) < 400
