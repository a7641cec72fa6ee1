"""Load the network of a run directory, which may be untrusted."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import Command
from helpers.fork_server import ForkServer
from helpers.paths import CONF
from helpers.small_runs import SMALL, Runs, State, rewrite_checkpoint
from safetensors import safe_open

from cnnbench.data import catalog
from cnnbench.errors import CheckpointError, CnnbenchError, ConfigError
from cnnbench.training import checkpoint
from cnnbench.training.load_model import TrainedModel, load_trained_model

IMAGES = torch.arange(2 * 784, dtype=torch.uint8).view(2, 1, 28, 28)


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    """A finished run, whose epoch was chosen: it has best.pt."""
    return runs.copy("finished", tmp_path / "run")


@pytest.fixture
def interrupted(runs: Runs, tmp_path: Path) -> Path:
    """A run that was interrupted in its first epoch, at step 3: it has no best.pt."""
    return runs.copy("in_first_epoch", tmp_path / "interrupted")


def opened(run: Path, *overrides: str) -> TrainedModel:
    return load_trained_model(run, list(overrides), CONF, "evaluate")


def refusal(kind: type[CnnbenchError], run: Path, *overrides: str) -> str:
    with pytest.raises(kind) as caught:
        opened(run, *overrides)
    return str(caught.value)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = checkpoint.load(path)["model"]
    return weights


def are_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


def test_the_weights_are_those_of_the_epoch_that_was_chosen(run: Path) -> None:
    rewrite_checkpoint(run / "checkpoints" / "best.pt", lambda state: state.update(epoch=1))
    trained = opened(run)
    assert (trained.weights, trained.overrides) == ("best.pt, epoch 1", {})
    assert trained.dataset.classes == catalog.get("sample").classes
    assert not trained.engine.eval_model.training
    assert are_equal(
        trained.engine.eval_model.state_dict(), weights_of(run / "checkpoints" / "best.pt")
    )


def test_where_none_was_chosen_they_are_the_last(interrupted: Path) -> None:
    trained = opened(interrupted)
    assert trained.weights == "last.pt, epoch 0 and 3 steps"
    assert are_equal(
        trained.engine.eval_model.state_dict(), weights_of(interrupted / "checkpoints" / "last.pt")
    )


def test_an_average_of_weights_is_used_where_it_is_what_was_measured(interrupted: Path) -> None:
    last = interrupted / "checkpoints" / "last.pt"
    average = {name: value + 1 for name, value in weights_of(last).items()}
    rewrite_checkpoint(
        last,
        lambda state: (
            state["config"]["train"].update(ema_decay=0.9),
            state.update(average=average),
        ),
    )
    assert are_equal(opened(interrupted).engine.eval_model.state_dict(), average)


def test_a_damaged_last_checkpoint_is_told_and_the_one_before_used(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, previous = (interrupted / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    last.write_bytes(b"damaged")
    trained = opened(interrupted)
    step = checkpoint.load(previous)[
        "step"
    ]  # 2, or 1 where the disk was slow and that of step 2 replaced in waiting
    assert re.fullmatch(f"previous.pt, epoch 0 and {step} steps?", trained.weights)
    assert are_equal(trained.engine.eval_model.state_dict(), weights_of(previous))
    told = capsys.readouterr().err
    assert ("last.pt is damaged" in told, ". The checkpoint before it is used." in told) == (
        True,
        True,
    )


def test_the_directory_of_a_sweep_is_refused_naming_a_run_in_it(runs: Runs, tmp_path: Path) -> None:
    for name in ("b", "a"):
        runs.copy("finished", tmp_path / "sweep" / name)
    words = refusal(ConfigError, tmp_path / "sweep")
    newest = tmp_path / "sweep" / "b"
    offer = f"The newest is {newest}: cnnbench evaluate {newest}"
    assert words == f"{newest.parent} holds 2 runs. {offer}"


def test_several_processes_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert "without torchrun" in refusal(ConfigError, run)


# checkpoints


def test_a_run_without_checkpoint_is_refused(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    assert "has no checkpoint" in refusal(CheckpointError, run)


def test_a_damaged_best_checkpoint_is_not_replaced_by_the_last(run: Path) -> None:
    (run / "checkpoints" / "best.pt").write_bytes(b"damaged")
    assert "best.pt is damaged" in refusal(CheckpointError, run)


def top(**values: Any) -> Callable[[State], None]:
    return lambda state: state.update(values)


def configured(group: str, **values: Any) -> Callable[[State], None]:
    return lambda state: state["config"][group].update(values)


def without(key: str) -> Callable[[State], None]:
    return lambda state: state.pop(key)


def weights(change: Callable[[torch.Tensor], Any]) -> Callable[[State], None]:
    return lambda state: state["model"].update({k: change(v) for k, v in state["model"].items()})


UNFIT = "does not fit mlp"
HOSTILE: dict[str, tuple[Callable[[State], Any], type[CnnbenchError], str]] = {
    "no configuration": (without("config"), CheckpointError, "does not say how"),
    "an empty configuration": (top(config={}), ConfigError, "has no value"),
    "no weights": (without("model"), CheckpointError, UNFIT),
    "plain weights": (weights(lambda weight: 1), CheckpointError, UNFIT),
    "weights of another shape": (weights(torch.flatten), CheckpointError, "size mismatch for"),
    "weights of another type": (weights(torch.Tensor.long), CheckpointError, UNFIT),
    "more weights": (
        lambda state: state["model"].update(more=torch.zeros(1)),
        CheckpointError,
        "Unexpected key",
    ),
    "terabytes": (configured("model", widths=[1 << 40]), CheckpointError, UNFIT),
    "another network": (configured("model", name="lenet"), ConfigError, "widths"),
    "an unknown network": (configured("model", name="resnet21"), ConfigError, "is not known"),
    "an epoch in words": (top(epoch="\x1b[31m"), CheckpointError, UNFIT),
    "no epoch": (without("epoch"), CheckpointError, UNFIT),
}


@pytest.mark.parametrize(("change", "kind", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_checkpoint_with_a_checksum_and_absurd_values_is_refused(
    change: Callable[[State], Any], kind: type[CnnbenchError], told: str, run: Path
) -> None:
    rewrite_checkpoint(run / "checkpoints" / "best.pt", change)
    assert told in refusal(kind, run)


# the data set


def test_without_dataset_json_the_names_of_the_classes_are_lost(run: Path) -> None:
    (run / "dataset.json").unlink()
    assert "dataset.json is gone" in refusal(CheckpointError, run)


DAMAGED = "dataset.json is damaged"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        *(("classes", ["one"], DAMAGED), ("classes", "0123456789", DAMAGED)),
        *(("mean", [], DAMAGED), ("mean", [float("nan")], DAMAGED)),
        *(("std", [0.0], DAMAGED), ("std", [0.1, 0.2], DAMAGED)),
        *(("image_size", number, DAMAGED) for number in (0, 1 << 30, 28.0)),
        ("classes", ["one", "two"], "does not fit"),
    ],
)
def test_absurd_facts_of_a_data_set_are_refused(key: str, value: Any, told: str, run: Path) -> None:
    facts = json.loads((run / "dataset.json").read_text())
    (run / "dataset.json").write_text(json.dumps({**facts, key: value}))
    assert told in refusal(CheckpointError, run)


# overrides


def test_a_folder_outside_that_is_named_again_is_used(run: Path) -> None:
    rewrite_checkpoint(run / "checkpoints" / "best.pt", configured("data", root="../../outside"))
    assert opened(run, "data.root=../../outside").config.data.root == "../../outside"


def test_the_device_and_how_it_is_measured_may_be_others(run: Path) -> None:
    trained = opened(
        run, "device=cpu", "device.precision=bf16", "train.batch_size=7", "train.tta=hflip"
    )
    train = trained.config.train
    assert (trained.engine.device.precision, train.batch_size, train.tta) == ("bf16", 7, "hflip")


def test_other_data_leave_the_network_and_its_classes(run: Path) -> None:
    trained = opened(run, "data=mnist")
    assert (trained.config.data.name, trained.config.data.resize) == ("mnist", 28)
    assert trained.dataset.classes == catalog.get("sample").classes


def test_pixels_that_were_not_normalized_stay_from_0_to_1(within: Command) -> None:
    assert (
        within(*SMALL, "train.epochs=1", "data.normalize=false", "hydra.run.dir=plain").returncode
        == 0
    )
    white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    for overrides in ([], ["data=mnist"]):
        trained = opened(Path("plain"), *overrides)
        assert trained.engine.preprocess(white).unique().tolist() == [1.0]
    assert (
        trained.dataset.mean == catalog.get("sample").mean
    )  # which tells whether an image looks inverted
    assert within("export", "plain", "--format", "safetensors").returncode == 0
    with safe_open("plain/export/mlp.safetensors", "pt") as file:
        assert (file.metadata()["mean"], file.metadata()["std"]) == ("[0.0]", "[1.0]")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.lr=1", "cannot be changed by evaluate"),
        ("model.widths=[4]", "cannot be changed by evaluate"),
        ("data.resize=32", "built for images of 28 pixels"),
        ("data.normalize=false", "trained on images that were normalized"),
        ("device=tpu", "device=tpu is not known"),
        ("device.precision=fp8", "is not known"),
        ("device.speed=1", "There is no key"),
        ("lenet", "is not an override"),
    ],
)
def test_other_overrides_are_refused(override: str, told: str, run: Path) -> None:
    assert told in refusal(ConfigError, run, override)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is there")
def test_a_device_that_is_not_here_is_refused_and_can_be_overridden(run: Path) -> None:
    rewrite_checkpoint(run / "checkpoints" / "best.pt", configured("device", name="cuda"))
    assert "Present: cpu" in refusal(ConfigError, run)
    assert opened(run, "device=cpu").engine.device.torch_device.type == "cpu"


def test_what_is_worth_it_in_training_alone_is_not_done(run: Path) -> None:
    rewrite_checkpoint(run / "checkpoints" / "best.pt", configured("device", compile=True))
    assert not opened(run).engine.device.compile


def test_a_run_that_goes_on_meanwhile_can_be_used(forks: ForkServer, tmp_path: Path) -> None:
    endless = [word for word in SMALL if not word.startswith("train.epochs")]
    running = forks.start(*endless, "train.epochs=1000000", "hydra.run.dir=run", folder=tmp_path)
    try:
        while not (tmp_path / "run" / "checkpoints" / "best.pt").exists():
            assert running.is_running(), running.errors
        assert opened(tmp_path / "run").engine.classify(IMAGES).shape == (2, 10)
    finally:
        running.kill()
