"""`cnnbench inspect`: the pictures and the page of a run, and its errors."""

import json
import math
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import Command
from helpers.paths import CONF
from helpers.small_runs import read_files, rewrite_checkpoint
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from torch import nn

from cnnbench import config as configuration
from cnnbench import models
from cnnbench.analysis.activations import pick_evenly
from cnnbench.commands.inspect import inspect_network
from cnnbench.data import catalog
from cnnbench.data.device_data import Examples
from cnnbench.models import ModelSpec
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.pictures import ClassifiedImage
from cnnbench.reports.inspection.sections import Section
from cnnbench.training.build import build_engine
from cnnbench.training.load_model import TrainedModel

SIMPLE = ("model=simple_cnn", "data.resize=16")
TOO_MANY = ",".join(map(str, range(25)))
PICTURES = {
    *("mistakes.png", "saliency.png", "filters.png", "activations.png", "weights.png"),
    "gradients.png",
}


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures at a low resolution, which takes less time."""
    monkeypatch.setattr("cnnbench.reports.figures.DOTS_PER_INCH", 30)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_inspect_writes_pictures_and_a_page_and_prints_their_paths(
    within: Command, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_files(finished_run)
    shown: list[str] = []
    make_saliency = sections.draw_saliency

    def make_and_note(*arguments: Any) -> Section:
        shown.append(sys.stdout.getvalue())  # type: ignore[attr-defined]  # a StringIO
        return make_saliency(*arguments)

    monkeypatch.setattr(sections, "draw_saliency", make_and_note)
    done = within("inspect", "run")
    assert done.returncode == 0, done.stderr
    assert shown[0].startswith("mlp on part of Fashion-MNIST\nweights: ")
    assert shown[0].endswith(
        "\n\nrun/inspect/mistakes.png\n"
    )  # printed before the next picture is drawn
    made = names(finished_run / "inspect")
    printed = set(re.findall("^run/inspect/(.*)$", done.stdout, re.MULTILINE))
    linked = re.findall(r'<img src="(.*?)"', (finished_run / "inspect" / "index.html").read_text())
    assert printed == made == {*linked, "index.html"} >= PICTURES
    after = read_files(finished_run)
    assert {name: after[name] for name in after if "/inspect/" not in name} == before
    result = json.loads((finished_run / "result.json").read_text())
    wrong = round(20 * (1 - result["test_accuracy"]))
    assert f"accuracy: {result['test_accuracy']:.4f}, {wrong} mistakes" in done.stdout
    assert "taken for" in done.stdout
    assert "dead units of ReLU: at most" in done.stdout
    assert re.search(
        r"gradient norm: \S+ in layers.1, the first layer, \S+ in layers.3", done.stdout
    )


def test_chosen_images_and_layers_replace_earlier_pictures(
    within: Command, finished_run: Path
) -> None:
    within("inspect", "run")
    first = read_files(finished_run / "inspect")
    within("inspect", "run")
    assert read_files(finished_run / "inspect") == first
    within("inspect", "run", "--images", "3,17,3", "--layers", "layers.1", "--mistakes", "2")
    maps = {name for name in names(finished_run / "inspect") if name.startswith("feature_maps")}
    page = (finished_run / "inspect" / "index.html").read_text()
    assert maps == {"feature_maps_3.png", "feature_maps_17.png"}
    captions = re.findall(r"<figcaption>Test image (\d+): [^<]* Layers: layers.1.<", page)
    assert captions == ["3", "17"]
    assert "The 2 most confident of" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "layer.1"], "no layer 'layer.1' gives out maps or a vector. Did you mean"),
        (["--images", "20"], "there is no test image 20. There are 20, 0 to 19."),
        (["--images", "1,-2"], "there is no test image -2."),
        (["--images", TOO_MANY], "25 are too many to look at. Give at most 24."),
        (["--mistakes", "0"], "--mistakes 0 is out of range. It must be from 1 to 200."),
        (["train.epochs=3"], "train.epochs cannot be changed by inspect"),
        (["data=cifar10"], "data=cifar10 has images of 3 channels; the network takes 1"),
        (["data.resize=14"], "the network was built for images of 28 pixels"),
    ],
)
def test_wrong_arguments_are_reported(
    arguments: list[str], message: str, within: Command, finished_run: Path
) -> None:
    done = within("inspect", "run", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def forge_all(finished_run: Path, change: Callable[[Any], object]) -> None:
    for path in (finished_run / "checkpoints").glob("*.pt"):
        rewrite_checkpoint(path, change)


def test_weights_with_non_finite_logits_are_a_damaged_checkpoint(
    within: Command, finished_run: Path
) -> None:
    forge_all(finished_run, lambda state: next(iter(state["model"].values())).fill_(math.nan))
    done = within("inspect", "run")
    assert done.returncode == 5
    assert "they give logits that are not finite" in done.stderr


def test_a_custom_model_needs_consent(within: Command, finished_run: Path) -> None:
    forge_all(finished_run, lambda state: state["config"]["model"].update(name="os:system"))
    done = within("inspect", "run")
    assert done.returncode == 2
    assert "cnnbench inspect run --allow-custom-model" in done.stderr


def test_pictures_use_fp32_and_the_data_of_the_run_by_default(
    within: Command, finished_run: Path, unsaved: None
) -> None:
    forge_all(finished_run, lambda state: state["config"]["device"].update(precision="bf16"))
    assert " in fp32\n" in within("inspect", "run").stdout
    printed = within("inspect", "run", "device.precision=bf16", "data.test_examples=7").stdout
    assert " in bf16\n" in printed
    assert "test images: 7 of sample" in printed


Make = Callable[..., tuple[TrainedModel, Examples]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a network with random weights, and random images."""

    def of(*overrides: str, images: int = 5, channels: int = 1, classes: Any = None) -> Any:
        small = ["data=sample", "device=cpu", "device.precision=fp32", "device.threads=1"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("train", overrides=[*small, *overrides])
        config, dataset = (
            configuration.load_config(configuration.to_plain(composed)),
            catalog.get("sample"),
        )
        classes = classes or dataset.classes
        mean, std = dataset.mean * channels, dataset.std * channels
        dataset = replace(dataset, mean=mean, std=std, classes=classes)
        engine = build_engine(config, dataset)
        generator = torch.Generator().manual_seed(0)
        shape = (images, channels, config.data.resize, config.data.resize)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        examples = Examples(pixels, torch.arange(images) % len(classes))
        return TrainedModel(tmp_path, config, dataset, engine, "last.pt, epoch 1", {}), examples

    return of


def inspect(trained: TrainedModel, examples: Examples) -> tuple[set[str], str]:
    """Inspect a network; return the names of the files and the text of the page."""
    inspect_network(trained, examples, Namespace(images=[], layers=[], mistakes=25))
    folder = trained.directory / "inspect"
    return names(folder), (folder / "index.html").read_text()


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures without laying them out and saving them, which takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda *arguments, **keywords: None)


