"""Horizontal flips and translation, compared with a plain loop over pixels."""

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from helpers.augmented_images import BLACK, SIZE, augment, numbered_images

pytestmark = pytest.mark.usefixtures("seeded_torch")

Move = tuple[bool, int, int]  # flipped, pixels down, pixels to the right


def move_image(image: torch.Tensor, flipped: bool, down: int, right: int) -> torch.Tensor:
    """Return an image (C, S, S) flipped horizontally and then translated, pixel by pixel."""
    _, size, _ = image.shape
    result = torch.full_like(image, BLACK)
    for row, column in product(range(size), repeat=2):
        source = size - 1 - column if flipped else column
        if 0 <= row + down < size and 0 <= column + right < size:
            result[:, row + down, column + right] = image[:, row, source]
    return result


def find_moves(images: torch.Tensor, flips: Sequence[bool], limit: int) -> list[Move]:
    """Return the one move of up to `limit` pixels that made each of the numbered images."""
    shifts = range(-limit, limit + 1)
    original = numbered_images(1)[0]
    expected = {move: move_image(original, *move) for move in product(flips, shifts, shifts)}
    found = []
    for image in images:
        moves = [move for move, moved in expected.items() if torch.equal(moved, image)]
        assert len(moves) == 1
        found += moves
    return found


def test_hflip_mirrors_half_of_the_images() -> None:
    moves = find_moves(augment(numbered_images(400), hflip=True), (False, True), 0)
    assert 0.4 < sum(flipped for flipped, _, _ in moves) / 400 < 0.6


def test_translate_draws_each_distance_equally_often_and_fills_with_black() -> None:
    moves = find_moves(augment(numbered_images(1000), translate=2), (False,), 2)
    shifts = [(down, right) for _, down, right in moves]
    counts = [shifts.count(shift) for shift in product(range(-2, 3), repeat=2)]
    assert min(counts) > 15  # of 40 expected
    assert max(counts) < 70


def test_hflip_and_translate_are_independent() -> None:
    moves = find_moves(augment(numbered_images(600), hflip=True, translate=1), (False, True), 1)
    counts = [moves.count(move) for move in product((False, True), (-1, 0, 1), (-1, 0, 1))]
    assert min(counts) > 10  # of 33 expected


def test_translate_by_all_but_one_row_or_column() -> None:
    images = augment(numbered_images(50), hflip=True, translate=SIZE - 1)
    find_moves(images, (False, True), SIZE - 1)
