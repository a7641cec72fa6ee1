"""Runs whose layers, loss and optimizer are computed by hand, by the command line."""

import csv
from pathlib import Path
from typing import Any

import pytest
from installed import Command
from same_run import differences

SMALL = (
    *("data=sample", "data.train_examples=60", "data.test_examples=20", "data.validation=20"),
    *("train.epochs=2", "train.batch_size=16", "device=cpu", "device.threads=1", "device.precision=fp64"),
)
TIMES = ("epoch_s", "examples_per_s", "peak_gib")


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def trained(within: Command, name: str, *overrides: str) -> list[dict[str, float]]:
    result = within(*SMALL, *overrides, f"hydra.run.dir={name}")
    assert result.returncode == 0, result.stderr
    return rows(Path(name))


@pytest.mark.parametrize(
    ("by_hand", "shared"),
    [
        (["train.layers=reference"], ["model=lenet", "optimizer.lr=0.5"]),
        (["train.layers=reference"], ["model=bn_lenet", "scheduler=cosine"]),
        (["train.layers=reference"], ["model=lenet_relu", "optimizer=adam", "augment=mixup"]),
        (["train.loss_implementation=reference"], ["train.label_smoothing=0.1", "train.l1=0.001"]),
        (["train.loss_implementation=reference"], ["train.loss=nll"]),
        (["train.loss_implementation=reference"], ["train.loss=mse", "augment=cutmix"]),
        (["optimizer.implementation=reference"], ["optimizer=sgd", "optimizer.weight_decay=0.01"]),
        (["optimizer.implementation=reference"], ["optimizer=momentum", "scheduler=onecycle"]),
        (["optimizer.implementation=reference"], ["optimizer=adagrad", "scheduler.warmup_epochs=1"]),
        (["optimizer.implementation=reference"], ["optimizer=adam", "train.grad_clip_norm=1"]),
        (
            ["train.layers=reference", "train.loss_implementation=reference", "optimizer.implementation=reference"],
            ["model=simple_cnn", "train.ema_decay=0.9", "train.on_nonfinite_loss=skip"],
        ),
    ],
    ids=str,
)
def test_a_run_by_hand_has_the_same_curve_within_rounding(
    within: Command, by_hand: list[str], shared: list[str]
) -> None:
    library = trained(within, "torch", *shared)
    assert trained(within, "reference", *shared, *by_hand) == [
        pytest.approx(row, abs=1e-9, rel=1e-9) for row in library
    ]


@pytest.mark.parametrize(
    "optimizer", ["momentum", "adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adagrad"))]
)
def test_a_run_by_hand_goes_on_with_the_same_bits(within: Command, optimizer: str) -> None:
    overrides = (f"optimizer={optimizer}", "optimizer.implementation=reference", "train.layers=reference")
    trained(within, "whole", *overrides)
    trained(within, "parts", *overrides, "train.epochs=1")
    assert within("resume", "parts", "train.epochs=2").returncode == 0
    assert set(differences(Path("whole"), Path("parts"))) <= {"best.pt.config.train.epochs"}


def evaluated(within: Command, *arguments: str) -> Any:
    result = within("evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.partition("most confused")[0]


def test_what_was_trained_by_hand_is_evaluated_by_either(within: Command) -> None:
    trained(within, "run", "train.layers=reference", "model=simple_cnn")
    assert evaluated(within, "run", "train.layers=torch") == evaluated(within, "run")


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_the_reference_computes_in_single_precision_unless_told_otherwise(within: Command, precision: str) -> None:
    result = within(*SMALL, "train.layers=reference", f"device.precision={precision}", "train.epochs=1")
    assert result.returncode == 0, result.stderr
    assert "), fp32, channels first, 1 thread" in result.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.layers=hand"], "train.layers=hand is not known. Allowed: reference, torch."),
        (["train.loss_implementation=x"], "train.loss_implementation=x is not known. Allowed: reference, torch."),
        (["optimizer.implementation=x"], "optimizer.implementation=x is not known. Allowed: reference, torch."),
        (
            ["optimizer=muon", "optimizer.implementation=reference"],
            "optimizer.implementation=reference is for adagrad, adam, momentum, sgd, not for muon.",
        ),
        (["train.layers=reference", "device.precision=bf16"], "train.layers=reference computes in fp32, tf32 or fp64"),
        (["train.layers=reference", "device.sync_batchnorm=true"], "both replace batch normalisation"),
    ],
    ids=str,
)
def test_what_there_is_not_by_hand_is_said(within: Command, overrides: list[str], message: str) -> None:
    result = within(*overrides)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
