"""The section on gradients: bars in the order of the layers."""

from typing import Any

import pytest
import torch
from helpers.inspection_subjects import make_subject
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

from cnnbench.data.device_data import Examples
from cnnbench.reports.inspection import gradients
from cnnbench.reports.inspection.gradients import draw_gradients
from cnnbench.reports.inspection.sections import Subject


def with_loss(network: nn.Module, size: int = 4) -> Subject:
    subject = make_subject(network, size=size)
    subject.engine.loss = functional.cross_entropy
    return subject


def make_examples(number: int, size: int = 4) -> Examples:
    pixels = torch.randint(0, 256, (number, 1, size, size), dtype=torch.uint8)
    return Examples(pixels, torch.zeros(number, dtype=torch.int64))


def set_norms(monkeypatch: pytest.MonkeyPatch, norms: dict[str, float]) -> None:
    monkeypatch.setattr(gradients, "measure_gradient_norms", lambda *_: norms)


def bars(axes: Any) -> list[tuple[str, str]]:
    """Return the names at the left and the numbers at the bars, from top to bottom."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    numbers = [text.get_text().strip() for text in axes.texts]
    return list(zip(names, numbers, strict=True))


class Reversed(nn.Module):
    """A network whose first layer is declared last."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(5, 3)
        self.first = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(self.first(images.flatten(1)))
        return output


def test_bars_are_in_the_order_in_which_layers_run(figures: list[Figure]) -> None:
    section = draw_gradients(with_loss(Reversed()), make_examples(7))
    (axes,) = figures[0].axes
    names = [name for name, _ in bars(axes)]
    assert names == ["first", "second"]
    assert axes.get_ylim() == (1.5, -0.5)  # the first at the top
    assert axes.get_xscale() == "log"
    caption = "All 2 weight tensors, over 7 images, evenly spread over the test set."
    assert section.pictures == [("gradients.png", caption)]


def test_lengths_of_bars_are_the_norms(
    figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_norms(monkeypatch, {"first.weight": 0.00213, "second.weight": 0.5, "mix": 0.0})
    section = draw_gradients(with_loss(Reversed()), make_examples(7))
    (axes,) = figures[0].axes
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
    assert axes.get_xlim() == (0.001, 1)
    assert ends == pytest.approx([0.00213, 0.5, 0.001])  # the last has no length
    assert bars(axes) == [("first", "0.0021"), ("second", "0.5"), ("mix", "0")]
    (found,) = section.findings
    assert found == "gradient norm: 0.0021 in first, the first layer, 0 in mix, the last"


@pytest.mark.parametrize(
    ("norms", "limits"),
    [([0.0, 0.0], (0.1, 10)), ([float("inf"), 1e-45], (1e-46, 1e-44)), ([float("nan")], (0.1, 10))],
)
def test_norms_of_any_size_can_be_drawn(
    norms: list[float],
    limits: tuple[float, float],
    figures: list[Figure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_norms(monkeypatch, {f"{place}.weight": norm for place, norm in enumerate(norms)})
    draw_gradients(with_loss(Reversed()), make_examples(2))
    assert figures[0].axes[0].get_xlim() == pytest.approx(limits)


def test_labels_of_the_scale_are_numbers(figures: list[Figure]) -> None:
    draw_gradients(with_loss(Reversed()), make_examples(7))
    (axes,) = figures[0].axes
    labels = [label.get_text() for label in axes.get_xticklabels(which="both")]
    assert [float(label.replace("−", "-")) for label in labels if label]


def test_some_of_many_layers_are_drawn(
    figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_norms(monkeypatch, {f"{place}.weight": 1.0 for place in range(100)})
    section = draw_gradients(with_loss(Reversed()), make_examples(2))
    names = [name for name, _ in bars(figures[0].axes[0])]
    assert (len(names), names[0], names[-1]) == (24, "0", "99")
    assert section.pictures[0][1].startswith("24 of 100 weight tensors, evenly chosen, ")


def test_network_without_weights_has_a_note(figures: list[Figure]) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    section = draw_gradients(with_loss(network), make_examples(3))
    assert section.note == "The network has no weights but biases and normalization."
    assert figures == []
