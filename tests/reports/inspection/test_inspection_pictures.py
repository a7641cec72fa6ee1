"""The pictures: whatever the images and names, they can be drawn, and show what they should."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from cnnbench.analysis.activations import Histogram
from cnnbench.analysis.receptive_field import Span, Traced
from cnnbench.data.transforms import Preprocess
from cnnbench.reports.inspection.pictures import (
    Shown,
    draw_feature_maps,
    draw_histograms,
    draw_kernels,
    draw_mistakes,
    draw_receptive_fields,
    draw_saliency,
    strongest,
)

NAMES = {
    **{"formula": "$\\frac{$", "steering": "a\nb\x1b[31m", "Chinese": "名" * 3},
    **{"long": "W" * 5000, "empty": "", "half": "\ud800"},  # a letter that no file can hold
}
Draw = Callable[..., list[Any]]  # its result is the axes
RANDOM = np.random.default_rng(0)
HISTOGRAM = Histogram(np.ones(3), np.arange(4), 0.0, 1.0)


def shown(true: str = "Shirt", predicted: str = "Coat", channels: int = 1) -> Shown:
    pixels = torch.randint(0, 256, (channels, 6, 6), dtype=torch.uint8)
    return Shown(7, pixels, true, predicted, 0.97)


def layer(name: str, *shape: int, field: Any = None) -> Traced:
    return Traced(name, 1, nn.Conv2d(1, 1, 3), shape, field)


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Draws a picture and gives its axes."""
    figures: list[Figure] = []
    save = Figure.savefig

    def record(figure: Figure, *arguments: Any, **keywords: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", record)

    def to_axes(function: Callable[..., None], *arguments: Any, **keywords: Any) -> list[Any]:
        function(tmp_path / "it.png", *arguments, **keywords)
        return figures[-1].axes

    return to_axes


def colors(axes: Any) -> list[Any]:
    """The color in the middle of each picture of a row."""
    images = [image.to_rgba(image.get_array()) for image in axes.images]
    return [tuple(np.round(image[len(image) // 2, len(image) // 2, :3], 2)) for image in images]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_name_may_be_anything(name: str, draw: Draw) -> None:
    image, drop = shown(name, name[::-1] + "x"), np.zeros((2, 4, 4))
    draw(draw_mistakes, name, [image] * 3)
    draw(draw_saliency, name, [image] * 2, drop, drop)
    draw(draw_feature_maps, name, image, 6, [(layer(name, 4, 3, 3), RANDOM.random((4, 3, 3)))])
    draw(draw_histograms, name, name, [(name, "", HISTOGRAM)], is_log=True)


@pytest.mark.parametrize("number", [1, 60])
def test_every_mistake_is_shown_with_its_classes(number: int, draw: Draw) -> None:
    axes = draw(draw_mistakes, "a gallery", [shown()] * number)
    labels = [label.get_text() for row in axes for label in row.get_xticklabels()]
    assert labels == ["Shirt\n→ Coat\n7: 0.970"] * number
    assert sum(len(row.images) for row in axes) == number


@pytest.mark.parametrize("number", [1, 7])
def test_saliency_is_on_scales_of_its_own(number: int, draw: Draw) -> None:
    gradients = np.full((number, 3, 3), 0.25)
    drops = np.full((number, 5, 5), -0.5)
    images, gradient, occlusion, *_ = draw(draw_saliency, "", [shown()] * number, gradients, drops)
    assert len(images.images) == min(6, number)
    assert images.get_xticklabels()[0].get_color() == "#b2182b"  # the prediction is wrong
    assert colors(gradient)[0] == (1, 1, 1)
    assert colors(occlusion)[0] == (0.02, 0.19, 0.38)  # the darkest blue


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (64, 1, 11, 11), (6, 3, 5, 5), (9, 2, 3, 5)])
def test_kernels_of_any_shape_are_numbered(shape: tuple[int, ...], draw: Draw) -> None:
    axes = draw(draw_kernels, "kernels", RANDOM.standard_normal(shape), range(10, 10 + shape[0]))
    rows = [each for each in axes if each.get_label() != "<colorbar>"]
    labels = [label.get_text() for row in rows for label in row.get_xticklabels()]
    assert labels == [str(number) for number in range(10, 10 + shape[0])]


def test_kernels_are_around_white_or_gray(draw: Draw) -> None:
    kernel = np.zeros((1, 3, 3, 3))
    assert colors(draw(draw_kernels, "", kernel, [0])[0]) == [(0.5, 0.5, 0.5)]
    assert colors(draw(draw_kernels, "", kernel[:, :1], [0])[0]) == [(0.97, 0.97, 0.96)]
    kernel[0, 0] = 0.3
    assert colors(draw(draw_kernels, "", kernel, [0])[0]) == [(1, 0.5, 0.5)]
    assert colors(draw(draw_kernels, "", kernel[:, :1], [0])[0]) == [(0.4, 0, 0.12)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 7, 7), (3, 60, 1), (2, 200, 200), (4096,), (1,)])
def test_maps_of_any_shape_are_drawn(shape: tuple[int, ...], draw: Draw) -> None:
    outputs = [(layer("features.0", *shape), RANDOM.random(shape))] * 3
    image, *rows = draw(draw_feature_maps, "maps", shown(), 12, outputs)
    assert image.images[0].get_array().shape == (12, 12)
    assert image.get_title(loc="left") == "test image 7\nShirt\n→ Coat, 0.97"
    count = min(16, shape[0]) if len(shape) == 3 else 1
    assert [len(row.images) for row in rows[:3]] == [count] * 3
    assert rows[0].get_title(loc="left").startswith("features.0 · Conv2d 3 × 3 · ")


def test_all_maps_of_a_layer_share_one_scale(draw: Draw) -> None:
    maps = np.array([0.0, 1.0, 0.5]).reshape(3, 1, 1)
    _, row, bar = draw(draw_feature_maps, "maps", shown(), 6, [(layer("it", 3, 1, 1), maps)])
    assert colors(row) == [(0.27, 0.0, 0.33), (0.99, 0.91, 0.14), (0.13, 0.57, 0.55)]  # of viridis
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "1"]


