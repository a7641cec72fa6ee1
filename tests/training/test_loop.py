"""The loop: what it yields, what it writes, when it stops."""

import csv
import logging
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.training_states import make_state
from torch import nn

from cnnbench.config import Config, ConstantConfig, as_dict, load
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.errors import DivergedError
from cnnbench.runs.directory import RunDirectory
from cnnbench.training import checkpoint, loop
from cnnbench.training.device import Device, resolve_device, setup_device
from cnnbench.training.engine import EagerEngine, Metrics
from cnnbench.training.state import Row

Start = Callable[[], tuple[EagerEngine, Iterator[Row]]]


MEASURED = ("epoch_s", "examples_per_s", "peak_gib")  # differ from run to run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def start(
    config: Config, device: Device, examples: Examples, run: RunDirectory, make_engine: MakeEngine
) -> Start:
    """Gives an engine and its rows, trained and validated on the random images with some dropout."""
    change(config, device__name=device.torch_device.type)

    def begin() -> tuple[EagerEngine, Iterator[Row]]:
        setup_device(resolve_device(config.device), config.device, config.seed)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4)
        )
        engine = make_engine(network, config, device)
        return engine, loop.fit(make_state(config, engine, examples, run))

    return begin


def rows_of(start: Start) -> list[Row]:
    _, rows = start()
    return list(rows)


@pytest.mark.parametrize("bar", [True, False])
def test_progress_within_an_epoch_is_logged_where_there_is_no_bar(
    bar: bool, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: bar, raising=False)
    monkeypatch.setattr(loop, "REFRESH_S", -1.0)
    monkeypatch.setattr(loop, "PROGRESS_S", 0.0)  # after each step, of which an epoch has three
    monkeypatch.setattr(loop, "format_time_left", "{:.6f}".format)
    rows = rows_of(start)
    lines = [
        re.fullmatch(r"epoch (./2, .*) %, (\S+) left \(in the run (\S+)\)", each)
        for each in caplog.messages
    ]
    if bar:
        assert lines == []
        return
    assert [line and line[1] for line in lines] == ["1/2, 33", "1/2, 67", "2/2, 33", "2/2, 67"]
    for line, row in zip(lines, (rows[0], rows[0], rows[1], rows[1]), strict=True):
        assert line is not None
        epoch_left, run_left = float(line[2]), float(line[3])
        assert 0 < epoch_left < row["epoch_s"] * 3
        assert (run_left > epoch_left) == (row["epoch"] == 1)


