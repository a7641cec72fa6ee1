"""`cnnbench summary`: the layers, their cost, memory, JSON and errors."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.command import TINY, Command


def summarize(within: Command, *arguments: str) -> Any:
    result = within("summary", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_table_shows_layers_totals_and_memory(within: Command, tmp_path: Path) -> None:
    result = within("summary", "model=lenet", "optimizer=adam")
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert lines[0] == "lenet on Fashion-MNIST, 1 x 28 x 28, 10 classes"
    rows = [" ".join(line.split()) for line in lines]
    assert "features.3 Conv2d 16 x 10 x 10 2,416 3.9 % 240,000 57.6 %" in rows
    assert "total 61,706 416,520" in rows
    arithmetic = "416,520 multiplications, 416,520 additions"
    assert f"convolutions and linear layers, one image: {arithmetic}" in lines
    assert "features.2 AvgPool2d 6 x 14 x 14 3,528" in rows
    assert "pooling layers, one image: 4,728 additions" in lines
    assert "training at batch 256 with adam, float32: about 9.6 MiB" in lines
    assert list(tmp_path.iterdir()) == []


def test_pooling_is_left_out_of_the_table_of_a_network_without_it(within: Command) -> None:
    assert "pooling" not in within("summary", "model=mlp").stdout


def test_comparisons_and_additions_of_pooling_are_counted_apart(within: Command) -> None:
    arguments = ("summary", "model=googlenet", "data.resize=96", "--depth", "1")
    rows = [" ".join(line.split()) for line in within(*arguments).stdout.splitlines()]
    assert "pool_3 MaxPool2d 480 x 6 x 6 138,240" in rows
    assert "pooling layers, one image: 2,082,816 comparisons, 8,192 additions" in rows
    total = summarize(within, *arguments[1:3])["total"]
    assert (total["pooling_comparisons"], total["pooling_additions"]) == (2_082_816, 8_192)


def test_json_has_the_values_of_the_table(within: Command) -> None:
    report = summarize(
        within, "model=alexnet", "data.resize=96", "train.batch_size=8", "optimizer=momentum"
    )
    memory = report["training_memory"]
    parts = ("weights", "gradients", "optimizer_state", "activations")
    total = sum(layer["parameters"] for layer in report["layers"])
    assert report["total"]["parameters"] == total == 21_598_922
    assert report["total"]["multiply_adds"] == 134_474_112
    assert sum(layer["multiply_adds_share"] for layer in report["layers"]) == pytest.approx(1)
    assert report["layers"][0]["output_shape"] == [96, 22, 22]
    assert memory["total_bytes"] == sum(memory[f"{part}_bytes"] for part in parts)
    assert memory["optimizer_state_bytes"] == memory["weights_bytes"] == 4 * 21_598_922


def test_summary_accepts_a_gpu_that_is_not_present(within: Command) -> None:
    memory = summarize(within, "device=cuda", "device.precision=bf16")["training_memory"]
    assert memory["dtype"] == "bfloat16"


def test_depth_folds_layers(within: Command) -> None:
    layers = summarize(within, "model=preact_resnet1001", "--depth", "1")["layers"]
    assert [layer["name"] for layer in layers] == ["stem", "stages", "classifier"]


def test_layer_flag_prints_the_arithmetic_of_a_convolution(within: Command) -> None:
    result = within("summary", "--layer", "features.3", "model=lenet")
    assert "multiplications  16 x 10 x 10 x (6 x 5 x 5) = 240,000" in result.stdout
    words = " ".join(result.stdout.split())
    assert "twice both 32 x 10 x 10 9,632 960,000 x 4.00 960,000 x 4.00" in words
    assert "a kernel of 1 x 1 16 x 14 x 14 112 18,816 x 0.08 18,816 x 0.08" in words


@pytest.mark.parametrize(
    ("arguments", "formula"),
    [
        (["model=lenet", "features.2"], "additions        6 x 14 x 14 x (2 x 2 - 1) = 3,528"),
        (
            ["model=lenet", "model.pooling=min", "features.5"],
            "comparisons      16 x 5 x 5 x (2 x 2 - 1) = 1,200",
        ),
        (
            ["model=googlenet", "data.resize=96", "classifier.0"],
            "additions        1024 x 1 x 1 x (3 x 3 - 1) = 8,192",
        ),
    ],
)
def test_layer_flag_prints_the_arithmetic_of_pooling(
    within: Command, arguments: list[str], formula: str
) -> None:
    *words, name = arguments
    assert formula in within("summary", *words, "--layer", name).stdout.splitlines()
    count = int(formula.rpartition("= ")[2].replace(",", ""))
    (outcome,) = summarize(within, *words, "--layer", name).values()
    assert outcome["pooling_comparisons"] + outcome["pooling_additions"] == count


def test_uneven_windows_of_pooling_are_counted_one_by_one(within: Command, own: str) -> None:
    printed = within("summary", "model=simple_cnn", f"{own}:Uneven", "--layer", "0").stdout
    assert "999 additions, in windows of different sizes" in printed  # 32 x 32 - 25


def test_layer_flag_with_json(within: Command) -> None:
    outcomes = summarize(within, "--layer", "features.0")
    assert outcomes["as it is"]["multiplications"] == 117_600
    assert outcomes["no padding"]["output_shape"] == [6, 24, 24]


@pytest.mark.parametrize("flags", [[], ["--layer", "features.3"]], ids=["", "layer"])
def test_diagram_flag_writes_a_picture_and_prints_its_path(
    flags: list[str], within: Command, tmp_path: Path
) -> None:
    printed = within("summary", "model=lenet", *flags).stdout
    (tmp_path / "pictures").mkdir()
    path = Path("pictures", "lenet.svg")
    result = within("summary", "model=lenet", "--diagram", str(path), *flags)
    assert (result.returncode, result.stdout) == (0, f"{printed}\n{path}\n")
    assert path.read_text().startswith("<?xml")
    assert list(Path("pictures").iterdir()) == [path]


def test_diagram_flag_leaves_json_as_it_is(within: Command, tmp_path: Path) -> None:
    report = summarize(within, "model=lenet", "--diagram", "lenet.png")
    assert report == summarize(within, "model=lenet")
    assert (tmp_path / "lenet.png").read_bytes().startswith(b"\x89PNG")


def test_diagram_that_cannot_be_written_is_an_error(within: Command, tmp_path: Path) -> None:
    (tmp_path / "lenet.svg").mkdir()
    result = within("summary", "model=lenet", "--diagram", "lenet.svg")
    assert result.returncode == 2
    assert "lenet.svg cannot be written: Is a directory. Name another place" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lenet.svg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diagram", "lenet.jpg"], "--diagram lenet.jpg must end in .svg or .png."),
        (["--diagram", "lenet"], "--diagram lenet must end in .svg or .png."),
        (["--diagram", "no/lenet.svg"], "--diagram no/lenet.svg: there is no folder no. Create it"),
        (["--diagram"], "--diagram needs a value: --diagram FILE."),
        (["--depth", "0"], "--depth 0 is out of range"),
        (["--depth", "two"], "--depth two is not a whole number. It must be at least 1."),
        (
            ["--layer", "features.1"],
            "--layer features.1 is not a Conv2d or a pooling layer that the network calls. Did you",
        ),
        (
            ["--layer", "layers.1", "model=mlp"],
            "layers.1 is not a Conv2d or a pooling layer that the network calls. It has none.",
        ),
        (
            ["--layer", "auxiliary_4a.1", "model=googlenet", "model.auxiliary=true"],
            "auxiliary_4a.1 is not a Conv2d",
        ),
        (
            ["--layer", "stem", "model=preact_resnet1001"],
            "Did you mean 'stem.0'? There are 1,004, such as classifier.2, stages.0.0.",
        ),
        (["--layer", "features.0", "--depth", "1"], "choose one"),
        (
            ["model=resnet18", "data.resize=28", "train.batch_size=1"],
            "cannot train on a batch of 1: Expected more",
        ),
        (["-m", "model=lenet,mlp"], "-m is for cnnbench train"),
        (["model=resnet18", "model.depth=17"], "Allowed: 18, 34, 50, 101, 152."),
        (["model=preact_resnet110", "model.depth=111"], "the nearest are 110 and 116"),
        (["model=preact_resnet110", "model.shortcut=gated"], "model.shortcut=gated is not known."),
        (["model=vgg11", "model.width=0"], "width=0 must be finite and above 0"),
        (
            ["model=nin", "data.resize=64"],
            "nin cannot take images of 64 pixels. The smallest size is data.resize=67.",
        ),
        (["model=vgg11", "model.width=1e9"], "Storage size calculation overflowed"),
        (["model=mlp", "model.widths=[100000000000000000000]"], "model mlp: "),
        (["model=mlp", "model.widths=100"], "mlp wants a list of whole numbers or null."),
        (["model=vgg11", "model.batch_norm=yes"], "vgg11 wants true or false."),
        (
            ["model=resnet18", "model.padding_mode=reflect", "data.resize=28"],
            "padding_mode=reflect is data.resize=33.",
        ),
        (["model.hue=red"], "There is no key 'model.hue'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_exit_with_2(within: Command, arguments: list[str], message: str) -> None:
    result = within("summary", *arguments)
    assert (result.returncode, message in result.stderr) == (2, True), result.stderr


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write custom models into the working folder; return the override that names their module."""
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "networks_of_mine.py").write_text(OWN)
    (tmp_path / "no_python.py").write_text("class Net(")
    return "model.name=networks_of_mine"


