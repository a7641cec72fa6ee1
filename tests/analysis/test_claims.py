"""The figures of claims 6, 9 and 10, on tensors with known results."""

import pytest
import torch

from cnnbench import config
from cnnbench.analysis.claims import compare_convolutions, compute_figures, measure_pooling
from cnnbench.analysis.judge import Estimate
from cnnbench.cli.hydra_app import compose_config


def test_pooling_changes_of_brightness_and_texture() -> None:
    image = torch.tensor([[8.0, 2, 2, 0], [2, 0, 0, 2], [4, 4, 0, 0], [4, 4, 0, 0]])
    black = torch.zeros(1, 4, 4)  # left out, because a share of 0 is undefined
    figures = measure_pooling(torch.stack([image[None], image[None], black]))
    before = 80 / 12 + 72 / 12  # squared differences of 12 horizontal and 12 vertical pairs
    assert {name: figures[name].value for name in figures} == pytest.approx(
        {
            "brightness_avg": 0.0,  # pooled to 3, 1, 4, 0 with mean 2, as the image
            "brightness_max": 1.5 / 2,  # pooled to 8, 2, 4, 0
            "brightness_min": 1.0 / 2,  # pooled to 0, 0, 4, 0
            "texture_avg": ((4 + 16) / 2 + (1 + 1) / 2) / before,
            "texture_max": ((36 + 16) / 2 + (16 + 4) / 2) / before,
            "texture_min": ((0 + 16) / 2 + (16 + 0) / 2) / before,
            "more_brightness": 0.75,
            "more_texture": (36 - 11) / before,
        }
    )


def test_pooling_margins_are_over_images() -> None:
    images = torch.tensor([[[[4.0, 0], [0, 0]]], [[[4.0, 4], [0, 0]]]])  # relative changes 3 and 1
    assert measure_pooling(images)["brightness_max"] == Estimate(2.0, pytest.approx(12.706, 1e-4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_ways_to_convolve_differ_by_rounding(dtype: torch.dtype) -> None:
    figures = compare_convolutions(dtype)
    name = str(dtype).removeprefix("torch.")
    assert set(figures) == {f"im2col_{name}", f"pointwise_{name}"}
    for estimate in figures.values():
        assert 0 <= estimate.value < 150 * torch.finfo(dtype).eps
        assert estimate.margin == 0


def test_difference_of_convolutions_is_relative_to_largest_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *args: 0.5 * convolve(*args))
    for estimate in compare_convolutions(torch.float64).values():
        assert estimate.value == pytest.approx(1.0)


def test_compute_figures_is_deterministic() -> None:
    data = config.load_config(config.to_plain(compose_config(["data=sample"]))).data
    figures = compute_figures(data)
    assert figures == compute_figures(data)
    # The share of the rows of a 5x5 window that lie in the image, by row of the output.
    inside = torch.tensor([3, 4, *[5] * 24, 4, 3], dtype=torch.float64) / 5
    ring = torch.ones(28, 28, dtype=torch.bool)
    ring[2:-2, 2:-2] = False
    border = float((1 - torch.outer(inside, inside))[ring].mean())
    assert figures["border_zeros_smoothing"].value == pytest.approx(border)
    assert figures["border_zeros_lenet"].value == pytest.approx(0.593, abs=1e-3)
    for layer in ("smoothing", "lenet"):
        assert figures[f"border_reflect_{layer}"].value < 1e-15
    assert {"im2col_float32", "im2col_float64"} < set(figures)
    assert figures["texture_max"].value == pytest.approx(1.893, abs=1e-3)
