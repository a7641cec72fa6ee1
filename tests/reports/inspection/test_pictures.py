"""Histograms, and the colors of images."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.inspection_subjects import IMAGE

from cnnbench.reports.inspection.pictures import make_histogram


@pytest.mark.parametrize(("number", "bins"), [(9, 10), (600, 24), (36_000, 60)])
def test_histogram_bins_grow_with_number_of_values(number: int, bins: int) -> None:
    values = torch.randn(number, generator=torch.Generator().manual_seed(0))
    title, words, counts, edges = make_histogram("weight", "words", values)
    mean, std = values.mean(), values.std(correction=0)
    assert (title, words) == ("weight", f"mean {mean:.3g}, sd {std:.3g}\nwords")
    expected, expected_edges = np.histogram(values.numpy(), bins)
    np.testing.assert_allclose(edges, expected_edges, atol=1e-6)
    assert counts.sum() == number
    assert np.abs(counts.numpy() - expected).sum() <= 4  # values at an edge


@pytest.mark.parametrize("value", [0.0, 7.0, math.nan, math.inf])
def test_histogram_of_constant_counts_only_finite_values(value: float) -> None:
    *_, counts, edges = make_histogram("", "", torch.full((3, 2), value))
    assert edges[0] < edges[-1]
    assert counts.sum() == (6 if math.isfinite(value) else 0)


@pytest.mark.parametrize(("channels", "shape"), [(1, (6, 6)), (3, (6, 6, 3)), (4, (6, 6))])
def test_only_three_channel_images_are_in_color(channels: int, shape: tuple[int, ...]) -> None:
    pixels = torch.randint(0, 256, (channels, 6, 6), dtype=torch.uint8)
    expected = pixels.numpy() / 255
    expected = np.moveaxis(expected, 0, -1) if channels == 3 else expected.mean(axis=0)
    picture = replace(IMAGE, pixels=pixels).picture
    assert picture.shape == shape
    np.testing.assert_allclose(picture, expected)
