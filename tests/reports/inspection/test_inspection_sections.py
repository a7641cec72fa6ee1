"""What goes into the sections of the page."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.activations import Histogram, LayerOutputs
from cnnbench.analysis.receptive_field import Traced, trace
from cnnbench.reports.inspection import pictures, sections
from cnnbench.reports.inspection.pictures import Shown
from cnnbench.reports.inspection.sections import Subject

IMAGE = Shown(0, torch.zeros(1, 28, 28, dtype=torch.uint8), "Shirt", "Coat", 0.5)


def subject(network: nn.Module, folder: Path, channels: int = 1, size: int = 28) -> Subject:
    twin, image = network.to("meta"), torch.empty(1, channels, size, size, device="meta")
    traced = trace(twin, image)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    engine: Any = SimpleNamespace(eval_model=network, logits=network, inputs=torch.Tensor.float)
    return Subject(folder, "a network", engine, traced, 1, torch.Size((channels, size, size)))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments after the title of each function that draws, which does not."""
    calls: dict[str, Any] = {}
    for name in ("draw_kernels", "draw_receptive_fields", "draw_saliency", "draw_histograms"):

        def call(path: Path, title: str, *values: Any, name: str = name, **keywords: Any) -> None:
            calls[name] = values

        monkeypatch.setattr(pictures, name, call)
    return calls


def test_of_many_kernels_those_with_the_largest_norm_are_shown(drawn: dict[str, Any], tmp_path: Path) -> None:
    it = subject(nn.Sequential(nn.Conv2d(1, 70, 3)), tmp_path)
    with torch.no_grad():
        it.network[0].weight[:] = torch.arange(70.0).view(-1, 1, 1, 1)
    section = sections.kernels(it)
    kernels, numbers = drawn["draw_kernels"]
    assert numbers == list(range(6, 70))
    assert kernels[0, 0, 0, 0] == 6
    assert "those 64 of 70 kernels with the largest norm" in section.pictures[0][1]


def test_kernels_of_other_channels_are_shown_by_their_mean(
    drawn: dict[str, Any],
    tmp_path: Path,
) -> None:
    for channels, is_mean in ((1, False), (2, True), (3, False)):
        it = subject(nn.Sequential(nn.Conv2d(channels, 4, 3)), tmp_path, channels)
        caption = sections.kernels(it).pictures[0][1]
        assert (f"mean over {channels} input channels" in caption) == is_mean


def test_a_perceptrons_rows_are_shown_as_images(drawn: dict[str, Any], tmp_path: Path) -> None:
    it = subject(models.build("mlp", 3, image_size=6, widths=[5]), tmp_path, 3, 6)
    sections.kernels(it)
    kernels, _ = drawn["draw_kernels"]
    weight = it.network.get_parameter("layers.1.weight").detach()
    np.testing.assert_array_equal(kernels, weight.view(5, 3, 6, 6))


def test_a_linear_layer_that_does_not_see_the_image_is_not_shown(tmp_path: Path) -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 4))
    section = sections.kernels(subject(pooled, tmp_path))
    assert (section.pictures, "does not see the image" in section.note) == ((), True)


@pytest.mark.parametrize(
    ("name", "sides"),
    [("inception_net", [5, 6, 14, 22, 24, 40]), ("resnet20", [3, 5, 9, 11, 15, 17, 25, 29])],
)
def test_boxes_are_drawn_for_layers_that_see_more_than_those_before_up_to_the_whole_image(
    name: str, sides: list[int], drawn: dict[str, Any], tmp_path: Path
) -> None:
    sections.receptive_fields(subject(models.build(name, image_size=28), tmp_path), IMAGE)
    _, layers = drawn["draw_receptive_fields"]
    assert [layer.field[0].size for layer in layers] == sides


