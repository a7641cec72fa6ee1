"""The sections of the page: what their pictures show, and what is said of them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from cnnbench import models
from cnnbench.analysis.receptive_field import Span, Traced, trace
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.layers import find_main_layers
from cnnbench.reports.inspection.pictures import ClassifiedImage, make_histogram
from cnnbench.reports.inspection.receptive_fields import draw_receptive_fields
from cnnbench.reports.inspection.sections import Subject

IMAGE = ClassifiedImage(7, torch.full((1, 28, 28), 255, dtype=torch.uint8), "Shirt", "Coat", 0.97)
RANDOM = np.random.default_rng(0)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Figure]:
    """The figures that are drawn; their files are empty."""
    drawn: list[Figure] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    return drawn


def subject(network: nn.Module, channels: int = 1, size: int = 28) -> Subject:
    twin, image = network.to("meta"), torch.empty(1, channels, size, size, device="meta")
    layers = find_main_layers(trace(twin, image))
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    engine: Any = SimpleNamespace(eval_model=network, logits=network, inputs=torch.Tensor.float)
    return Subject(Path(), "a network", engine, layers, 1, channels, size)


@pytest.fixture
def perceptron() -> Subject:
    return subject(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)))


def labels(rows: Sequence[Any]) -> list[str]:
    return [label.get_text() for row in rows for label in row.get_xticklabels()]


def colors(axes: Any) -> list[Any]:
    """The color in the middle of each picture of a row."""
    images = [image.to_rgba(image.get_array()) for image in axes.images]
    return [tuple(np.round(image[len(image) // 2, len(image) // 2, :3], 2)) for image in images]


@pytest.mark.parametrize(("number", "height"), [(1, 3.4), (60, 9.8)])
def test_every_mistake_is_shown_with_its_classes(
    number: int, height: float, perceptron: Subject, figures: list[Figure]
) -> None:
    sections.draw_mistakes(perceptron, [IMAGE] * 99, number)
    assert labels(figures[0].axes) == ["Shirt\n→ Coat\n7: 0.970"] * number
    for row in figures[0].axes:
        lefts, rights, _, _ = zip(*(image.get_extent() for image in row.images), strict=True)
        assert rights == tuple(left + 1 for left in lefts)
        assert list(lefts) == [tick.get_loc() for tick in row.xaxis.get_major_ticks()]
    assert figures[0].get_suptitle() == "a network: the most confident mistakes"
    assert figures[0].get_figheight() == pytest.approx(height)  # of rows of 5, of 10


def test_pairs_of_classes_are_counted_from_the_most_frequent_on(
    perceptron: Subject, figures: list[Figure]
) -> None:
    other = replace(IMAGE, true="Coat", predicted="W" * 99)
    section = sections.draw_mistakes(perceptron, [IMAGE] * 2 + [other] * 1_200, 5)
    long = "W" * 39 + "…"
    assert section.table[1:] == [("Coat", long, "1,200"), ("Shirt", "Coat", "2")]
    worst = "The worst is test image 7: Shirt\n→ Coat, 0.97."
    caption = f"The 5 most confident of 1,202 mistakes. {worst}"
    assert section.pictures == [("mistakes.png", caption)]
    lines = section.findings[1].splitlines()
    assert [line.split() for line in lines] == [
        ["Coat", "taken", "for", long, "1,200"],
        ["Shirt", "taken", "for", "Coat", "2"],
    ]


@pytest.mark.parametrize("number", [1, 7])
def test_saliency_is_on_scales_of_its_own(
    number: int, perceptron: Subject, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1, 20))
    monkeypatch.setattr(
        sections, "compute_input_gradient", lambda *_: np.full((3, 3), next(calls) / 9)
    )
    drops = iter(range(1, 20))
    monkeypatch.setattr(
        sections, "measure_occlusion", lambda *_: np.full((5, 5), -next(drops) / 20)
    )
    sections.draw_saliency(perceptron, [replace(IMAGE, true="Coat"), *[IMAGE] * (number - 1)])
    images, gradient, occlusion, *others = figures[0].axes
    assert len(images.images) == min(6, number)
    assert labels([images])[:2] == ["Coat, 0.97", "Shirt\n→ Coat, 0.97"][:number]
    shown = [label.get_color() for label in images.get_xticklabels()]
    assert shown == ["black", *["#b2182b"] * 5][:number]  # where the prediction is wrong
    assert colors(gradient) == [(1, 1, 1)] * min(6, number)
    assert colors(occlusion) == [(0.02, 0.19, 0.38)] * min(6, number)  # the darkest blue
    assert labels([occlusion])[:2] == ["± 0.05", "± 0.10"][:number]
    assert [len(axes.images) for axes in others[:-1]] == [1] * (3 if number == 7 else 0)
    names = [axes.get_ylabel() for axes in figures[0].axes[:3]]
    assert names == ["image", "gradient", "occlusion"]


@pytest.mark.parametrize(("work", "places"), [(1, 28), (10**8, 15), (10**11, 7)])
def test_saliency_says_how_far_the_probability_falls_at_places_that_the_work_allows(
    work: int,
    places: int,
    perceptron: Subject,
    figures: list[Figure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drops, measure = [], sections.measure_occlusion
    monkeypatch.setattr(
        sections, "measure_occlusion", lambda *given: drops.append(measure(*given)) or drops[-1]
    )
    it = replace(perceptron, multiply_adds=work)
    black = replace(IMAGE, pixels=torch.zeros_like(IMAGE.pixels))
    section = sections.draw_saliency(it, [black, replace(IMAGE, pixels=black.pixels + 1)])
    assert figures[0].axes[2].images[1].get_array().shape == (places, places)
    assert section.pictures[0][1] == (
        f"The patch hides 6 × 6 of 28 × 28 pixels, at {places} × {places} places. The probability "
        f"falls by at most 0.00, {drops[1].max():.2f}, from left to right."
    )


def layer(name: str, *shape: int, field: Any = None) -> Traced:
    return Traced(name, name, nn.Conv2d(1, 1, 3), shape, field)


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 7, 7), (3, 60, 1), (2, 200, 200), (4096,), (1,)])
def test_maps_of_any_shape_are_drawn(
    shape: tuple[int, ...],
    perceptron: Subject,
    figures: list[Figure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = RANDOM.random(shape)
    monkeypatch.setattr(sections, "record_outputs", lambda *_: [values] * 3)
    layers = [layer(f"features.{index}", *shape) for index in range(3)]
    section = sections.draw_feature_maps(perceptron, [IMAGE], layers)
    image, *rows = figures[0].axes
    assert image.images[0].get_array().shape == (28, 28)
    assert image.get_title(loc="left") == "test image 7\nShirt\n→ Coat, 0.97"
    count = min(16, shape[0]) if len(shape) == 3 else 1
    assert [len(row.images) for row in rows[:3]] == [count] * 3
    assert figures[0].get_figheight() == (4 if count == 16 else pytest.approx(4.7))
    if len(shape) == 3:
        assert rows[0].get_xlim()[1] == pytest.approx(1.08 * max(10, count))
    assert rows[0].get_title(loc="left").startswith("features.0 · Conv2d 3 × 3 · ")
    caption = "Test image 7: Shirt\n→ Coat, 0.97. Layers: features.0, features.1, features.2."
    assert section.pictures == [("feature_maps_7.png", caption)]


def test_the_maps_that_vary_most_are_shown_in_one_scale(
    perceptron: Subject, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = np.zeros((40, 3, 3))
    maps[[3, 30, *range(5, 19)], 0, 0] = -1
    maps[[3, 30], 1, 1] = [1, 0.5]
    monkeypatch.setattr(sections, "record_outputs", lambda *_: [maps])
    sections.draw_feature_maps(perceptron, [IMAGE], [layer("it", 40, 3, 3)])
    _, row, bar = figures[0].axes
    assert labels([row]) == [str(channel) for channel in [3, *range(5, 19), 30]]
    assert row.get_anchor() == "NW"  # also beside a color bar
    middles = colors(row)
    assert (middles[0], middles[1]) == ((0.99, 0.91, 0.14), (0.13, 0.57, 0.55))  # of viridis
    assert [label.get_text() for label in bar.get_yticklabels()] == ["−1", "1"]


def test_outputs_are_copied_before_the_next_layer_changes_them(figures: list[Figure]) -> None:
    it = subject(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)))
    with torch.no_grad():
        it.engine.eval_model[0].weight.fill_(-1)
    sections.draw_feature_maps(it, [IMAGE], it.layers)
    _, convolved, rectified, *_ = figures[0].axes
    assert convolved.images[0].get_array().max() < 0 == rectified.images[0].get_array().max()


def test_of_many_kernels_those_with_the_largest_norm_are_shown(figures: list[Figure]) -> None:
    it = subject(nn.Sequential(nn.Conv2d(1, 70, 3)))
    with torch.no_grad():
        it.engine.eval_model[0].weight[:] = torch.arange(70.0).view(-1, 1, 1, 1)
    section = sections.draw_kernels(it)
    rows = figures[0].axes[:4]
    assert labels(rows) == [str(number) for number in range(6, 70)]
    assert rows[0].images[0].get_array()[0, 0] == 6
    name = "0, Conv2d 3 × 3: those 64 of 70 kernels with the largest norm"
    assert section.pictures[0][1] == f"{name}, numbered by output channel."


@pytest.mark.parametrize(
    ("channels", "value", "color", "mean"),
    [
        *[(1, 0, (0.97, 0.97, 0.96), ""), (1, 0.3, (0.4, 0, 0.12), "")],
        *[(3, 0, (0.5, 0.5, 0.5), ""), (3, 0.3, (1, 0.5, 0.5), "")],
        (2, 0.3, (0.4, 0, 0.12), " Shown is the mean over 2 input channels."),
    ],
)
def test_kernels_are_around_white_or_of_color_images_gray(
    channels: int, value: float, color: Any, mean: str, figures: list[Figure]
) -> None:
    it = subject(nn.Sequential(nn.Conv2d(channels, 9, 3)), channels)
    with torch.no_grad():
        it.engine.eval_model[0].weight.zero_()[:, 0] = value
    section = sections.draw_kernels(it)
    assert colors(figures[0].axes[0])[0] == color
    assert labels(figures[0].axes[:2]) == [str(number) for number in range(9)]
    assert section.pictures[0][1].endswith(f"all 9 kernels, numbered by output channel.{mean}")


def test_a_perceptrons_rows_are_shown_as_images(figures: list[Figure]) -> None:
    it = subject(models.build("mlp", 2, image_size=6, widths=[5]), 2, 6)
    sections.draw_kernels(it)
    weight = it.engine.eval_model.get_parameter("layers.1.weight").detach()
    shown = figures[0].axes[0].images[4].get_array()
    np.testing.assert_allclose(shown, weight[4].view(2, 6, 6).mean(dim=0), rtol=1e-6)


def test_a_linear_layer_that_does_not_see_the_image_is_not_shown() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 784))
    section = sections.draw_kernels(subject(nn.Sequential(pooled, nn.Linear(784, 4))))
    assert (section.pictures, "nor a linear layer on the image" in section.note) == ((), True)


@pytest.mark.parametrize(("number", "bins"), [(9, 10), (600, 24), (36_000, 60)])
def test_values_are_counted_in_as_many_bins_as_fit_their_number(number: int, bins: int) -> None:
    values = torch.randn(number, generator=torch.Generator().manual_seed(0))
    title, words, counts, edges = make_histogram("weight", "words", values)
    mean, std = values.mean(), values.std(correction=0)
    assert (title, words) == ("weight", f"mean {mean:.3g}, sd {std:.3g}\nwords")
    expected, expected_edges = np.histogram(values.numpy(), bins)
    np.testing.assert_allclose(edges, expected_edges, atol=1e-6)
    assert counts.sum() == number
    assert np.abs(counts.numpy() - expected).sum() <= 4  # values at an edge


@pytest.mark.parametrize("value", [0.0, 7.0, math.nan, math.inf])
def test_one_value_alone_has_bins_too_and_only_finite_ones_are_counted(value: float) -> None:
    *_, counts, edges = make_histogram("", "", torch.full((3, 2), value))
    assert edges[0] < edges[-1]
    assert counts.sum() == (6 if math.isfinite(value) else 0)


def texts(axes: Sequence[Any]) -> list[tuple[str, str]]:
    return [(each.get_title(loc="left"), each.get_xlabel()) for each in axes]


def test_weights_are_those_of_two_or_more_dimensions(figures: list[Figure]) -> None:
    it = subject(nn.Sequential(nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2), nn.Conv2d(2, 1_200, 1)))
    with torch.no_grad():
        it.engine.eval_model[0].weight.view(-1)[:] = torch.arange(50.0)
    section = sections.draw_weights(it)
    first, second = texts(figures[0].axes)
    assert first == ("0.weight", "mean 24.5, sd 14.4\n2 × 1 × 5 × 5")
    assert (second[0], second[1].splitlines()[1]) == ("2.weight", "1,200 × 2 × 1 × 1")
    assert figures[0].axes[0].get_yscale() == "linear"
    assert section.pictures[0][1] == "All 2 weight tensors."


def test_histograms_of_activations_say_what_is_dead_or_saturated(
    figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, gates = nn.Linear(1, 4), nn.Linear(4, 2)
    pools = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    it = subject(nn.Sequential(*pools, dense, nn.ReLU(), nn.ReLU(), gates, nn.Sigmoid()))
    with torch.no_grad():
        for linear, bias in ((dense, [-1.0, 2.0, 2.0, 2.0]), (gates, [9.0, 0.0])):
            linear.weight.zero_()
            linear.bias[:] = torch.tensor(bias)
    images = torch.zeros(7, 1, 28, 28, dtype=torch.uint8)
    section = sections.draw_activations(it, images)
    assert texts(figures[0].axes) == [
        ("2 · Linear", "mean 1.25, sd 1.3\n4 units"),
        ("3 · ReLU", "mean 1.5, sd 0.866\ndead: 25.0 % of units"),
        ("4 · ReLU", "mean 1.5, sd 0.866\ndead: 25.0 % of units"),
        ("5 · Linear", "mean 4.5, sd 4.5\n2 units"),
        ("6 · Sigmoid", "mean 0.75, sd 0.25\nsaturated: 50.0 %"),
    ]
    assert figures[0].axes[0].get_yscale() == "symlog"
    assert [axes.get_subplotspec().num1 for axes in figures[0].axes] == [0, 1, 2, 3, 4]
    assert figures[0].axes[0].lines[0].get_xdata() == [0, 0]
    caption = "over 7 images, evenly spread over the test set."
    assert section.pictures == [("activations.png", f"All 5 layers, {caption}")]
    assert section.findings == [
        "dead units of ReLU: at most 25.0 %, in 3",
        "saturated outputs of sigmoid and tanh: at most 50.0 %, in 6",
    ]
    monkeypatch.setattr(sections, "MAX_HISTOGRAMS", 2)
    section = sections.draw_activations(it, images)
    assert section.pictures[0][1] == f"2 of 5 layers, evenly chosen, {caption}"
    assert [title for title, _ in texts(figures[1].axes)] == ["2 · Linear", "6 · Sigmoid"]


def test_a_field_is_framed_within_the_image(
    perceptron: Subject, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [(Span(-3, grown, 2), Span(1, 2, 1)) for grown in range(4)]
    fields.append((Span(-3, 4, 2), Span(1, 9, 1)))
    layers = [layer(f"it.{index}", 4, 3, 3, field=field) for index, field in enumerate(fields)]
    section = draw_receptive_fields(replace(perceptron, layers=layers, size=8), IMAGE)
    first, second = figures[0].axes
    assert first.patches[0].get_bbox().bounds == (2 / 8, 0, 2 / 8, 3 / 8)  # of unit 1
    veil = first.images[4].get_alpha()  # after the four pictures
    assert np.argwhere(veil == 0).tolist() == [
        [row, column] for row in range(3) for column in (2, 3)
    ]
    right = 3 * 1.08 + 2 / 8
    assert first.patches[3].get_bbox().bounds == pytest.approx((right, 0, 2 / 8, 6 / 8))
    assert second.patches[0].get_bbox().bounds == (2 / 8, 0, 6 / 8, 7 / 8)
    assert labels([first, second])[3:] == [
        *("it.3\nConv2d 3 × 3\n7 × 2", "it.4\nConv2d 3 × 3\n8 × 9, whole image"),
    ]
    some = "All 5 layers that see more than those before, up to the whole image."
    assert section.pictures == [("receptive_field.png", f"Test image 7. {some}")]


@pytest.mark.parametrize(
    ("name", "sides"),
    [("inception_net", [5, 6, 14, 22, 24, 40]), ("resnet20", [3, 5, 9, 11, 15, 17, 25, 29])],
)
def test_frames_are_drawn_for_layers_that_see_more_than_those_before_up_to_the_whole_image(
    name: str, sides: list[int], figures: list[Figure]
) -> None:
    draw_receptive_fields(subject(models.build(name, image_size=28)), IMAGE)
    fields = [label.splitlines()[2] for label in labels(figures[0].axes)]
    assert [int(field.split()[0]) for field in fields] == sides


def test_global_pooling_has_no_frame_and_of_equal_fields_the_last_is_named(
    figures: list[Figure],
) -> None:
    layers = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1)
    section = draw_receptive_fields(subject(nn.Sequential(*layers)), IMAGE)
    assert labels(figures[0].axes) == ["0\nConv2d 3 × 3\n3 × 3"]
    assert section.findings == ["largest receptive field of a convolution: 3 x 3, in 1"]


def test_the_table_has_field_jump_and_center_of_each_layer(figures: list[Figure]) -> None:
    section = draw_receptive_fields(subject(models.build("lenet")), IMAGE)
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


@pytest.mark.parametrize(("channels", "shape"), [(1, (6, 6)), (3, (6, 6, 3)), (4, (6, 6))])
def test_three_channels_alone_are_in_color(channels: int, shape: tuple[int, ...]) -> None:
    pixels = torch.randint(0, 256, (channels, 6, 6), dtype=torch.uint8)
    expected = pixels.numpy() / 255
    expected = np.moveaxis(expected, 0, -1) if channels == 3 else expected.mean(axis=0)
    picture = replace(IMAGE, pixels=pixels).picture
    assert picture.shape == shape
    np.testing.assert_allclose(picture, expected)