OWN = """
import torch
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, in_channels=1, num_classes=10, image_size=28, width=16):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))

class ByValues(Tiny):
    def forward(self, images):
        return super().forward(images if images.max() > 1 else 2 * images)

class Lazy(nn.Sequential):
    def __init__(self, in_channels, num_classes, image_size):
        convolution = nn.LazyConv2d(4, 3, padding="same")
        super().__init__(convolution, nn.Flatten(), nn.LazyLinear(num_classes))

class Empty(nn.Sequential):
    def __init__(self, in_channels, num_classes, image_size):
        super().__init__(nn.Flatten(), nn.AdaptiveAvgPool1d(num_classes))

class Uneven(nn.Sequential):
    def __init__(self, in_channels, num_classes, image_size):
        pool = nn.AdaptiveAvgPool2d(5)
        super().__init__(pool, nn.Flatten(), nn.Linear(25 * in_channels, num_classes))

class FailsInTraining(Tiny):
    def forward(self, images):
        return super().forward(images[:, 1:] if self.training else images)
"""


def test_custom_model_in_the_working_folder_is_found(within: Command, own: str) -> None:
    report = summarize(within, "model=simple_cnn", f"{own}:Tiny", "+model.width=32")
    assert report["total"]["parameters"] == 7_850


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_lazy_layers_train_and_have_an_arithmetic(within: Command, own: str) -> None:
    result = within("model=simple_cnn", f"{own}:Lazy", *TINY[1:], "data=sample", "train.epochs=1")
    assert result.returncode == 0, result.stderr
    assert "31,410 parameters" in result.stdout
    outcomes = summarize(within, "model=simple_cnn", f"{own}:Lazy", "--layer", "0")
    assert outcomes["a kernel of 5 x 5"]["output_shape"] == [4, 28, 28]
    assert "twice the stride" not in outcomes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "summary model=lenet {}:Tiny",
            "Start from a network that has no arguments: model=simple_cnn",
        ),
        (
            "summary model=simple_cnn {}:ByValues",
            "tried on the meta device, where tensors have shapes but no values",
        ),
        ("summary model=simple_cnn {}:FailsInTraining", "cannot train on a batch of 64"),
        ("model=simple_cnn data=sample {}:FailsInTraining", "cannot train on a batch of 20"),
        ("model=simple_cnn data=sample {}:Empty", "has no parameters"),
        (
            "summary model=simple_cnn model.name=collections:OrderedDict",
            "with in_channels, num_classes and image_size",
        ),
        ("summary model=simple_cnn model.name=no_python:Net", "SyntaxError: "),
    ],
)
def test_error_in_a_custom_model_is_not_a_bug(
    within: Command, own: str, arguments: str, message: str
) -> None:
    result = within(*arguments.format(own).split())
    assert (result.returncode, message in result.stderr) == (2, True), result.stderr


def test_last_batch_of_one_image_is_refused_before_training(within: Command) -> None:
    data = ("data=sample", "data.resize=28", "data.train_examples=129", "train.batch_size=128")
    result = within("model=resnet18", *data)
    assert result.returncode == 2
    assert "resnet18 at 28 pixels cannot train on a batch of 1: " in result.stderr
    advice = "last batch of 129 training examples. Take another train.batch_size, or "
    assert advice in result.stderr
    assert "data.train_examples=128." in result.stderr
