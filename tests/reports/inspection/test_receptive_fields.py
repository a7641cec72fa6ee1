"""The section on receptive fields: frames, captions and the table."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.inspection_subjects import IMAGE, make_layer, make_subject, tick_labels
from matplotlib.figure import Figure
from torch import nn

from cnnbench import models
from cnnbench.analysis.receptive_field import Span
from cnnbench.reports.inspection.receptive_fields import draw_receptive_fields
from cnnbench.reports.inspection.sections import Subject


def test_receptive_field_frame_is_clipped_to_image(
    perceptron: Subject, figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [(Span(-3, grown, 2), Span(1, 2, 1)) for grown in range(4)]
    fields.append((Span(-3, 4, 2), Span(1, 9, 1)))
    layers = [
        make_layer(f"a_layer.{index}", 4, 3, 3, field=field) for index, field in enumerate(fields)
    ]
    section = draw_receptive_fields(replace(perceptron, layers=layers, size=8), IMAGE)
    first, second = figures[0].axes
    assert first.patches[0].get_bbox().bounds == (2 / 8, 0, 2 / 8, 3 / 8)  # the field of unit 1
    veil = first.images[4].get_alpha()  # after the four pictures
    assert np.argwhere(veil == 0).tolist() == [
        [row, column] for row in range(3) for column in (2, 3)
    ]
    right = 3 * 1.08 + 2 / 8
    assert first.patches[3].get_bbox().bounds == pytest.approx((right, 0, 2 / 8, 6 / 8))
    assert second.patches[0].get_bbox().bounds == (2 / 8, 0, 6 / 8, 7 / 8)
    assert tick_labels([first, second])[3:] == [
        *("a_layer.3\nConv2d 3 × 3\n7 × 2", "a_layer.4\nConv2d 3 × 3\n8 × 9, whole image"),
    ]
    some = "All 5 layers that see more than those before, up to the whole image."
    assert section.pictures == [("receptive_field.png", f"Test image 7. {some}")]


@pytest.mark.parametrize(
    ("name", "sides"),
    [("inception_net", [5, 6, 14, 22, 24, 40]), ("resnet20", [3, 5, 9, 11, 15, 17, 25, 29])],
)
def test_receptive_fields_are_drawn_for_layers_with_growing_fields(
    name: str, sides: list[int], figures: list[Figure]
) -> None:
    draw_receptive_fields(make_subject(models.build(name, image_size=28)), IMAGE)
    fields = [label.splitlines()[2] for label in tick_labels(figures[0].axes)]
    assert [int(field.split()[0]) for field in fields] == sides


def test_global_pooling_has_no_frame_and_last_of_equal_fields_is_named(
    figures: list[Figure],
) -> None:
    layers = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.AdaptiveAvgPool2d(1)
    section = draw_receptive_fields(make_subject(nn.Sequential(*layers)), IMAGE)
    assert tick_labels(figures[0].axes) == ["0\nConv2d 3 × 3\n3 × 3"]
    assert section.findings == ["largest receptive field of a convolution: 3 x 3, in 1"]


def test_table_has_field_jump_and_center_of_each_layer(figures: list[Figure]) -> None:
    section = draw_receptive_fields(make_subject(models.build("lenet")), IMAGE)
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