def test_a_short_epoch_logs_no_progress(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(loop, "REFRESH_S", -1.0)
    rows_of(start)
    assert caplog.messages == []


def reproducible(rows: list[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def with_accuracies(engine: EagerEngine, accuracies: list[float]) -> None:
    """Let evaluations find these, one after the other."""
    results = iter(accuracies)
    engine.evaluate = lambda examples, batch_size: Metrics(1.0, next(results))


def with_a_loss_that_is_nan_from(engine: EagerEngine, step: int) -> None:
    """Let the loss of training become NaN at `step`, counted from 1."""
    whole, steps = engine.loss, 0

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += torch.is_grad_enabled()
        return whole(logits, labels) * (math.nan if steps >= step else 1.0)

    engine.loss = loss


def test_a_row_tells_the_epoch_the_rate_and_both_parts(start: Start) -> None:
    assert list(rows_of(start)[0]) == [
        "epoch", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", *MEASURED,
    ]  # fmt: skip


def test_there_is_a_row_for_each_epoch(start: Start) -> None:
    assert [row["epoch"] for row in rows_of(start)] == [1, 2]


def test_the_file_of_metrics_holds_the_rows(start: Start, run: RunDirectory) -> None:
    rows = rows_of(start)
    with (run.path / "metrics.csv").open() as file:
        assert [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
        ] == rows


def test_the_file_of_metrics_is_there_after_the_first_epoch(
    start: Start, run: RunDirectory
) -> None:
    _, rows = start()
    next(rows)
    assert len((run.path / "metrics.csv").read_text().splitlines()) == 2


@EACH_DEVICE
def test_on_a_terminal_no_bar_stays(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    rows_of(start)
    shown = capsys.readouterr().err
    assert "examples/s" in shown
    assert shown.rpartition("\r")[2] == ""  # behind blanks that the next line is written over


def test_training_lowers_the_loss(start: Start, config: Config) -> None:
    change(config, train__epochs=15)
    rows = rows_of(start)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_the_last_row_is_of_the_weights_that_remain(start: Start, examples: Examples) -> None:
    engine, rows = start()
    last = list(rows)[-1]
    measured = engine.evaluate(examples, 8)
    assert (last["validation_loss"], last["validation_accuracy"]) == (
        measured.loss,
        measured.accuracy,
    )


def test_the_schedule_sets_the_rate_of_each_step(start: Start, config: Config) -> None:
    change(config, scheduler=ConstantConfig(warmup_epochs=1.0))
    engine, rows = start()
    rates: list[float] = []
    engine.optimizers[0].register_step_pre_hook(
        lambda *_: rates.append(engine.optimizers[0].param_groups[0]["lr"])
    )
    list(rows)
    assert rates == pytest.approx(
        [config.optimizer.lr * factor for factor in (1 / 3, 2 / 3, 1, 1, 1, 1)]
    )


def test_the_last_and_smaller_batch_counts_by_its_share(start: Start) -> None:
    engine, rows = start()
    weights: list[float] = []
    step = engine.train_step

    def train_step(images: torch.Tensor, labels: torch.Tensor, weight: float) -> None:
        weights.append(weight)
        step(images, labels, weight)

    engine.train_step = train_step
    next(rows)
    assert weights == [1, 1, 5 / 8]


def test_each_epoch_takes_all_examples_in_the_order_of_its_seed(
    start: Start, config: Config, examples: Examples
) -> None:
    change(config, seed=3)
    engine, rows = start()
    seen: list[torch.Tensor] = []
    preprocess = engine.preprocess

    def watched(images: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append(images)
        return preprocess(images)

    engine.preprocess = watched
    list(rows)
    orders = torch.cat([epoch_order(21, 3, epoch) for epoch in (1, 2)])
    assert torch.equal(torch.cat(seen), examples.images[orders])


def test_every_step_is_in_training_mode(start: Start) -> None:
    engine, rows = start()
    modes: list[bool] = []
    engine.optimizers[0].register_step_pre_hook(lambda *_: modes.append(engine.model.training))
    list(rows)
    assert modes == [True] * 6


def test_the_training_loss_of_a_row_is_of_its_epoch_alone(start: Start) -> None:
    engine, rows = start()
    constants = iter([1.0, 1.0, 1.0, 5.0, 5.0, 5.0])

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 0 * logits.sum() + (next(constants) if torch.is_grad_enabled() else 2.0)

    engine.loss = loss
    assert [row["train_loss"] for row in rows] == [1.0, 5.0]


def test_a_batch_larger_than_the_data_is_a_full_one(start: Start, config: Config) -> None:
    small = rows_of(start)
    change(config, train__batch_size=21)
    exact = rows_of(start)
    change(config, train__batch_size=1000)
    assert reproducible(rows_of(start)) == reproducible(exact) != reproducible(small)


@EACH_DEVICE
def test_the_same_seed_gives_the_same_rows(start: Start) -> None:
    assert reproducible(rows_of(start)) == reproducible(rows_of(start))


def test_another_seed_gives_other_rows(start: Start, config: Config) -> None:
    first = rows_of(start)
    change(config, seed=1)
    assert reproducible(rows_of(start)) != reproducible(first)


def test_best_is_the_epoch_of_the_highest_validation_accuracy(
    start: Start, config: Config, run: RunDirectory
) -> None:
    change(config, train__epochs=4)
    engine, rows = start()
    with_accuracies(engine, [0.3, 0.6, 0.6, 0.5])
    list(rows)
    assert checkpoint.load(run.checkpoints / "best.pt")["epoch"] == 2


@EACH_DEVICE
def test_best_holds_the_weights_of_its_epoch(
    start: Start, config: Config, run: RunDirectory
) -> None:
    engine, rows = start()
    with_accuracies(engine, [0.6, 0.5])
    next(rows)
    weights = {key: value.clone() for key, value in engine.model.state_dict().items()}
    list(rows)
    best = checkpoint.load(run.checkpoints / "best.pt")["model"]
    assert all(torch.equal(best[key], value.cpu()) for key, value in weights.items())


def test_a_fold_is_a_validation_set(start: Start, config: Config, run: RunDirectory) -> None:
    change(config, data__validation=0, data__folds=2, data__fold=0)
    assert "validation_loss" in rows_of(start)[0]
    assert (run.checkpoints / "best.pt").exists()


def test_without_a_validation_set_the_columns_are_of_the_test_set(
    start: Start, config: Config
) -> None:
    change(config, data__validation=0)
    assert list(rows_of(start)[0])[4:6] == ["test_loss", "test_accuracy"]


def test_without_a_validation_set_nothing_is_chosen(
    start: Start, config: Config, run: RunDirectory
) -> None:
    change(config, data__validation=0)
    rows_of(start)
    assert not (run.checkpoints / "best.pt").exists()


def test_last_and_previous_are_of_the_last_two_epochs(start: Start, run: RunDirectory) -> None:
    rows_of(start)
    kept = [checkpoint.load(run.checkpoints / name)["epoch"] for name in ("previous.pt", "last.pt")]
    assert kept == [1, 2]


def test_last_holds_all_that_training_needs_to_go_on(start: Start, run: RunDirectory) -> None:
    rows_of(start)
    assert set(checkpoint.load(run.checkpoints / "last.pt")) == {
        "epoch", "step", "train_s", "rows", "wall_s", "config", "sums", "examples", "model", "average", "optimizers",
        "scaler", "generators",
    }  # fmt: skip


@EACH_DEVICE
def test_last_holds_the_optimizer_as_it_is(start: Start, run: RunDirectory) -> None:
    engine, rows = start()
    list(rows)
    kept = checkpoint.load(run.checkpoints / "last.pt")["optimizers"][0]
    for index, parameter in enumerate(engine.model.parameters()):
        momentum = engine.optimizers[0].state[parameter]["momentum_buffer"].cpu()
        assert torch.equal(kept[index]["momentum_buffer"], momentum)


def test_last_holds_the_generator_as_it_is(start: Start, run: RunDirectory) -> None:
    rows_of(start)
    kept = checkpoint.load(run.checkpoints / "last.pt")["generators"]["cpu"]
    assert torch.equal(kept, torch.get_rng_state())


def test_last_holds_rows_and_configuration(start: Start, run: RunDirectory, config: Config) -> None:
    rows = rows_of(start)
    kept = checkpoint.load(run.checkpoints / "last.pt")
    assert kept["rows"] == rows
    assert load(kept["config"]) == load(as_dict(config))


def test_divergence_is_told_with_epoch_and_steps(
    start: Start, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loop, "REFRESH_S", math.inf
    )  # the sums are read at the end of the epoch alone
    engine, rows = start()
    with_a_loss_that_is_nan_from(engine, step=5)
    with pytest.raises(
        DivergedError,
        match=r"training loss became nan in epoch 2, steps 4 to 6\..*last\.pt holds epoch 1",
    ):
        list(rows)


def test_divergence_is_seen_during_an_epoch(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "REFRESH_S", -1.0)  # the sums are read at every step
    engine, rows = start()
    with_a_loss_that_is_nan_from(engine, step=2)
    with pytest.raises(
        DivergedError, match=r"in epoch 1, steps 2 to 2\. There is no checkpoint yet"
    ):
        list(rows)


def test_divergence_in_the_validation_loss_is_told(start: Start) -> None:
    engine, rows = start()
    engine.evaluate = lambda examples, batch_size: Metrics(math.inf, 0.1)
    with pytest.raises(DivergedError, match="The validation loss is inf after epoch 1"):
        list(rows)


def test_divergence_leaves_the_checkpoint_of_the_epoch_before(
    start: Start, run: RunDirectory
) -> None:
    engine, rows = start()
    with_a_loss_that_is_nan_from(engine, step=5)
    with pytest.raises(DivergedError):
        list(rows)
    kept = checkpoint.load(run.checkpoints / "last.pt")
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_averaged_weights_are_kept_as_best_and_beside_those_that_train_as_last(
    start: Start, config: Config, run: RunDirectory
) -> None:
    change(config, train__ema_decay=0.5, train__epochs=1)
    engine, rows = start()
    list(rows)
    best, last = (checkpoint.load(run.checkpoints / name) for name in ("best.pt", "last.pt"))
    averaged, trained = engine.eval_model.state_dict(), engine.model.state_dict()
    assert not torch.equal(averaged["1.weight"], trained["1.weight"])
    assert torch.equal(best["model"]["1.weight"], averaged["1.weight"])
    assert torch.equal(last["average"]["1.weight"], averaged["1.weight"])
    assert torch.equal(last["model"]["1.weight"], trained["1.weight"])
