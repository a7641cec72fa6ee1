"""Input gradients and occlusion of classifiers whose decisive pixels are known."""

import numpy as np
import pytest
import torch

from cnnbench.analysis.saliency import compute_input_gradient, measure_occlusion


def test_input_gradient_of_predicted_class_is_maximum_over_channels() -> None:
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    image = torch.sign(weight[2:3].detach())

    def logits(inputs: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,kchw->nk", inputs, weight)

    gradient = compute_input_gradient(logits, image)
    np.testing.assert_allclose(gradient, weight[2].detach().abs().amax(0), rtol=1e-6)
    assert (image.requires_grad, weight.grad) == (False, None)


def classify_by_one_pixel(inputs: torch.Tensor) -> torch.Tensor:
    """Return logits for class 1 if the pixel in row 2, column 7 is bright."""
    bright = inputs[:, :, 2, 7].sum(dim=1)
    return torch.stack([torch.zeros_like(bright), bright], dim=1)


@pytest.mark.parametrize(
    ("patch", "places", "rows", "columns"),
    [
        (3, 10, slice(1, 4), slice(6, 9)),
        (2, 5, slice(1, 2), slice(3, 4)),  # patches side by side
        (4, 5, slice(0, 2), slice(3, 5)),
        (3, 5, slice(0, 2), slice(3, 4)),  # patches rounded to the nearest pixel
        (1, 10, slice(2, 3), slice(7, 8)),
    ],
)
def test_occlusion_lowers_probability_where_patch_covers_pixel(
    patch: int, places: int, rows: slice, columns: slice
) -> None:
    image = torch.full((1, 2, 10, 10), 2.0)
    expected = np.zeros((places, places))
    expected[rows, columns] = torch.tensor(4.0).sigmoid().item() - 0.5
    drop = measure_occlusion(classify_by_one_pixel, image, patch, places)
    np.testing.assert_allclose(drop, expected, atol=1e-6)
    assert image.eq(2).all()


@pytest.mark.parametrize(("size", "places"), [(1, 1), (4, 4), (29, 28), (32, 7), (224, 7)])
def test_patches_cover_image(size: int, places: int) -> None:
    patch, image = max(1, round(size / 5)), torch.ones(1, 1, size, size)
    for row, column in ((0, 0), (size - 1, size - 1), (size // 2, size // 3)):

        def logits(inputs: torch.Tensor, row: int = row, column: int = column) -> torch.Tensor:
            return torch.stack([0 * inputs[:, 0, 0, 0], inputs[:, 0, row, column]], dim=1)

        assert measure_occlusion(logits, image, patch, places).any()
