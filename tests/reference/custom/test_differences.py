"""Sentences on tensors that differ."""

import math

import pytest
import torch

from cnnbench.reference.custom.differences import (
    differentiate,
    explain_difference,
    find_candidate,
    matches,
)

RIGHT = torch.tensor([[1.0, -2.0], [0.0, 4.0]], dtype=torch.float64)
CHANGED = RIGHT + torch.tensor([[0.0, 0.0], [3.0, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (-RIGHT, "its sign is wrong"),
        (6 * RIGHT, "the factor 1/(N) is missing: it is 6 times too large"),
        (RIGHT / 6, "it is divided by N = 6 once too often"),
        (5 * RIGHT, "the factor 1/(K) is missing: it is 5 times too large"),
        (1.5 * RIGHT, "it is 1.5 times the right one"),
        (0 * RIGHT, "it is 0 everywhere"),
        (RIGHT / 0, "it has numbers that are nan or inf"),
        (CHANGED, "at (1, 0) it is 3, not 0"),
    ],
)
def test_difference_is_explained(found: torch.Tensor, sentence: str) -> None:
    assert explain_difference(found, RIGHT, {"N": 6, "K": 5}) == sentence


def test_difference_of_one_number_has_no_place() -> None:
    assert explain_difference(torch.tensor(1.0), torch.tensor(0.0)) == "it is 1, not 0"


@pytest.mark.parametrize(("share", "expected"), [(1e-9, True), (1e-6, False), (math.nan, False)])
def test_tensors_match_up_to_rounding(share: float, expected: bool) -> None:
    assert matches(RIGHT + share, RIGHT) is expected


def test_gradient_of_a_tensor_that_is_not_used_is_zero() -> None:
    outputs, first, second = differentiate(lambda x, y: 2 * x, [RIGHT, RIGHT], RIGHT)
    assert torch.equal(outputs, 2 * RIGHT)
    assert torch.equal(first, 2 * RIGHT)
    assert not second.any()


def test_candidate_is_found_by_outputs_or_gradient() -> None:
    candidates = [("cut", lambda x: x[:1]), ("tripled", lambda x: 3 * x)]
    for index in (0, 1):
        assert find_candidate(candidates, [RIGHT], RIGHT, index, 3 * RIGHT) == "tripled"
    assert find_candidate(candidates, [RIGHT], RIGHT, 0, RIGHT) is None
