"""Cutout and random erasing: places, sizes and probabilities of the erased pixels."""

from itertools import product

import pytest
import torch
from helpers.augmented_images import SIZE, augment, numbered_images, square_pixels

pytestmark = pytest.mark.usefixtures("seeded_torch")


def find_hole(image: torch.Tensor) -> list[tuple[int, int]]:
    """Return the pixels at which both channels of an image (2, S, S) are 0.

    All other pixels must be those of the numbered image.
    """
    hole = (image == 0).all(dim=0)
    assert torch.equal(image[:, ~hole], numbered_images(1, image.shape[-1])[0][:, ~hole])
    return [(int(row), int(column)) for row, column in hole.nonzero()]


def measure_rectangle(hole: list[tuple[int, int]]) -> tuple[int, int]:
    """Return height and width of a hole, which must be a full rectangle."""
    rows, columns = {row for row, _ in hole}, {column for _, column in hole}
    all_rows = range(min(rows), max(rows) + 1)
    all_columns = range(min(columns), max(columns) + 1)
    assert sorted(hole) == list(product(all_rows, all_columns))
    return len(rows), len(columns)


@pytest.mark.parametrize("side", [1, 2, 3, SIZE])
def test_cutout_draws_clipped_squares_around_every_pixel_equally_often(side: int) -> None:
    expected = [square_pixels(side, center) for center in product(range(SIZE), repeat=2)]
    images = augment(numbered_images(3600), cutout=side)
    holes = [frozenset(find_hole(image)) for image in images]
    assert set(holes) == set(expected)
    for hole in set(expected):
        assert 50 < holes.count(hole) / expected.count(hole) < 165  # of 100 expected


@pytest.fixture(scope="module")
def erased_sides() -> list[tuple[int, int]]:
    """Return height and width of 2,000 rectangles erased from images of 40 x 40 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = augment(numbered_images(2000, 40), random_erasing=1.0)
        return [measure_rectangle(find_hole(image)) for image in images]


def test_erased_areas_lie_in_the_range_of_the_paper(erased_sides: list[tuple[int, int]]) -> None:
    shares = [height * width / 1600 for height, width in erased_sides]
    assert 0.015 < min(shares) < 0.03
    assert 0.36 < max(shares) < 0.42  # sides are rounded


def test_erased_areas_have_a_mean_of_at_most_0_21(erased_sides: list[tuple[int, int]]) -> None:
    """Expect a mean below 0.21, because rectangles are shortened to the image."""
    shares = [height * width / 1600 for height, width in erased_sides]
    assert 0.19 < sum(shares) / len(shares) < 0.212


def test_erased_aspect_ratios_lie_between_0_3_and_its_inverse(
    erased_sides: list[tuple[int, int]],
) -> None:
    # In large rectangles the rounding of the sides matters less.
    aspects = [height / width for height, width in erased_sides if height * width > 200]
    assert 0.28 < min(aspects) < 0.4
    assert 2.8 < max(aspects) < 3.6


def test_erased_aspect_ratios_are_uniform_as_in_the_paper(
    erased_sides: list[tuple[int, int]],
) -> None:
    tall = sum(height > width for height, width in erased_sides) / len(erased_sides)
    assert tall == pytest.approx((1 / 0.3 - 1) / (1 / 0.3 - 0.3), abs=0.04)


def test_erased_rectangles_reach_opposite_borders_equally_often() -> None:
    erased = (augment(numbered_images(2000), random_erasing=1.0) == 0)[:, 0].float()
    rows, columns = erased.amax(dim=2).mean(dim=0), erased.amax(dim=1).mean(dim=0)
    assert rows[0].item() == pytest.approx(rows[-1].item(), abs=0.05)
    assert columns[0].item() == pytest.approx(columns[-1].item(), abs=0.05)


def test_erased_rectangles_are_shortened_to_the_image(erased_sides: list[tuple[int, int]]) -> None:
    heights = [height for height, _ in erased_sides]
    assert max(heights) == 40  # one rectangle would be 46 pixels high


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_random_erasing_is_the_probability_of_an_erased_image(probability: float) -> None:
    images = augment(numbered_images(1000), random_erasing=probability)
    erased = (images == 0).flatten(1).any(dim=1)
    assert erased.float().mean().item() == pytest.approx(probability, abs=0.05)


def test_random_erasing_of_an_image_of_one_pixel() -> None:
    assert augment(numbered_images(1, 1), random_erasing=1.0).tolist() == [[[[0.0]], [[0.0]]]]
