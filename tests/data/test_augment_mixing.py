"""Mixup and CutMix: the mixed images, the shares and the targets."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from helpers.augmented_images import (
    NUM_CLASSES,
    SIZE,
    augment,
    constant_images,
    make_augment,
    make_labels,
    numbered_images,
    square_pixels,
)

pytestmark = pytest.mark.usefixtures("seeded_torch")


def mix_targets(images: torch.Tensor, **changes: Any) -> torch.Tensor:
    """Return the targets (N, K) of images mixed with the given settings."""
    _, targets = make_augment(**changes)(images, make_labels(len(images)))
    return targets


def own_shares(count: int, size: int = SIZE, **changes: Any) -> torch.Tensor:
    """Return the share (N, 1) of each image's own label in its target."""
    targets = mix_targets(numbered_images(count, size), **changes)
    return targets.gather(1, make_labels(count)[:, None])


def test_mixup_blends_each_image_with_the_one_before_by_the_shares_of_the_labels() -> None:
    images, labels = numbered_images(20) * constant_images(20), make_labels(20)
    mixed, targets = make_augment(mixup=1.0)(images, labels)
    for i in range(20):
        share, other_share = targets[i, labels[i]], targets[i, labels[i - 1]]
        expected = share * images[i] + other_share * images[i - 1]
        torch.testing.assert_close(mixed[i], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_leaves_each_image_the_larger_share(alpha: float) -> None:
    assert own_shares(1000, mixup=alpha).min() >= 0.5


# Distribution functions of Beta(alpha, alpha), below 1/2. The share of the other image is the
# smaller of lambda and 1 - lambda, so that P(share < x) is twice the distribution function.
BETAS: list[tuple[float, Callable[[float], float]]] = [
    (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
    (1.0, lambda x: x),
    (2.0, lambda x: 3 * x**2 - 2 * x**3),
]


@pytest.mark.parametrize(
    ("alpha", "distribution"), BETAS, ids=[f"alpha={alpha}" for alpha, _ in BETAS]
)
@pytest.mark.parametrize("x", [0.01, 0.1, 0.25, 0.4])
def test_mixup_shares_follow_the_beta_distribution(
    alpha: float, distribution: Callable[[float], float], x: float
) -> None:
    other_shares = 1 - own_shares(20_000, 1, mixup=alpha)
    frequency = (other_shares < x).float().mean().item()
    assert frequency == pytest.approx(2 * distribution(x), abs=0.012)


@pytest.mark.parametrize(("alpha", "other_share"), [(1e-300, 0.0), (1e9, 0.5)])
def test_mixup_with_extreme_alphas(alpha: float, other_share: float) -> None:
    shares = own_shares(100, mixup=alpha)
    torch.testing.assert_close(shares, torch.full((100, 1), 1 - other_share), rtol=0, atol=1e-3)


def test_cutmix_replaces_a_clipped_square_by_that_of_the_image_before() -> None:
    centers = list(product(range(SIZE), repeat=2))
    squares = {square_pixels(side, center) for side in range(SIZE + 1) for center in centers}
    images = numbered_images(200) + 100 * constant_images(200)
    mixed = augment(images, cutmix=1.0)
    for i in range(200):
        replaced = (mixed[i] == images[i - 1]).all(dim=0)
        assert torch.equal(mixed[i][:, ~replaced], images[i][:, ~replaced])
        assert frozenset((int(row), int(column)) for row, column in replaced.nonzero()) in squares


def test_cutmix_shares_of_the_labels_are_those_of_the_pixels() -> None:
    images, labels = constant_images(200), make_labels(200)
    mixed, targets = make_augment(cutmix=1.0)(images, labels)
    pixel_shares = (mixed == images).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(targets.gather(1, labels[:, None])[:, 0], pixel_shares)


def test_cutmix_squares_have_the_share_of_beta_before_they_are_clipped() -> None:
    size, count = 64, 2000
    images = constant_images(count, size)[:, :1]
    replaced = (augment(images, cutmix=1.0) != images)[:, 0]
    touches_rows = replaced[:, 0].any(-1) | replaced[:, -1].any(-1)
    touches_columns = replaced[:, :, 0].any(-1) | replaced[:, :, -1].any(-1)
    is_inside = ~(touches_rows | touches_columns)
    sides = replaced[is_inside].any(dim=-1).sum(dim=-1).float() / size
    # A side is the root of a uniform share, so that its density is 2 side. A square of that side
    # fits with probability (1 - side)^2. Sides of squares that fit are distributed as Beta(2, 3).
    assert sides.mean().item() == pytest.approx(0.4, abs=0.03)


def test_cutmix_can_leave_an_image_less_than_half() -> None:
    assert 0 <= own_shares(100, cutmix=1.0).min() < 0.5


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_targets_are_probabilities_of_two_labels(mix: str) -> None:
    labels = make_labels(50)
    targets = mix_targets(numbered_images(50), **{mix: 1.0})
    shares = targets.gather(1, torch.stack([labels, labels.roll(1)], dim=1))
    assert (targets.dtype, targets.shape) == (torch.float32, (50, NUM_CLASSES))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(50))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(50))


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_batch_of_one_image_is_mixed_with_itself(mix: str) -> None:
    mixed, targets = make_augment(**{mix: 1.0})(numbered_images(1), torch.tensor([3]))
    torch.testing.assert_close(mixed, numbered_images(1))
    assert targets.tolist() == [[0, 0, 0, 1, 0]]
