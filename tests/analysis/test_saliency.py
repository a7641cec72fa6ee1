"""Which pixels decide, where that can be known."""

import numpy as np
import pytest
import torch

from cnnbench.analysis.saliency import (
    Occlusion,
    compute_input_gradient,
    measure_occlusion,
    plan_occlusion,
)


def test_the_gradient_is_of_the_predicted_class_and_its_largest_over_the_channels() -> None:
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    image = torch.sign(weight[2:3].detach())

    def logits(inputs: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,kchw->nk", inputs, weight)

    gradient = compute_input_gradient(logits, image)
    np.testing.assert_allclose(gradient, weight[2].detach().abs().amax(0), rtol=1e-6)
    assert (image.requires_grad, weight.grad) == (False, None)


def of_one_pixel(inputs: torch.Tensor) -> torch.Tensor:
    """Class 1 if the pixel in row 2, column 7 is bright."""
    bright = inputs[:, :, 2, 7].sum(dim=1)
    return torch.stack([torch.zeros_like(bright), bright], dim=1)


def test_hiding_counts_where_the_patch_covers_what_decides() -> None:
    image = torch.full((1, 2, 10, 10), 2.0)
    drop = measure_occlusion(of_one_pixel, image, Occlusion(patch=3, places=10))
    expected = np.zeros((10, 10))
    expected[1:4, 6:9] = torch.tensor(4.0).sigmoid().item() - 0.5
    np.testing.assert_allclose(drop, expected, atol=1e-6)
    assert image.eq(2).all()


@pytest.mark.parametrize("size", [1, 4, 12, 28, 29, 32, 96, 224])
@pytest.mark.parametrize("multiply_adds", [1, 10**7, 10**11])
def test_patches_cover_the_image_and_are_bounded(size: int, multiply_adds: int) -> None:
    how = plan_occlusion(size, multiply_adds, images=5, most=5e10)
    corners = how.corners(size)
    covered = {pixel for corner in corners for pixel in range(corner, corner + how.patch)}
    assert set(range(size)) <= covered
    assert len(set(corners)) == how.places <= 28
    assert how.places <= 7 or 5 * how.places**2 * multiply_adds <= 5e10
    places = (np.arange(how.places) + 0.5) * size / how.places
    assert np.abs(np.array(corners) + how.patch / 2 - places).max() <= 0.5


def test_a_patch_is_a_fifth_of_the_image_and_places_are_what_the_work_allows() -> None:
    assert plan_occlusion(28, 1, images=1, most=5e10) == Occlusion(6, 28)
    assert plan_occlusion(224, 10**11, images=5, most=5e10) == Occlusion(45, 7)
