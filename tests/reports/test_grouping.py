"""The keys by which runs are grouped, and groups of repetitions."""

from typing import Any

import pytest
from helpers.fake_records import make_record

from cnnbench.reports.grouping import (
    RunGroup,
    group_runs,
    grouping_keys,
    override_keys,
    rank_runs,
    varying_keys,
)
from cnnbench.runs.records import Record

LENET, MLP = {"model": "lenet"}, {"model": "mlp"}


def make_run(values: dict[str, str], seed: int = 0, **files: Any) -> Record:
    return make_record("smoke", values, seed, **files)


def validated(accuracy: float) -> dict[str, Any]:
    return {"best": {"validation_accuracy": accuracy}}


def test_override_keys_are_in_order_of_first_use_without_bookkeeping() -> None:
    runs = [make_run({"optimizer.lr": "0.1"}), make_run({"sweep": "mine", "model": "mlp"})]
    runs[0].overrides.extend(["hydra.run.dir=here", "hydra/launcher=joblib"])
    assert override_keys(runs) == ["experiment", "optimizer.lr", "seed", "model"]


def test_varying_keys_have_different_values() -> None:
    runs = [make_run({"optimizer.lr": lr, "model": "mlp"}, seed=3) for lr in ("0.1", "0.2")]
    assert varying_keys(runs) == ["optimizer.lr"]


def test_grouping_keys_begin_with_the_model_and_omit_the_seed() -> None:
    runs = [make_run({"optimizer.lr": "0.1", **LENET}), make_run({"optimizer.lr": "0.2", **MLP}, 1)]
    assert grouping_keys(runs) == ["model", "optimizer.lr"]


def test_grouping_keys_end_with_hidden_keys() -> None:
    runs = [make_run(LENET, seed) for seed in (0, 1)]
    runs[0].config["train"] = {"epochs": 10}
    runs[1].config["train"] = {"epochs": 20}
    assert grouping_keys(runs) == ["train.epochs"]


def test_groups_are_sorted_by_mean_validation_accuracy() -> None:
    accuracies = ((LENET, 0, 0.1), (LENET, 1, 0.6), (MLP, 0, 0.4), (MLP, 1, 0.5))
    runs = [make_run(values, seed, result=validated(found)) for values, seed, found in accuracies]
    groups = group_runs(runs, ["model"])
    assert [group.values for group in groups] == [("mlp",), ("lenet",)]
    assert [group.rank for group in groups] == pytest.approx([0.45, 0.35])


def test_repetitions_are_the_latest_run_of_each_seed() -> None:
    starts = ((0, "2026-02"), (0, "2026-03"), (1, "2026-01"))
    runs = [make_run(LENET, seed, status={"since": since}) for seed, since in starts]
    assert sorted(runs.index(run) for run in RunGroup((), runs).repetitions) == [1, 2]


def test_group_accuracies_are_of_the_best_epoch_or_the_test_set() -> None:
    runs = [make_run(LENET, accuracy=0.7, result=validated(0.9)), make_run(LENET, 1, accuracy=0.6)]
    group = RunGroup((), runs)
    assert group.accuracies("validation") == [0.9]
    assert group.accuracies("test") == [0.7, 0.6]


def test_runs_without_accuracy_rank_last() -> None:
    failed = make_run(LENET, state="failed")
    runs = [failed, make_run(LENET, accuracy=0.5), make_run(LENET, accuracy=0.9)]
    assert rank_runs(runs) == [runs[2], runs[1], failed]
