"""The sections of the page: their pictures, captions, tables and findings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.inspection_subjects import (
    IMAGE,
    make_layer,
    make_subject,
    picture_colors,
    tick_labels,
)
from matplotlib.figure import Figure
from torch import nn

from cnnbench import models
from cnnbench.reports.inspection import sections
from cnnbench.reports.inspection.sections import Subject

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("number", "height"), [(1, 3.4), (60, 9.8)])
def test_mistakes_are_labeled_with_true_and_predicted_class(
    number: int, height: float, perceptron: Subject, figures: list[Figure]
) -> None:
    sections.draw_mistakes(perceptron, [IMAGE] * 99, number)
    assert tick_labels(figures[0].axes) == ["Shirt\n→ Coat\n7: 0.970"] * number
    for row in figures[0].axes:
        lefts, rights, _, _ = zip(*(image.get_extent() for image in row.images), strict=True)
        assert rights == tuple(left + 1 for left in lefts)
        assert list(lefts) == [tick.get_loc() for tick in row.xaxis.get_major_ticks()]
    assert figures[0].get_suptitle() == "a network: the most confident mistakes"
    assert figures[0].get_figheight() == pytest.approx(height)  # with rows of 5 or 10 images


def test_mistakes_table_counts_class_pairs_in_descending_order(
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
def test_saliency_scales_each_map_separately(
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
    assert tick_labels([images])[:2] == ["Coat, 0.97", "Shirt\n→ Coat, 0.97"][:number]
    shown = [label.get_color() for label in images.get_xticklabels()]
    assert shown == ["black", *["#b2182b"] * 5][:number]  # where the prediction is wrong
    assert picture_colors(gradient) == [(1, 1, 1)] * min(6, number)
    assert picture_colors(occlusion) == [(0.02, 0.19, 0.38)] * min(6, number)  # the darkest blue
    assert tick_labels([occlusion])[:2] == ["± 0.05", "± 0.10"][:number]
    assert [len(axes.images) for axes in others[:-1]] == [1] * (3 if number == 7 else 0)
    names = [axes.get_ylabel() for axes in figures[0].axes[:3]]
    assert names == ["image", "gradient", "occlusion"]


@pytest.mark.parametrize(("work", "places"), [(1, 28), (10**8, 15), (10**11, 7)])
def test_saliency_caption_reports_probability_drop_and_affordable_places(
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
    subject = replace(perceptron, multiply_adds=work)
    black = replace(IMAGE, pixels=torch.zeros_like(IMAGE.pixels))
    section = sections.draw_saliency(subject, [black, replace(IMAGE, pixels=black.pixels + 1)])
    assert figures[0].axes[2].images[1].get_array().shape == (places, places)
    assert section.pictures[0][1] == (
        f"The patch hides 6 × 6 of 28 × 28 pixels, at {places} × {places} places. The probability "
        f"falls by at most 0.00, {drops[1].max():.2f}, from left to right."
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 7, 7), (3, 60, 1), (2, 200, 200), (4096,), (1,)])
def test_feature_maps_of_any_shape_are_drawn(
    shape: tuple[int, ...],
    perceptron: Subject,
    figures: list[Figure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = RANDOM.random(shape)
    monkeypatch.setattr(sections, "record_outputs", lambda *_: [values] * 3)
    layers = [make_layer(f"features.{index}", *shape) for index in range(3)]
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


def test_feature_maps_that_vary_most_share_one_scale(
    perceptron: Subject, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = np.zeros((40, 3, 3))
    maps[[3, 30, *range(5, 19)], 0, 0] = -1
    maps[[3, 30], 1, 1] = [1, 0.5]
    monkeypatch.setattr(sections, "record_outputs", lambda *_: [maps])
    sections.draw_feature_maps(perceptron, [IMAGE], [make_layer("a_layer", 40, 3, 3)])
    _, row, bar = figures[0].axes
    assert tick_labels([row]) == [str(channel) for channel in [3, *range(5, 19), 30]]
    assert row.get_anchor() == "NW"  # also beside a color bar
    middles = picture_colors(row)
    assert (middles[0], middles[1]) == ((0.99, 0.91, 0.14), (0.13, 0.57, 0.55))  # colors of viridis
    assert [label.get_text() for label in bar.get_yticklabels()] == ["−1", "1"]


def test_feature_maps_are_copied_before_an_in_place_layer(figures: list[Figure]) -> None:
    subject = make_subject(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)))
    with torch.no_grad():
        subject.engine.eval_model[0].weight.fill_(-1)
    sections.draw_feature_maps(subject, [IMAGE], subject.layers)
    _, convolved, rectified, *_ = figures[0].axes
    assert convolved.images[0].get_array().max() < 0 == rectified.images[0].get_array().max()


def test_kernels_with_largest_norm_are_shown(figures: list[Figure]) -> None:
    subject = make_subject(nn.Sequential(nn.Conv2d(1, 70, 3)))
    with torch.no_grad():
        subject.engine.eval_model[0].weight[:] = torch.arange(70.0).view(-1, 1, 1, 1)
    section = sections.draw_kernels(subject)
    rows = figures[0].axes[:4]
    assert tick_labels(rows) == [str(number) for number in range(6, 70)]
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
def test_kernel_value_zero_is_white_or_gray_for_color_images(
    channels: int, value: float, color: Any, mean: str, figures: list[Figure]
) -> None:
    subject = make_subject(nn.Sequential(nn.Conv2d(channels, 9, 3)), channels)
    with torch.no_grad():
        subject.engine.eval_model[0].weight.zero_()[:, 0] = value
    section = sections.draw_kernels(subject)
    assert picture_colors(figures[0].axes[0])[0] == color
    assert tick_labels(figures[0].axes[:2]) == [str(number) for number in range(9)]
    assert section.pictures[0][1].endswith(f"all 9 kernels, numbered by output channel.{mean}")


def test_mlp_weight_rows_are_shown_as_images(figures: list[Figure]) -> None:
    subject = make_subject(models.build("mlp", 2, image_size=6, widths=[5]), 2, 6)
    sections.draw_kernels(subject)
    weight = subject.engine.eval_model.get_parameter("layers.1.weight").detach()
    shown = figures[0].axes[0].images[4].get_array()
    np.testing.assert_allclose(shown, weight[4].view(2, 6, 6).mean(dim=0), rtol=1e-6)


def test_linear_layer_behind_pooling_has_no_kernels() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 784))
    section = sections.draw_kernels(make_subject(nn.Sequential(pooled, nn.Linear(784, 4))))
    assert (section.pictures, "nor a linear layer on the image" in section.note) == ((), True)


def texts(axes: Sequence[Any]) -> list[tuple[str, str]]:
    return [(panel.get_title(loc="left"), panel.get_xlabel()) for panel in axes]


def test_weights_section_skips_one_dimensional_parameters(figures: list[Figure]) -> None:
    subject = make_subject(
        nn.Sequential(nn.Conv2d(1, 2, 5), nn.BatchNorm2d(2), nn.Conv2d(2, 1_200, 1))
    )
    with torch.no_grad():
        subject.engine.eval_model[0].weight.view(-1)[:] = torch.arange(50.0)
    section = sections.draw_weights(subject)
    first, second = texts(figures[0].axes)
    assert first == ("0.weight", "mean 24.5, sd 14.4\n2 × 1 × 5 × 5")
    assert (second[0], second[1].splitlines()[1]) == ("2.weight", "1,200 × 2 × 1 × 1")
    assert figures[0].axes[0].get_yscale() == "linear"
    assert section.pictures[0][1] == "All 2 weight tensors."


def test_activations_report_dead_and_saturated_units(
    figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, gates = nn.Linear(1, 4), nn.Linear(4, 2)
    pools = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    subject = make_subject(nn.Sequential(*pools, dense, nn.ReLU(), nn.ReLU(), gates, nn.Sigmoid()))
    with torch.no_grad():
        for linear, bias in ((dense, [-1.0, 2.0, 2.0, 2.0]), (gates, [9.0, 0.0])):
            linear.weight.zero_()
            linear.bias[:] = torch.tensor(bias)
    images = torch.zeros(7, 1, 28, 28, dtype=torch.uint8)
    section = sections.draw_activations(subject, images)
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
    section = sections.draw_activations(subject, images)
    assert section.pictures[0][1] == f"2 of 5 layers, evenly chosen, {caption}"
    assert [title for title, _ in texts(figures[1].axes)] == ["2 · Linear", "6 · Sigmoid"]
