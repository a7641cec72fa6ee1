"""The tensors that a network takes from a trained one, and sources that are refused."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.small_runs import Runs, rewrite_checkpoint
from safetensors.torch import save_file
from torch import nn

from cnnbench import models
from cnnbench.config import Config, load_config
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.runs.directory import claim_exactly
from cnnbench.training import checkpoint
from cnnbench.training.build import build_engine
from cnnbench.training.preflight import check
from cnnbench.training.start_weights import Source, StartWeights, match_weights, read_weights

CLASSES = [f"class {number}" for number in range(10)]


def make_source(network: nn.Module, classes: list[str] | None = None) -> Source:
    return Source("RUN (net)", network.state_dict(), classes or CLASSES)


def match(config: Config, network: nn.Module, source: Source) -> StartWeights:
    return match_weights(config, network, source, CLASSES)


@pytest.fixture
def lenet_config(config: Config) -> Config:
    change(config, model__name="lenet", model__weights="RUN")
    return config


def test_equal_network_takes_all_tensors(lenet_config: Config) -> None:
    start = match(lenet_config, models.build("lenet"), make_source(models.build("lenet")))
    assert (len(start.taken), start.new, start.unused) == (10, {}, [])
    assert start.summary == "Weights of RUN (net): 10 of 10 tensors taken."


@pytest.mark.parametrize("num_classes", [10, 5])
def test_last_layer_is_new_for_other_classes(lenet_config: Config, num_classes: int) -> None:
    other = models.build("lenet", num_classes=num_classes)
    source = make_source(other, [f"other {number}" for number in range(num_classes)])
    start = match(lenet_config, models.build("lenet"), source)
    reasons = ["other classes"] * 2 if num_classes == 10 else ["5 x 84 -> 10 x 84", "5 -> 10"]
    assert start.new == dict(
        zip(["classifier.5.weight", "classifier.5.bias"], reasons, strict=True)
    )
    assert len(start.taken) == 8


def test_unknown_classes_are_taken_by_shape(lenet_config: Config) -> None:
    source = Source("FILE", models.build("lenet").state_dict(), None)
    assert match(lenet_config, models.build("lenet"), source).new == {}


@pytest.mark.parametrize(
    ("sizes", "layer", "reason"),
    [
        ({"image_size": 32}, "classifier.1", "120 x 576 -> 120 x 400"),
        ({"in_channels": 3}, "features.0", "6 x 3 x 5 x 5 -> 6 x 1 x 5 x 5"),
    ],
)
def test_layer_of_another_shape_is_new_as_a_whole(
    lenet_config: Config, sizes: dict[str, int], layer: str, reason: str
) -> None:
    start = match(lenet_config, models.build("lenet"), make_source(models.build("lenet", **sizes)))
    assert start.new == {f"{layer}.weight": reason, f"{layer}.bias": "its layer is new"}
    expected = f"8 of 10 tensors taken; new: {layer}.weight ({reason}), {layer}.bias"
    assert expected in start.summary


def test_names_of_long_lists_are_counted(config: Config) -> None:
    change(config, model__weights="RUN")
    vgg11, vgg19 = (models.build(name, image_size=32, width=0.0625) for name in ("vgg11", "vgg19"))
    deeper = match(config, vgg19, make_source(vgg11))
    shallower = match(config, vgg11, make_source(vgg19))
    assert "22 of 38 tensors taken; new: features.0.2.weight (not there), " in deeper.summary
    assert "22 of 22 tensors taken; not used: features.0.2.weight, " in shallower.summary
    assert deeper.summary.endswith(" and 10 more.")
    assert shallower.summary.endswith(" and 10 more.")


def test_network_of_which_nothing_fits_is_refused_with_both_names(lenet_config: Config) -> None:
    message = (
        r"model.weights=RUN: none of its weights fits lenet.\n"
        r"RUN \(net\) has net.1.weight \(256 x 784\), .* and .*;\n"
        r"lenet has features.0.weight \(6 x 1 x 5 x 5\), .* and 4 more."
    )
    other = nn.ModuleDict({"net": nn.Sequential(nn.Flatten(), nn.Linear(784, 256))})
    tensors = {**other.state_dict(), **{f"x{number}": torch.zeros(1) for number in range(9)}}
    with pytest.raises(ConfigError, match=message):
        match(lenet_config, models.build("lenet"), Source("RUN (net)", tensors, None))


def test_network_that_shares_only_biases_is_refused(lenet_config: Config) -> None:
    tensors = {
        name: value if value.ndim == 1 else value[:1]
        for name, value in models.build("lenet").state_dict().items()
    }
    with pytest.raises(ConfigError, match="none of its weights fits lenet"):
        match(lenet_config, models.build("lenet"), Source("RUN", tensors, None))


def test_weights_that_are_not_finite_are_refused(lenet_config: Config) -> None:
    source = make_source(models.build("lenet"))
    source.tensors["features.3.weight"][0, 0, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"RUN: features.3.weight is not finite"):
        match(lenet_config, models.build("lenet"), source)


def test_whole_numbers_do_not_replace_weights(lenet_config: Config) -> None:
    source = make_source(models.build("lenet"))
    tensors = {**source.tensors, "features.0.weight": torch.ones(6, 1, 5, 5, dtype=torch.int64)}
    start = match(lenet_config, models.build("lenet"), Source("RUN", tensors, CLASSES))
    assert start.new["features.0.weight"] == "torch.int64 -> torch.float32"


@pytest.mark.parametrize(
    ("name", "arguments", "last"),
    [
        ("lenet", {}, {"classifier.5.weight", "classifier.5.bias"}),
        ("nin", {}, {"classifier.0.4.weight", "classifier.0.4.bias"}),
        ("resnet9", {}, {"classifier.2.weight"}),
        (
            "googlenet",
            {"auxiliary": True},
            {
                *("classifier.2.weight", "classifier.2.bias", "auxiliary_4a.7.weight"),
                *("auxiliary_4a.7.bias", "auxiliary_4d.7.weight", "auxiliary_4d.7.bias"),
            },
        ),
    ],
)
def test_backbone_is_all_that_was_taken_but_the_last_layer(
    config: Config, name: str, arguments: dict[str, Any], last: set[str]
) -> None:
    change(config, model__weights="RUN", train__freeze="backbone")
    network = models.build(name, image_size=96, **arguments)
    start = match(config, network, make_source(network))
    assert set(start.taken) - set(start.frozen) == last


def test_layer_that_is_new_is_not_frozen(lenet_config: Config) -> None:
    change(lenet_config, train__freeze="backbone")
    source = make_source(models.build("lenet", in_channels=3))
    start = match(lenet_config, models.build("lenet"), source)
    assert "features.3.weight" in start.frozen
    assert not {"features.0.weight", "features.0.bias"}.intersection(start.frozen)


def test_weights_reach_the_network_and_its_average_in_any_precision(config: Config) -> None:
    change(config, model__weights="RUN", device__precision="fp64", train__ema_decay=0.9)
    checked = check(config, starts=False)
    from cnnbench.data.datasets import dataset_info

    engine = build_engine(config, dataset_info(config.data), checked.device)
    tensors = {name: value.float() + 1 for name, value in engine.model.state_dict().items()}
    start = match(config, engine.model, Source("RUN", tensors, None))
    start.load_into(engine)
    for model in (engine.model, engine.eval_model):
        for name, value in model.state_dict().items():
            assert value.dtype == torch.float64
            assert torch.equal(value, tensors[name].double())


def test_freezing_needs_weights(small_values: dict[str, Any]) -> None:
    values = {**small_values, "train": {**small_values["train"], "freeze": "backbone"}}
    with pytest.raises(ConfigError, match=r"train.freeze=backbone is for .*: model.weights=RUN"):
        load_config(values)


def test_run_gives_the_weights_of_its_best_epoch(finished_run: Path) -> None:
    source = read_weights(str(finished_run))
    best = checkpoint.load_checkpoint(finished_run / "checkpoints" / "best.pt")
    assert source.title == f"{finished_run} (mlp, best.pt, epoch {best['epoch']})"
    assert source.tensors.keys() == best["model"].keys()
    assert all(torch.equal(source.tensors[name], best["model"][name]) for name in best["model"])
    assert source.classes is not None
    assert source.classes[0] == "T-shirt/top"


def test_run_without_validation_gives_its_average(finished_run: Path) -> None:
    (finished_run / "checkpoints" / "best.pt").unlink()
    average = {"net.1.weight": torch.ones(2, 2)}
    path = finished_run / "checkpoints" / "last.pt"
    rewrite_checkpoint(path, lambda state: state.update(average=average))
    source = read_weights(str(finished_run))
    assert source.title.endswith("(mlp, last.pt, epoch 2)")
    assert torch.equal(source.tensors["net.1.weight"], average["net.1.weight"])


def test_exported_file_has_the_names_of_its_classes(tmp_path: Path) -> None:
    metadata = {"model": "lenet", "weights": "best.pt, epoch 5", "classes": json.dumps(["a", "b"])}
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "w.safetensors", metadata)
    source = read_weights(str(tmp_path / "w.safetensors"))
    assert source.title == f"{tmp_path}/w.safetensors (lenet, best.pt, epoch 5)"
    assert (source.classes, source.tensors["weight"].sum()) == (["a", "b"], 6)


@pytest.mark.parametrize("classes", ["[", "3", "[" * 100_000, None])
def test_file_of_another_program_has_no_classes(tmp_path: Path, classes: str | None) -> None:
    metadata = None if classes is None else {"classes": classes}
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "w.safetensors", metadata)
    source = read_weights(str(tmp_path / "w.safetensors"))
    assert (source.title, source.classes) == (f"{tmp_path}/w.safetensors", None)


def damage_safetensors(path: Path, how: str) -> None:
    save_file({"weight": torch.ones(20, 30)}, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    if how == "cut in the header":
        path.write_bytes(content[:20])
    elif how == "cut in the data":
        path.write_bytes(content[:-4])
    elif how == "long header":
        path.write_bytes(struct.pack("<Q", 1 << 62) + content[8:])
    else:
        header["weight"]["shape"] = [20, 3000]
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "how", ["cut in the header", "cut in the data", "long header", "other shape"]
)
def test_damaged_safetensors_file_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "w.safetensors"
    damage_safetensors(path, how)
    with pytest.raises(CheckpointError, match=f"{path} is damaged: "):
        read_weights(str(path))


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "w.safetensors")
    monkeypatch.setattr("cnnbench.training.start_weights.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs safetensors: pip install 'cnnbench\[onnx\]'"):
        read_weights(str(tmp_path / "w.safetensors"))


def test_place_without_weights_is_refused(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.weights=/nowhere is not there. Give a run direc"):
        read_weights("/nowhere")
    message = r"is no run: there is no status.json in it. The newest run in it is model.weights="
    with pytest.raises(ConfigError, match=f"{message}{finished_run}"):
        read_weights(str(tmp_path))
    path = finished_run / "checkpoints" / "best.pt"
    with pytest.raises(ConfigError, match=f"{path} has another format. Give a run directory"):
        read_weights(str(path))


def test_damaged_run_is_refused(finished_run: Path) -> None:
    path = finished_run / "checkpoints" / "best.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{path} is damaged"):
        read_weights(str(finished_run))


@pytest.mark.parametrize("model", [None, 3, {"net.1.weight": "text"}, {"net.1.weight": [1.0]}])
def test_checkpoint_with_other_values_is_refused(finished_run: Path, model: object) -> None:
    path = finished_run / "checkpoints" / "best.pt"
    rewrite_checkpoint(path, lambda state: state.update(model=model))
    with pytest.raises(CheckpointError, match=f"{path} "):
        read_weights(str(finished_run))


def test_run_of_another_command_is_refused(tmp_path: Path) -> None:
    claim_exactly(tmp_path / "run", "benchmark").set_status("finished")
    with pytest.raises(ConfigError, match="is not a training run: cnnbench benchmark created it"):
        read_weights(str(tmp_path / "run"))


def test_run_in_training_gives_its_newest_checkpoint(runs: Runs, tmp_path: Path) -> None:
    run = claim_exactly(tmp_path / "run", "train")
    with run.recorded_status():
        with pytest.raises(ConfigError, match="is being trained and has no checkpoint yet"):
            read_weights(str(run.path))
        interrupted = runs.copy("in_second_epoch", tmp_path / "interrupted")
        for name in ("checkpoints", "dataset.json"):
            (interrupted / name).rename(run.path / name)
        (run.path / "checkpoints" / "best.pt").unlink()
        source = read_weights(str(run.path))
    assert source.title.startswith(f"{run.path} (mlp, last.pt, epoch 1 and ")
    assert source.title.endswith(", still being trained)")
