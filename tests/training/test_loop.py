"""The training loop: its rows, the examples and learning rates of its steps, metrics.csv."""

import csv
import math

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE
from helpers.training_states import MEASURED_COLUMNS, StartTraining, collect_rows, drop_measured

from cnnbench.config import Config, ConstantConfig, CosineConfig
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.runs.directory import RunDirectory


def test_row_has_epoch_lr_and_metrics_of_train_and_validation(
    start_training: StartTraining,
) -> None:
    assert list(collect_rows(start_training)[0]) == [
        "epoch",
        "lr",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        *MEASURED_COLUMNS,
    ]


def test_each_epoch_yields_a_row(start_training: StartTraining) -> None:
    assert [row["epoch"] for row in collect_rows(start_training)] == [1, 2]


def test_metrics_csv_contains_the_rows(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    rows = collect_rows(start_training)
    with (run_directory.path / "metrics.csv").open() as file:
        for line, row in zip(csv.DictReader(file), rows, strict=True):
            assert {key: float(value) for key, value in line.items()} == row


def test_metrics_csv_has_a_row_after_the_first_epoch(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    _, rows = start_training()
    next(rows)
    assert len((run_directory.path / "metrics.csv").read_text().splitlines()) == 2


def test_training_lowers_the_loss(start_training: StartTraining, config: Config) -> None:
    change(config, train__epochs=15)
    rows = collect_rows(start_training)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_last_row_has_the_metrics_of_the_final_weights(
    start_training: StartTraining, examples: Examples
) -> None:
    engine, rows = start_training()
    last = list(rows)[-1]
    measured = engine.evaluate(examples, 8)
    assert last["validation_loss"] == measured.loss
    assert last["validation_accuracy"] == measured.accuracy


def test_scheduler_sets_the_lr_of_each_step(start_training: StartTraining, config: Config) -> None:
    change(config, scheduler=ConstantConfig(warmup_epochs=1.0))
    engine, rows = start_training()
    rates: list[float] = []
    engine.optimizers[0].register_step_pre_hook(
        lambda *_: rates.append(engine.optimizers[0].param_groups[0]["lr"])
    )
    list(rows)
    factors = (1 / 3, 2 / 3, 1, 1, 1, 1)
    assert rates == pytest.approx([config.optimizer.lr * factor for factor in factors])


@pytest.mark.parametrize(
    ("last_batch", "expected"),
    [("weighted", [1, 1, 5 / 8]), ("full", [1, 1, 1]), ("drop", [1, 1])],
)
def test_smaller_last_batch_has_the_configured_weight(
    start_training: StartTraining, config: Config, last_batch: str, expected: list[float]
) -> None:
    change(config, train__last_batch=last_batch)
    engine, rows = start_training()
    weights: list[float] = []
    step = engine.train_step

    def train_step(images: torch.Tensor, labels: torch.Tensor, weight: float) -> None:
        weights.append(weight)
        step(images, labels, weight)

    engine.train_step = train_step
    next(rows)
    assert weights == expected
    assert engine.train_metrics.examples == (16 if last_batch == "drop" else 21)


def test_dropped_batch_counts_for_neither_speed_nor_schedule(
    start_training: StartTraining, config: Config
) -> None:
    change(config, train__last_batch="drop", train__epochs=2)
    change(config, scheduler=CosineConfig(min_lr_ratio=0.0, warmup_epochs=0.0))
    _, rows = start_training()
    first, second = list(rows)
    assert second["lr"] == pytest.approx(config.optimizer.lr * (1 + math.cos(math.pi * 3 / 4)) / 2)
    for row in (first, second):
        assert 16 / row["examples_per_s"] <= row["epoch_s"]


def test_each_epoch_trains_on_all_examples_in_seeded_order(
    start_training: StartTraining, config: Config, examples: Examples
) -> None:
    change(config, seed=3)
    engine, rows = start_training()
    seen: list[torch.Tensor] = []
    preprocess = engine.preprocess

    def preprocess_and_record(images: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append(images)
        return preprocess(images)

    engine.preprocess = preprocess_and_record
    list(rows)
    orders = torch.cat([epoch_order(21, 3, epoch) for epoch in (1, 2)])
    assert torch.equal(torch.cat(seen), examples.images[orders])


def test_every_step_runs_in_training_mode(start_training: StartTraining) -> None:
    engine, rows = start_training()
    modes: list[bool] = []
    engine.optimizers[0].register_step_pre_hook(lambda *_: modes.append(engine.model.training))
    list(rows)
    assert modes == [True] * 6


def test_train_loss_of_a_row_averages_over_its_epoch_only(start_training: StartTraining) -> None:
    engine, rows = start_training()
    constants = iter([1.0, 1.0, 1.0, 5.0, 5.0, 5.0])

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = next(constants) if torch.is_grad_enabled() else 2.0
        return 0 * logits.sum() + value

    engine.loss = loss
    assert [row["train_loss"] for row in rows] == [1.0, 5.0]


def test_batch_size_above_number_of_examples_means_one_full_batch(
    start_training: StartTraining, config: Config
) -> None:
    small_batches = drop_measured(collect_rows(start_training))
    change(config, train__batch_size=21)
    full_batch = drop_measured(collect_rows(start_training))
    change(config, train__batch_size=1000)
    assert drop_measured(collect_rows(start_training)) == full_batch
    assert full_batch != small_batches


@EACH_DEVICE
def test_same_seed_gives_same_rows(start_training: StartTraining) -> None:
    assert drop_measured(collect_rows(start_training)) == drop_measured(
        collect_rows(start_training)
    )


def test_different_seed_gives_different_rows(start_training: StartTraining, config: Config) -> None:
    first = collect_rows(start_training)
    change(config, seed=1)
    assert drop_measured(collect_rows(start_training)) != drop_measured(first)


def test_fold_is_used_as_validation_set(
    start_training: StartTraining, config: Config, run_directory: RunDirectory
) -> None:
    change(config, data__validation=0, data__folds=2, data__fold=0)
    assert "validation_loss" in collect_rows(start_training)[0]
    assert (run_directory.checkpoints / "best.pt").exists()


def test_rows_have_test_metrics_without_validation_set(
    start_training: StartTraining, config: Config
) -> None:
    change(config, data__validation=0)
    assert list(collect_rows(start_training)[0])[4:6] == ["test_loss", "test_accuracy"]
