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
def interrupted(runs: Runs, tmp_path: Path) -> Path:
    """Return a run interrupted at step 3 of its first epoch, without best.pt."""
    return runs.copy("in_first_epoch", tmp_path / "interrupted")


def load(finished_run: Path, *overrides: str) -> TrainedModel:
    return load_trained_model(finished_run, list(overrides), CONF, "evaluate")


def get_error(error: type[CnnbenchError], finished_run: Path, *overrides: str) -> str:
    with pytest.raises(error) as raised:
        load(finished_run, *overrides)
    return str(raised.value)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    state_dict: dict[str, torch.Tensor] = checkpoint.load_checkpoint(path)["model"]
    return state_dict


def assert_weights(trained: TrainedModel, expected: dict[str, torch.Tensor]) -> None:
    state_dict = dict(trained.engine.eval_model.state_dict())
    torch.testing.assert_close(state_dict, expected, rtol=0, atol=0)


def test_weights_are_those_of_the_best_epoch(finished_run: Path) -> None:
    rewrite_checkpoint(
        finished_run / "checkpoints" / "best.pt", lambda state: state.update(epoch=1)
    )
    trained = load(finished_run)
    assert (trained.weights, trained.overrides) == ("best.pt, epoch 1", {})
    assert trained.dataset.classes == catalog.get("sample").classes
    assert not trained.engine.eval_model.training
    assert_weights(trained, load_weights(finished_run / "checkpoints" / "best.pt"))


def test_weights_are_the_last_without_best_epoch(interrupted: Path) -> None:
    trained = load(interrupted)
    assert trained.weights == "last.pt, epoch 0 and 3 steps"
    assert_weights(trained, load_weights(interrupted / "checkpoints" / "last.pt"))


def test_averaged_weights_are_used_with_ema_decay(interrupted: Path) -> None:
    last = interrupted / "checkpoints" / "last.pt"
    average = {name: value + 1 for name, value in load_weights(last).items()}
    rewrite_checkpoint(last, set_config("train", ema_decay=0.9))
    rewrite_checkpoint(last, set_values(average=average))
    assert_weights(load(interrupted), average)


