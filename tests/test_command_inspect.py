"""`cnnbench inspect`: the pictures and the page of a run, and what it refuses."""

import json
import math
import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from installed import Command
from matplotlib.figure import Figure
from small_runs import Runs, contents, forge
from torch import nn

from cnnbench import config as configuration
from cnnbench import models
from cnnbench.analysis.activations import pick_evenly
from cnnbench.commands.inspect import inspect_network
from cnnbench.data import catalog
from cnnbench.data.resident import Examples
from cnnbench.models import ModelSpec
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.pictures import Shown
from cnnbench.reports.inspection.sections import Section
from cnnbench.training.build import build_engine
from cnnbench.training.load_model import TrainedModel

CONF = Path(__file__).parents[1] / "conf"
SIMPLE = ("model=simple_cnn", "data.resize=16")
PICTURES = {"mistakes.png", "saliency.png", "filters.png", "activations.png", "weights.png"}


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    """A perceptron for the sample, with 20 test images."""
    return runs.copy("finished", tmp_path / "run")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_leaves_pictures_and_a_page_and_says_where(within: Command, run: Path) -> None:
    before = contents(run)
    done = within("inspect", "run")
    assert done.returncode == 0, done.stderr
    made = names(run / "inspect")
    printed = set(re.findall("^run/inspect/(.*)$", done.stdout, re.MULTILINE))
    linked = re.findall(r'<img src="(.*?)"', (run / "inspect" / "index.html").read_text())
    assert printed == made == {*linked, "index.html"} >= PICTURES
    assert {name: content for name, content in contents(run).items() if "/inspect/" not in name} == before
    result = json.loads((run / "result.json").read_text())
    wrong = round(20 * (1 - result["test_accuracy"]))
    assert f"accuracy: {result['test_accuracy']:.4f}, {wrong} mistakes" in done.stdout
    assert "taken for" in done.stdout
    assert "dead units of ReLU: at most" in done.stdout


def test_the_same_run_gives_the_same_files_and_those_of_others_go(
    within: Command,
    run: Path,
) -> None:
    within("inspect", "run")
    first = contents(run / "inspect")
    within("inspect", "run")
    assert contents(run / "inspect") == first
    within("inspect", "run", "--images", "3,17,3", "--layers", "layers.1", "--mistakes", "2")
    maps = {name for name in names(run / "inspect") if name.startswith("feature_maps")}
    page = (run / "inspect" / "index.html").read_text()
    assert maps == {"feature_maps_3.png", "feature_maps_17.png"}
    assert len(re.findall(r"<figcaption>Test image (?:3|17): .* Layers: layers.1.<", page)) == 2
    assert "The 2 most confident of" in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--layers", "layer.1"], "there is no layer 'layer.1'. Did you mean 'layers.1'? Allowed: layers, layers.0,"),
        (["--images", "20"], "there is no test image 20. There are 20, 0 to 19."),
        (["--images", "1,-2"], "'-2' is no test image"),
        (["--images", ",".join(map(str, range(25)))], "25 are too many to look at. Give at most 24."),
        (["--mistakes", "0"], "--mistakes 0 is out of range. It must be from 1 to 200."),
        (["train.epochs=3"], "train.epochs cannot be changed by inspect"),
        (["data=cifar10"], "data=cifar10 has images of 3 channels; the network takes 1"),
        (["data.resize=14"], "the network was built for images of 28 pixels"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], told: str, within: Command, run: Path) -> None:
    done = within("inspect", "run", *arguments)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_weights_that_give_no_logits_are_a_damaged_checkpoint(within: Command, run: Path) -> None:
    for path in (run / "checkpoints").glob("*.pt"):
        forge(path, lambda state: next(iter(state["model"].values())).fill_(math.nan))
    done = within("inspect", "run")
    assert (done.returncode, "they give logits that are not finite" in done.stderr) == (5, True), done.stderr


def test_other_data_can_be_looked_at(within: Command, run: Path, unsaved: None) -> None:
    done = within("inspect", "run", "data.test_examples=7")
    assert "test images: 7 of sample" in done.stdout, done.stderr


def test_pictures_are_made_in_full_precision_unless_another_is_asked_for(
    within: Command, run: Path, unsaved: None
) -> None:
    for path in (run / "checkpoints").glob("*.pt"):
        forge(path, lambda state: state["config"]["device"].update(precision="bf16"))
    assert " in fp32\n" in within("inspect", "run").stdout
    assert " in bf16\n" in within("inspect", "run", "device.precision=bf16").stdout


# What there is to look at, whatever the network


