"""What goes into the sections of the page."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.receptive_field import trace
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.pictures import Shown
from cnnbench.reports.inspection.sections import Subject

IMAGE = Shown(0, np.zeros((1, 28, 28), np.float32), "Shirt", "Coat", 0.5)


def subject(network: nn.Module, folder: Path, channels: int = 1, size: int = 28) -> Subject:
    twin, image = network.to("meta"), torch.empty(1, channels, size, size, device="meta")
    traced = trace(twin, image)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return Subject(folder, "a network", network, network, network, traced, 1, (channels, size, size))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of the last call of each function that draws."""
    calls: dict[str, Any] = {}

    def recorded(name: str) -> None:
        draw = getattr(sections, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            calls[name] = arguments
            return draw(*arguments, **keywords)

        monkeypatch.setattr(sections, name, call)

    for name in ("draw_kernels", "draw_receptive_fields", "draw_saliency"):
        recorded(name)
    return calls


def test_of_many_kernels_those_with_the_largest_norm_are_shown(drawn: dict[str, Any], tmp_path: Path) -> None:
    it = subject(nn.Sequential(nn.Conv2d(1, 70, 3)), tmp_path)
    with torch.no_grad():
        it.network[0].weight[:] = torch.arange(70.0).view(-1, 1, 1, 1)
    section = sections.kernels(it)
    _, kernels, numbers = drawn["draw_kernels"]
    assert numbers == list(range(6, 70))
    assert kernels[0, 0, 0, 0] == 6
    assert "those 64 of 70 kernels with the largest norm" in section.pictures[0].caption


def test_a_perceptrons_rows_are_shown_as_images(drawn: dict[str, Any], tmp_path: Path) -> None:
    it = subject(models.build("mlp", 3, image_size=6, widths=[5]), tmp_path, 3, 6)
    sections.kernels(it)
    _, kernels, _ = drawn["draw_kernels"]
    weight = it.network.get_parameter("layers.1.weight").detach()
    np.testing.assert_array_equal(kernels, weight.view(5, 3, 6, 6))


def test_a_linear_layer_that_does_not_see_the_image_is_not_shown(tmp_path: Path) -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 4))
    section = sections.kernels(subject(pooled, tmp_path))
    assert (section.pictures, "does not see the image" in section.note) == ((), True)


@pytest.mark.parametrize(
    ("name", "sides"), [("inception_net", [5, 6, 14, 22, 24, 40]), ("resnet20", [3, 5, 9, 11, 15, 17, 25, 29])]
)
def test_boxes_are_drawn_for_layers_that_see_more_than_those_before_up_to_the_whole_image(
    name: str, sides: list[int], drawn: dict[str, Any], tmp_path: Path
) -> None:
    sections.receptive_fields(subject(models.build(name, image_size=28), tmp_path), IMAGE)
    _, _, layers = drawn["draw_receptive_fields"]
    assert [layer.field[0].size for layer in layers] == sides


def test_the_table_has_field_jump_and_centre_of_each_layer(tmp_path: Path) -> None:
    table = sections.receptive_fields(subject(models.build("lenet"), tmp_path), IMAGE).table
    assert table[1:5] == [
        ("features.0", "Conv2d 5 × 5", "6 × 28 × 28", "5 × 5", "1", "0"),
        ("features.2", "AvgPool2d 2 × 2", "6 × 14 × 14", "6 × 6", "2", "0.5"),
        ("features.3", "Conv2d 5 × 5", "16 × 10 × 10", "14 × 14", "2", "4.5"),
        ("features.5", "AvgPool2d 2 × 2", "16 × 5 × 5", "16 × 16", "4", "5.5"),
    ]
    assert table[5] == ("classifier.1", "Linear", "120", "whole image", "", "")


def test_pairs_of_classes_are_counted_from_the_most_frequent_on(tmp_path: Path) -> None:
    pairs = Counter({("Shirt", "Coat"): 2, ("Coat", "Shirt"): 1_200})
    it = subject(models.build("mlp", widths=[2]), tmp_path)
    table = sections.mistakes(it, [IMAGE], 1_202, pairs).table
    assert table == [("true class", "predicted", "mistakes"), ("Coat", "Shirt", "1,200"), ("Shirt", "Coat", "2")]


def test_saliency_is_of_the_classes_that_are_asked_for(drawn: dict[str, Any], tmp_path: Path) -> None:
    it = subject(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), tmp_path)
    sections.saliency(it, [IMAGE], [torch.rand(1, 1, 28, 28)], [2])
    _, _, (gradient,), _ = drawn["draw_saliency"]
    np.testing.assert_allclose(gradient, it.network[1].weight.detach()[2].view(28, 28).abs())