@pytest.mark.parametrize(
    "overrides",
    [
        "model=mlp model.widths=[5] data.resize=5",
        "model=lenet model.pooling=min model.activation=tanh model.padding_mode=circular",
        "model=lenet_relu data.resize=16 train.tta=hflip train.ema_decay=0.9",
        pytest.param("model=googlenet model.auxiliary=true data.resize=65", marks=pytest.mark.slow),
        "model=preact_resnet110 model.depth=20 data.resize=8 model.shortcut=dropout",
        "model=densenet40 model.depth=10 model.dropout=0.2 data.resize=8",
    ],
    ids=lambda overrides: overrides.split()[0],
)
def test_any_network_can_be_inspected(
    overrides: str, make: Make, unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MAX_MULTIPLY_ADDS", 1e8)
    made, _ = inspect(*make(*overrides.split()))
    fields = set() if "mlp" in overrides else {"receptive_field.png"}
    others = {name for name in made if not name.startswith("feature_maps")}
    assert others == PICTURES | fields | {"index.html"}


@pytest.mark.parametrize("images", [1, 9])
def test_color_images_with_odd_class_names_can_be_inspected(make: Make, images: int) -> None:
    classes = ("$\\frac{", "<i>", "a\nb", "\ud800", "W" * 999, *map(str, range(95)))
    _, page = inspect(*make(*SIMPLE, channels=3, classes=classes, images=images))
    assert "<i>" not in page


@pytest.mark.parametrize(("most", "images"), [(5e10, 256), (1, 32)])
def test_number_of_images_for_activations_is_limited_by_work(
    most: float, images: int, make: Make, unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MAX_MULTIPLY_ADDS", most)
    _, page = inspect(*make(*SIMPLE, images=300))
    assert f"over {images} images, evenly spread" in page


def test_page_reports_that_there_are_no_mistakes(make: Make, unsaved: None) -> None:
    trained, examples = make(*SIMPLE, images=6)
    (trained.directory / "inspect").mkdir()
    for name in ("mistakes.png", "training_images.png"):
        (trained.directory / "inspect" / name).touch()  # left by an earlier inspection
    right = trained.engine.classify(examples.images).argmax(1)
    made, page = inspect(trained, Examples(examples.images, right))
    assert "There are none: every test image is classified correctly." in page
    assert made.isdisjoint({"mistakes.png", "training_images.png"})
    assert "They are not shown: the data are not those of the run." in page


def test_default_images_are_the_first_right_of_some_classes_and_the_worst_mistake(
    make: Make, unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[ClassifiedImage] = []

    def draw(subject: object, shown: list[ClassifiedImage], layers: object) -> Section:
        drawn.extend(shown)
        return Section()

    monkeypatch.setattr(sections, "draw_feature_maps", draw)
    trained, examples = make(*SIMPLE, images=40)
    probabilities, predicted = trained.engine.classify(examples.images).softmax(1).max(1)
    labels = predicted.clone()
    labels[::2] = (predicted[::2] + 1) % 10
    _, page = inspect(trained, Examples(examples.images, labels))
    right = range(1, 40, 2)
    labels_right = predicted[1::2].unique()
    firsts = [next(i for i in right if predicted[i] == label) for label in labels_right]
    worst = 2 * int(probabilities[::2].argmax())
    assert [image.index for image in drawn] == [*pick_evenly(firsts, 4), worst]
    assert drawn[-1].pixels.equal(examples.images[worst])
    assert f"The worst is test image {worst}: " in page


class Odd(nn.Module):
    """A network with functions instead of layers, an in-place layer that runs twice, and weights.

    The weights do not belong to a layer.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(in_channels, 4))
        self.relu = nn.ReLU(inplace=True)
        self.out = nn.Parameter(torch.randn(4, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.einsum("nchw,cd->ndhw", images, self.mix)
        maps = self.relu(-self.relu(maps).roll(1, 2))
        return maps.mean((2, 3)) @ self.out


class WithoutLayers(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_channels, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) @ self.weight


ODD = (
    "The network has neither a convolution nor a linear layer on the image.",
    "dead units of ReLU: at most 100.0 %, in relu (call 2)",
)
NONE = (
    "The network has no layers that give out maps or vectors.",
    "The network has no layers but poolings and normalizations.",
)


@pytest.mark.parametrize(("network", "found"), [(Odd, ODD), (WithoutLayers, NONE)])
def test_custom_model_without_layers_can_be_inspected(
    network: type[nn.Module],
    found: tuple[str, ...],
    make: Make,
    unsaved: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(models.REGISTRY, "simple_cnn", ModelSpec(network, 1, "a test"))
    _, page = inspect(*make("model=simple_cnn", "data.resize=6"))
    text = page + capsys.readouterr().out
    assert [words for words in found if words not in text] == []