Make = Callable[..., tuple[TrainedModel, Examples]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a network with weights by chance, and random images."""

    def of(*overrides: str, images: int = 5, channels: int = 1, classes: tuple[str, ...] = ()) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            small = ("data=sample", "device=cpu", "device.precision=fp32", "device.threads=1", *overrides)
            config = configuration.load(configuration.to_plain(compose("train", overrides=list(small))))
        dataset = catalog.get("sample")
        many = {"mean": dataset.mean * channels, "std": dataset.std * channels, "classes": classes or dataset.classes}
        dataset = replace(dataset, **many)
        engine = build_engine(config, dataset)
        engine.eval_model.eval()
        size = config.data.resize
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (images, channels, size, size), dtype=torch.uint8, generator=generator)
        labels = torch.arange(images) % len(dataset.classes)
        return TrainedModel(tmp_path, config, dataset, engine, "last.pt, epoch 1", {}), Examples(pixels, labels)

    return of


def inspect(trained: TrainedModel, examples: Examples) -> None:
    inspect_network(trained, examples, Namespace(images=[], layers=[], mistakes=25))


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn but not laid out and saved, which takes most of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda *arguments, **keywords: None)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp", "model.widths=[5]", "data.resize=5"],
        ["model=lenet", "model.pooling=min", "model.activation=tanh", "model.padding_mode=circular", "data.resize=12"],
        ["model=lenet_relu", "data.resize=16", "train.tta=hflip", "train.ema_decay=0.9"],
        pytest.param(["model=googlenet", "model.auxiliary=true", "data.resize=65"], marks=pytest.mark.slow),
        ["model=preact_resnet110", "model.depth=20", "data.resize=8", "model.shortcut=dropout"],
        ["model=densenet40", "model.depth=10", "model.dropout=0.2", "data.resize=8"],
    ],
    ids=lambda overrides: overrides[0].partition("=")[2],
)
def test_any_network_can_be_looked_at(
    overrides: list[str], make: Make, unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "MAX_MULTIPLY_ADDS", 1e8)
    trained, examples = make(*overrides)
    inspect(trained, examples)
    made = names(trained.directory / "inspect")
    fields = set() if "mlp" in overrides[0] else {"receptive_field.png"}
    assert {name for name in made if not name.startswith("feature_maps")} == PICTURES | fields | {"index.html"}


@pytest.mark.parametrize("images", [1, 9])
def test_color_images_of_any_classes_can_be_looked_at(make: Make, images: int) -> None:
    classes = ("$\\frac{", "<i>", "a\nb", "\ud800", "W" * 999, *map(str, range(95)))
    trained, examples = make(*SIMPLE, channels=3, classes=classes, images=images)
    inspect(trained, examples)
    assert "<i>" not in (trained.directory / "inspect" / "index.html").read_text()


@pytest.mark.parametrize(("most", "images"), [(5e10, 256), (1, 32)])
def test_activations_are_over_as_many_images_as_the_work_allows(
    most: float, images: int, make: Make, unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnbench.commands.inspect.MAX_MULTIPLY_ADDS", most)
    trained, examples = make(*SIMPLE, images=300)
    inspect(trained, examples)
    page = (trained.directory / "inspect" / "index.html").read_text()
    assert f"over {images} images, evenly spread" in page


def test_where_there_are_no_mistakes_that_is_said(make: Make, unsaved: None) -> None:
    trained, examples = make(*SIMPLE, images=6)
    (trained.directory / "inspect").mkdir()
    (trained.directory / "inspect" / "mistakes.png").touch()  # of data that were looked at before
    right = trained.engine.classify(examples.images).argmax(1)
    inspect(trained, Examples(examples.images, right))
    folder = trained.directory / "inspect"
    assert "There are none: every test image is classified correctly." in (folder / "index.html").read_text()
    assert "mistakes.png" not in names(folder)


def test_the_first_image_of_each_class_that_is_right_is_looked_at(
    make: Make, unsaved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Shown] = []
    monkeypatch.setattr(sections, "feature_maps", lambda subject, shown, *rest: looked_at.extend(shown) or Section())
    trained, examples = make(*SIMPLE, images=20)
    predicted = trained.engine.classify(examples.images).argmax(1)
    labels = predicted.clone()
    labels[0] = (predicted[0] + 1) % 10
    inspect(trained, Examples(examples.images, labels))
    firsts = [next(i for i in range(1, 20) if predicted[i] == each) for each in predicted[1:].unique()]
    assert [each.index for each in looked_at] == [*pick_evenly(firsts, 4), 0]
    assert torch.allclose(torch.from_numpy(looked_at[-1].image), examples.images[0] / 255, atol=1e-6)


class Odd(nn.Module):
    """Functions in place of layers, a layer that runs twice, in place, and weights of no layer's."""

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


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (Odd, "The network has neither convolutions nor linear layers."),
        (Odd, "dead units of ReLU: at most 100.0 %, in relu (call 2)"),
        (WithoutLayers, "The network has no layers that give out maps or vectors."),
        (WithoutLayers, "The network has no layers."),
    ],
)
def test_a_custom_network_without_layers_can_be_looked_at(
    network: type[nn.Module],
    found: str,
    make: Make,
    unsaved: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(models.REGISTRY, "simple_cnn", ModelSpec(network, 1, "a test"))
    trained, examples = make("model=simple_cnn", "data.resize=6")
    inspect(trained, examples)
    page = (trained.directory / "inspect" / "index.html").read_text()
    assert found in page + capsys.readouterr().out


def test_the_most_confident_mistake_comes_first(make: Make, unsaved: None) -> None:
    trained, examples = make(*SIMPLE, images=30)
    probability, predicted = trained.engine.classify(examples.images).softmax(1).max(1)
    wrong = probability.masked_fill(predicted == examples.labels, 0.0)
    inspect(trained, examples)
    page = (trained.directory / "inspect" / "index.html").read_text()
    assert f"The worst is test image {int(wrong.argmax())}: " in page
    assert f"feature_maps_{int(wrong.argmax())}.png" in names(trained.directory / "inspect")


def test_a_custom_model_needs_consent(within: Command, run: Path) -> None:
    for path in (run / "checkpoints").glob("*.pt"):
        forge(path, lambda state: state["config"]["model"].update(name="os:system"))
    done = within("inspect", "run")
    assert (done.returncode, "cnnbench inspect run --allow-custom-model" in done.stderr) == (2, True), done.stderr