def test_damaged_last_checkpoint_is_reported_and_the_previous_one_used(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, previous = (interrupted / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    last.write_bytes(b"damaged")
    trained = load(interrupted)
    step = checkpoint.load_checkpoint(previous)["step"]  # 2, or 1 if a slow disk skipped 2
    assert re.fullmatch(f"previous.pt, epoch 0 and {step} steps?", trained.weights)
    assert_weights(trained, load_weights(previous))
    output = capsys.readouterr().err
    assert "last.pt is damaged" in output
    assert ". The checkpoint before it is used." in output


def test_sweep_directory_is_refused_naming_its_newest_run(runs: Runs, tmp_path: Path) -> None:
    for name in ("b", "a"):
        runs.copy("finished", tmp_path / "sweep" / name)
    newest = tmp_path / "sweep" / "b"
    hint = f"The newest is {newest}: cnnbench evaluate {newest}"
    message = get_error(ConfigError, tmp_path / "sweep")
    assert message == f"{newest.parent} holds 2 runs. {hint}"


def test_several_ranks_are_refused(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert "without torchrun" in get_error(ConfigError, finished_run)


def test_run_without_checkpoint_is_refused(finished_run: Path) -> None:
    shutil.rmtree(finished_run / "checkpoints")
    assert "has no checkpoint" in get_error(CheckpointError, finished_run)


def test_refusal_names_the_newest_run_with_a_checkpoint(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, "outputs/good")
    shutil.rmtree(finished_run / "checkpoints")
    error = get_error(CheckpointError, finished_run)
    assert error.endswith(" The newest run with one is outputs/good.")


def test_damaged_best_checkpoint_is_refused(finished_run: Path) -> None:
    (finished_run / "checkpoints" / "best.pt").write_bytes(b"damaged")
    assert "best.pt is damaged" in get_error(CheckpointError, finished_run)


def set_values(**values: Any) -> Callable[[State], None]:
    return lambda state: state.update(values)


def set_config(group: str, **values: Any) -> Callable[[State], None]:
    return lambda state: state["config"][group].update(values)


def remove_key(key: str) -> Callable[[State], None]:
    return lambda state: state.pop(key)


def change_weights(change: Callable[[torch.Tensor], Any]) -> Callable[[State], None]:
    def apply(state: State) -> None:
        state["model"] = {name: change(weight) for name, weight in state["model"].items()}

    return apply


DOES_NOT_FIT = "does not fit mlp"
INVALID: dict[str, tuple[Callable[[State], Any], type[CnnbenchError], str]] = {
    "missing configuration": (remove_key("config"), CheckpointError, "does not say how"),
    "empty configuration": (set_values(config={}), ConfigError, "has no value"),
    "missing weights": (remove_key("model"), CheckpointError, DOES_NOT_FIT),
    "weights as numbers": (change_weights(lambda weight: 1), CheckpointError, DOES_NOT_FIT),
    "weights of another shape": (
        change_weights(torch.flatten),
        CheckpointError,
        "size mismatch for",
    ),
    "weights of another type": (change_weights(torch.Tensor.long), CheckpointError, DOES_NOT_FIT),
    "unknown weights": (
        lambda state: state["model"].update(more=torch.zeros(1)),
        CheckpointError,
        "Unexpected key",
    ),
    "terabytes": (set_config("model", widths=[1 << 40]), CheckpointError, DOES_NOT_FIT),
    "another network": (set_config("model", name="lenet"), ConfigError, "widths"),
    "an unknown network": (set_config("model", name="resnet21"), ConfigError, "is not known"),
    "epoch not a number": (set_values(epoch="\x1b[31m"), CheckpointError, DOES_NOT_FIT),
    "missing epoch": (remove_key("epoch"), CheckpointError, DOES_NOT_FIT),
}


@pytest.mark.parametrize(("change", "error", "message"), INVALID.values(), ids=INVALID)
def test_checkpoint_with_checksum_and_invalid_values_is_refused(
    change: Callable[[State], Any], error: type[CnnbenchError], message: str, finished_run: Path
) -> None:
    rewrite_checkpoint(finished_run / "checkpoints" / "best.pt", change)
    assert message in get_error(error, finished_run)


def test_missing_dataset_json_is_refused(finished_run: Path) -> None:
    (finished_run / "dataset.json").unlink()
    assert "dataset.json is gone" in get_error(CheckpointError, finished_run)


DAMAGED = "dataset.json is damaged"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", ["one"], DAMAGED),
        ("classes", "0123456789", DAMAGED),
        ("mean", [], DAMAGED),
        ("mean", [float("nan")], DAMAGED),
        ("std", [0.0], DAMAGED),
        ("std", [0.1, 0.2], DAMAGED),
        ("image_size", 0, DAMAGED),
        ("image_size", 1 << 30, DAMAGED),
        ("image_size", 28.0, DAMAGED),
        ("classes", ["one", "two"], "does not fit"),
    ],
)
def test_invalid_dataset_info_is_refused(
    key: str, value: Any, message: str, finished_run: Path
) -> None:
    info = json.loads((finished_run / "dataset.json").read_text())
    (finished_run / "dataset.json").write_text(json.dumps({**info, key: value}))
    assert message in get_error(CheckpointError, finished_run)


def test_data_root_outside_the_run_is_used_if_given_again(finished_run: Path) -> None:
    rewrite_checkpoint(
        finished_run / "checkpoints" / "best.pt", set_config("data", root="../../outside")
    )
    assert load(finished_run, "data.root=../../outside").config.data.root == "../../outside"


def test_device_and_evaluation_settings_may_be_overridden(finished_run: Path) -> None:
    overrides = ("device.precision=bf16", "train.batch_size=7", "train.tta=hflip")
    trained = load(finished_run, "device=cpu", *overrides)
    train = trained.config.train
    assert (trained.engine.device.precision, train.batch_size, train.tta) == ("bf16", 7, "hflip")


def test_other_data_keeps_the_network_and_its_classes(finished_run: Path) -> None:
    trained = load(finished_run, "data=mnist")
    assert (trained.config.data.name, trained.config.data.resize) == ("mnist", 28)
    assert trained.dataset.classes == catalog.get("sample").classes


def test_pixels_stay_from_0_to_1_without_normalization(within: Command) -> None:
    done = within(*SMALL, "train.epochs=1", "data.normalize=false", "hydra.run.dir=plain")
    assert done.returncode == 0
    white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    for overrides in ([], ["data=mnist"]):
        trained = load(Path("plain"), *overrides)
        assert trained.engine.preprocess(white).unique().tolist() == [1.0]
    # It decides whether an image looks inverted.
    assert trained.dataset.mean == catalog.get("sample").mean
    assert within("export", "plain", "--format", "safetensors").returncode == 0
    with safe_open("plain/export/mlp.safetensors", "pt") as file:
        assert (file.metadata()["mean"], file.metadata()["std"]) == ("[0.0]", "[1.0]")


@pytest.mark.parametrize(
    ("override", "message"),
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
def test_overrides_of_training_settings_are_refused(
    override: str, message: str, finished_run: Path
) -> None:
    assert message in get_error(ConfigError, finished_run, override)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is there")
def test_unavailable_device_is_refused_and_can_be_overridden(finished_run: Path) -> None:
    rewrite_checkpoint(finished_run / "checkpoints" / "best.pt", set_config("device", name="cuda"))
    assert "Present: cpu" in get_error(ConfigError, finished_run)
    assert load(finished_run, "device=cpu").engine.device.torch_device.type == "cpu"


def test_loaded_network_is_not_compiled(finished_run: Path) -> None:
    rewrite_checkpoint(finished_run / "checkpoints" / "best.pt", set_config("device", compile=True))
    assert not load(finished_run).engine.device.compile


def test_running_training_can_be_loaded(forks: ForkServer, tmp_path: Path) -> None:
    job = [override for override in SMALL if not override.startswith("train.epochs")]
    running = forks.start(*job, "train.epochs=1000000", "hydra.run.dir=run", folder=tmp_path)
    try:
        while not (tmp_path / "run" / "checkpoints" / "best.pt").exists():
            assert running.is_running(), running.errors
        assert load(tmp_path / "run").engine.classify(IMAGES).shape == (2, 10)
    finally:
        running.kill()
