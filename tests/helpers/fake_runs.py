"""Run directories as training leaves them, with made-up figures, in milliseconds each."""

import csv
import json
import math
import random
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

__all__ = ["FakeTraining", "make_grid", "make_run"]

COSTS = {  # parameters and multiply-adds of each network
    "lenet": (61_706, 416_520),
    "lenet_relu": (32_000, 212_520),
    "nin": (1_992_166, 33_423_360),
    "resnet18": (11_175_370, 33_010_944),
    "mlp": (575_050, 574_080),
}


@dataclass(frozen=True)
class FakeTraining:
    """The length of a training and the validation accuracy that it approaches."""

    epochs: int = 5
    accuracy: float = 0.8


def make_config(model: str, lr: float, batch_size: int, seed: int, epochs: int) -> dict[str, Any]:
    return {
        "data": {
            "name": "fashion_mnist",
            "root": None,
            "resize": 28,
            "validation": 5000,
            "folds": None,
            "fold": None,
        },
        "augment": {
            "name": "none",
            "hflip": False,
            "translate": 0,
            "cutout": 0,
            "random_erasing": 0.0,
            "mixup": 0.0,
            "cutmix": 0.0,
        },
        "device": {
            "name": "auto",
            "precision": "auto",
            "threads": "auto",
            "compile": False,
            "cuda_graphs": "auto",
        },
        "train": {
            "epochs": epochs,
            "batch_size": batch_size,
            "init": "xavier_uniform",
            "loss": "cross_entropy",
        },
        "seed": seed,
        "sweep": "made",
        "model": {"name": model, "recipe": {"resize": 28, "batch_size": 256, "lr": 0.9}},
        "optimizer": {"name": "sgd", "lr": lr, "momentum": 0.0, "weight_decay": 0.0},
        "scheduler": {"name": "constant", "warmup_epochs": 0.0},
    }


def make_rows(training: FakeTraining, rng: random.Random) -> list[dict[str, float]]:
    """Return epochs whose accuracy rises towards `training.accuracy`, at a random speed."""
    speed = rng.uniform(2, 8)
    rows = []
    for epoch in range(1, training.epochs + 1):
        train = training.accuracy * (1 - 0.8 * math.exp(-epoch / speed)) + 0.02
        validation = train - 0.03 * epoch / training.epochs + rng.gauss(0, 0.005)
        row = {
            "epoch": epoch,
            "lr": 0.1,
            "train_loss": -math.log(min(train, 0.999)),
            "train_accuracy": train,
            "validation_loss": -math.log(min(max(validation, 0.001), 0.999)),
            "validation_accuracy": validation,
            "epoch_s": 1.5 + rng.random(),
            "examples_per_s": 55_000 / (1.4 + rng.random()),
            "peak_gib": 0.6 + epoch / 1000,
        }
        rows.append(row)
    return rows


def make_run(
    path: Path,
    model: str = "lenet",
    lr: float = 0.1,
    batch_size: int = 64,
    seed: int = 0,
    state: str = "finished",
    training: FakeTraining | None = None,
    **files: Any,
) -> Path:
    """Make a run directory in `path`.

    An interrupted run has done half of its epochs, a failed run none. `files` has the values of
    JSON files by name, which are added or replace made-up ones.
    """
    training = training or FakeTraining()
    done = training
    if state == "interrupted":
        done = FakeTraining(training.epochs // 2, training.accuracy)
    rng = random.Random(repr((model, lr, batch_size, seed)))
    rows = [] if state == "failed" else make_rows(done, rng)
    path.mkdir(parents=True)
    (path / ".hydra").mkdir()
    overrides = [f"model={model}", f"optimizer.lr={lr}"]
    overrides += [f"train.batch_size={batch_size}", f"seed={seed}"]
    (path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    config = make_config(model, lr, batch_size, seed, training.epochs)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if rows:
        with (path / "metrics.csv").open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    status: dict[str, Any] = {"state": state, "verb": "train"}
    if state == "failed":
        status["error"] = "The training loss became nan in epoch 1.\nLower optimizer.lr."
        status["exit_code"] = 4
    chip = {"device": "cuda", "chip": "NVIDIA H100", "precision": "bf16", "world_size": 1}
    made: dict[str, Any] = {"status": status, "environment": chip}
    if state == "finished":
        parameters, multiply_adds = COSTS.get(model, (1_000, 2_000))
        made["result"] = make_result(rows, parameters, multiply_adds)
    for name, values in (made | files).items():
        (path / f"{name}.json").write_text(json.dumps(values))
    return path


def make_result(
    rows: list[dict[str, float]], parameters: int, multiply_adds: int
) -> dict[str, Any]:
    best = max(rows, key=lambda row: row["validation_accuracy"])
    return {
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "test_accuracy": best["validation_accuracy"] - 0.01,
        "test_loss": best["validation_loss"],
        "best": best,
        "final": rows[-1],
        "tta": "none",
        "wall_s": {"total": sum(row["epoch_s"] for row in rows)},
    }


def make_grid(
    folder: Path,
    models: list[str],
    rates: list[float],
    batch_sizes: list[int],
    seeds: list[int],
    epochs: int,
) -> None:
    """Make a run directory for each combination.

    With the highest rate, runs with the smallest batches failed. Another run was interrupted.
    """
    combinations = product(models, rates, batch_sizes, seeds)
    for number, (model, lr, batch_size, seed) in enumerate(combinations):
        state = "finished"
        if lr == max(rates) and batch_size == min(batch_sizes):
            state = "failed"
        elif number == 1:
            state = "interrupted"
        accuracy = 0.9 - 0.04 * abs(math.log10(lr / rates[len(rates) // 2]))
        training = FakeTraining(epochs, accuracy - 0.01 * models.index(model))
        make_run(folder / f"run{number:03}", model, lr, batch_size, seed, state, training)
