"""The comparisons of the user's classes with PyTorch's."""

from pathlib import Path

import pytest
import torch
from helpers.custom_files import SOLVED, load_solution, write_changed

from cnnbench.reference.checking import Differences
from cnnbench.reference.custom.checks import WeightDifference, list_checks
from cnnbench.reference.custom.module import SIGNATURES, CustomCodeError


def test_every_kind_has_a_solution() -> None:
    assert SOLVED.keys() == SIGNATURES.keys()


@pytest.mark.parametrize("kind", SOLVED)
def test_right_class_has_no_differences(kind: str) -> None:
    torch.manual_seed(0)
    checks = list_checks(load_solution(kind), kind)
    titles = [title for title, _ in checks]
    assert len(set(titles)) == len(titles) > 0
    for _, check in checks:
        found = check()
        assert found.outputs < 1e-12
        if isinstance(found, Differences):
            assert found.gradients < 1e-12
            assert found.numerical < 1e-6
        else:
            assert isinstance(found, WeightDifference)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("Dropout", "dout * self.mask", "dout"),
        ("CrossEntropyLoss", " / len(self.t)", ""),
        ("Tanh", "self.y**2", "self.y"),
    ],
)
def test_wrong_gradient_differs_from_autograd_and_numerical_derivatives(
    tmp_path: Path, kind: str, old: str, new: str
) -> None:
    torch.manual_seed(0)
    ((_, check),) = list_checks(write_changed(tmp_path, kind, old, new), kind)
    found = check()
    assert found.outputs < 1e-12
    assert found.gradients > 1e-2
    assert found.numerical > 1e-2


def test_class_that_fails_raises(tmp_path: Path) -> None:
    custom = write_changed(tmp_path, "Linear", "return x @", "return 1 / 0 @")
    for _, check in list_checks(custom, "Linear"):
        with pytest.raises(CustomCodeError, match=r"ZeroDivisionError|TypeError"):
            check()