def test_the_table_has_field_jump_and_centre_of_each_layer(tmp_path: Path) -> None:
    section = sections.receptive_fields(subject(models.build("lenet"), tmp_path), IMAGE)
    largest = "largest receptive field of a convolution: 14 x 14, in features.3"
    table = section.table
    assert section.findings == [largest]
    assert table[1:5] == [
        ("features.0", "Conv2d 5 × 5", "6 × 28 × 28", "5 × 5", "1", "0"),
        ("features.2", "AvgPool2d 2 × 2", "6 × 14 × 14", "6 × 6", "2", "0.5"),
        ("features.3", "Conv2d 5 × 5", "16 × 10 × 10", "14 × 14", "2", "4.5"),
        ("features.5", "AvgPool2d 2 × 2", "16 × 5 × 5", "16 × 16", "4", "5.5"),
    ]
    assert table[5] == ("classifier.1", "Linear", "120", "whole image", "", "")


def test_weights_are_those_of_two_or_more_dimensions(drawn: dict[str, Any], tmp_path: Path) -> None:
    layers = nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(1152, 3)
    section = sections.weights(subject(nn.Sequential(*layers), tmp_path))
    _, diagrams = drawn["draw_histograms"]
    shapes = [(name, shape) for name, shape, _ in diagrams]
    assert shapes == [("0.weight", "2 × 1 × 5 × 5"), ("3.weight", "3 × 1,152")]
    assert section.pictures[0][1] == "All 2 weight tensors."


def test_pairs_of_classes_are_counted_from_the_most_frequent_on(tmp_path: Path) -> None:
    other = replace(IMAGE, true="Coat", predicted="Shirt")
    it = subject(models.build("mlp", widths=[2]), tmp_path)
    section = sections.mistakes(it, [IMAGE] * 2 + [other] * 1_200, 5)
    assert section.table[1:] == [("Coat", "Shirt", "1,200"), ("Shirt", "Coat", "2")]
    assert section.pictures[0][1].startswith("The 5 most confident of 1,202 mistakes. The worst is")


def test_saliency_says_how_far_the_probability_falls(drawn: dict[str, Any], tmp_path: Path) -> None:
    it = subject(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), tmp_path)
    section = sections.saliency(it, [IMAGE, replace(IMAGE, pixels=IMAGE.pixels + 1)])
    _, gradients, drops = drawn["draw_saliency"]
    assert (gradients.shape, drops.shape) == ((2, 28, 28), (2, 28, 28))
    falls = f"falls by at most 0.00, {drops[1].max():.2f}, from left to right."
    assert section.pictures[0][1].endswith(falls)


def test_histograms_say_what_is_dead_or_saturated(
    drawn: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histogram = Histogram(np.ones(1), np.arange(2), 0.0, 1.0)

    def outputs(shape: tuple[int, ...], *figures: Any) -> LayerOutputs:
        return LayerOutputs(Traced("it", 1, nn.ReLU(), shape, None), histogram, *figures)

    layers = [
        outputs((4, 2, 2), 0.25, 1, None),
        outputs((8,), 0.5, None, None),
        outputs((8,), None, None, 0.125),
        outputs((8,), None, None, None),
    ]
    it = subject(nn.Sequential(nn.ReLU()), tmp_path)
    monkeypatch.setattr(sections, "record_outputs", lambda *arguments: layers)
    section = sections.activations(it, torch.zeros(7, 1, 28, 28))
    _, diagrams = drawn["draw_histograms"]
    assert [(name, words) for name, words, _ in diagrams] == [
        ("it · ReLU", "dead: 25.0 % of units, 1 of 4 maps"),
        ("it · ReLU", "dead: 50.0 % of units"),
        ("it · ReLU", "saturated: 12.5 %"),
        ("it · ReLU", "8 units"),
    ]
    assert section.pictures[0][1].startswith("All 4 layers, over 7 images")
    assert section.findings == [
        "dead units of ReLU: at most 50.0 %, in it",
        "saturated outputs of sigmoid and tanh: at most 12.5 %, in it",
    ]
    monkeypatch.setattr(sections, "record_outputs", lambda *arguments: layers * 8)
    section = sections.activations(it, torch.zeros(7, 1, 28, 28))
    assert section.pictures[0][1].startswith("24 of 32 layers, evenly chosen, over 7 images")