def test_the_maps_shown_are_those_that_vary_most() -> None:
    maps = np.ones((40, 2, 2)) * np.arange(40)[:, None, None]
    maps[[3, 30, *range(5, 19)], 0, 0] += 100
    assert strongest(maps) == [3, *range(5, 19), 30]
    assert strongest(maps[:5]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("log", "scale"), [(True, "symlog"), (False, "linear")])
def test_a_histogram_has_its_mean_and_words(log: bool, scale: str, draw: Draw) -> None:
    first, *others = draw(draw_histograms, "", "", [("name", "words", HISTOGRAM)] * 5, is_log=log)
    assert first.get_xlabel() == "mean 0, sd 1\nwords"
    assert (first.get_title(loc="left"), first.get_yscale()) == ("name", scale)
    assert [axes.axison for axes in others] == [True] * 4 + [False] * 3


def test_a_field_is_bright_and_framed_within_the_image(draw: Draw) -> None:
    field = (Span(-2, 1, 2), Span(1, 2, 1))  # of unit 1: rows 0 to 3, columns 2 to 3
    layers = [layer("it", 4, 3, 3, field=field)]
    (axes,) = draw(draw_receptive_fields, "", np.ones((8, 8)), layers)
    picture = axes.images[0].get_array()
    assert (picture[:4, 2:4] == 1).all()
    assert np.isclose(picture, 0.55).sum() == 64 - 8
    (frame,) = axes.patches
    assert frame.get_bbox().bounds == (2 / 8, 0, 2 / 8, 4 / 8)
    assert axes.get_xticklabels()[0].get_text() == "it\nConv2d 3 × 3\n4 × 2"


@pytest.mark.parametrize(("channels", "shape"), [(1, (6, 6)), (3, (6, 6, 3)), (4, (6, 6))])
def test_three_channels_alone_are_in_color(channels: int, shape: tuple[int, ...]) -> None:
    image = shown(channels=channels)
    assert image.picture().shape == shape
    pixels = image.pixels.numpy() / np.float32(255)
    expected = np.moveaxis(pixels, 0, -1) if channels == 3 else pixels.mean(axis=0)
    np.testing.assert_allclose(image.picture(), expected, rtol=1e-6)


def test_a_picture_may_be_as_large_as_the_input_of_the_network() -> None:
    image = shown()
    (resized,) = Preprocess(4, [0.0], [1.0])(image.pixels[None])
    np.testing.assert_allclose(image.picture(4), resized[0], rtol=1e-5)


def test_a_verdict_names_the_true_class_where_it_is_another() -> None:
    assert shown().verdict(20) == "Shirt → Coat, 0.97"
    assert shown("Coat").verdict(20) == "Coat, 0.97"
