"""A small subject, and the figures that the sections draw."""

from pathlib import Path

import pytest
from helpers.inspection_subjects import make_subject
from matplotlib.figure import Figure
from torch import nn

from cnnbench.reports.inspection.sections import Subject


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Figure]:
    """Return the list of figures that the test draws. No files are written."""
    drawn: list[Figure] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    return drawn


@pytest.fixture
def perceptron() -> Subject:
    return make_subject(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)))
