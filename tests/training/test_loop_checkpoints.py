"""Checkpoints that the loop writes: which epochs they are of, and their content."""

import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE
from helpers.training_states import StartTraining, collect_rows

from cnnbench.config import Config, as_dict, load_config
from cnnbench.runs.directory import RunDirectory
from cnnbench.training import checkpoint
from cnnbench.training.engine import EagerEngine
from cnnbench.training.metric_sums import Metrics


def set_validation_accuracies(engine: EagerEngine, accuracies: list[float]) -> None:
    """Make each evaluation return the next of these accuracies."""
    remaining = iter(accuracies)
    engine.evaluate = lambda examples, batch_size: Metrics(1.0, next(remaining))


def test_best_checkpoint_is_of_first_epoch_with_highest_validation_accuracy(
    start_training: StartTraining, config: Config, run_directory: RunDirectory
) -> None:
    change(config, train__epochs=4)
    engine, rows = start_training()
    set_validation_accuracies(engine, [0.3, 0.6, 0.6, 0.5])
    list(rows)
    assert checkpoint.load_checkpoint(run_directory.checkpoints / "best.pt")["epoch"] == 2


@EACH_DEVICE
def test_best_checkpoint_has_the_weights_of_its_epoch(
    start_training: StartTraining, config: Config, run_directory: RunDirectory
) -> None:
    engine, rows = start_training()
    set_validation_accuracies(engine, [0.6, 0.5])
    next(rows)
    weights = {key: value.clone() for key, value in engine.model.state_dict().items()}
    list(rows)
    best = checkpoint.load_checkpoint(run_directory.checkpoints / "best.pt")["model"]
    assert all(torch.equal(best[key], value.cpu()) for key, value in weights.items())


def test_no_best_checkpoint_without_validation_set(
    start_training: StartTraining, config: Config, run_directory: RunDirectory
) -> None:
    change(config, data__validation=0)
    collect_rows(start_training)
    assert not (run_directory.checkpoints / "best.pt").exists()


def test_last_and_previous_checkpoints_are_of_the_last_two_epochs(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    collect_rows(start_training)
    kept = [
        checkpoint.load_checkpoint(run_directory.checkpoints / name)["epoch"]
        for name in ("previous.pt", "last.pt")
    ]
    assert kept == [1, 2]


def test_last_checkpoint_has_all_keys_needed_to_resume(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    collect_rows(start_training)
    assert set(checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")) == {
        "epoch",
        "step",
        "train_s",
        "rows",
        "wall_s",
        "config",
        "sums",
        "examples",
        "model",
        "average",
        "optimizers",
        "scaler",
        "generators",
    }


@EACH_DEVICE
def test_last_checkpoint_has_the_optimizer_state(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    engine, rows = start_training()
    list(rows)
    kept = checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")["optimizers"][0]
    for index, parameter in enumerate(engine.model.parameters()):
        momentum = engine.optimizers[0].state[parameter]["momentum_buffer"].cpu()
        assert torch.equal(kept[index]["momentum_buffer"], momentum)


def test_last_checkpoint_has_the_generator_state(
    start_training: StartTraining, run_directory: RunDirectory
) -> None:
    collect_rows(start_training)
    kept = checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")["generators"]["cpu"]
    assert torch.equal(kept, torch.get_rng_state())


def test_last_checkpoint_has_rows_and_configuration(
    start_training: StartTraining, run_directory: RunDirectory, config: Config
) -> None:
    rows = collect_rows(start_training)
    kept = checkpoint.load_checkpoint(run_directory.checkpoints / "last.pt")
    assert kept["rows"] == rows
    assert load_config(kept["config"]) == load_config(as_dict(config))


def test_best_checkpoint_has_averaged_weights_and_last_has_both(
    start_training: StartTraining, config: Config, run_directory: RunDirectory
) -> None:
    change(config, train__ema_decay=0.5, train__epochs=1)
    engine, rows = start_training()
    list(rows)
    best, last = (
        checkpoint.load_checkpoint(run_directory.checkpoints / name)
        for name in ("best.pt", "last.pt")
    )
    averaged, trained = engine.eval_model.state_dict(), engine.model.state_dict()
    assert not torch.equal(averaged["1.weight"], trained["1.weight"])
    assert torch.equal(best["model"]["1.weight"], averaged["1.weight"])
    assert torch.equal(last["average"]["1.weight"], averaged["1.weight"])
    assert torch.equal(last["model"]["1.weight"], trained["1.weight"])
