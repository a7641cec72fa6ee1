"""Draw step, sigmoid, tanh and ReLU with their derivatives.

    python examples/draw_activations.py

The derivatives come from the backward pass of cnnbench/reference/activations.py. That of the step
is 0 everywhere, so nothing is learned through it. That of the sigmoid is at most 1/4, that of tanh
at most 1, and both fade away from 0. That of ReLU is 1 for every positive number. Writes
activations.png.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from cnnbench.reference.activations import HyperbolicTangent, Logistic, Rectifier, Step

PICTURE = Path("activations.png")
ACTIVATIONS = {"step": Step, "sigmoid": Logistic, "tanh": HyperbolicTangent, "ReLU": Rectifier}


def differentiate(name: str, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values and the derivatives of an activation at the points (N)."""
    inputs = points.clone().requires_grad_()
    values = ACTIVATIONS[name].apply(inputs)
    values.sum().backward()  # each value depends on its own point only
    assert inputs.grad is not None
    return values.detach(), inputs.grad


def draw() -> Figure:
    """Draw a column for each activation: its values above, its derivatives below."""
    points = torch.linspace(-5, 5, 1001)
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    axes = figure.subplots(2, len(ACTIVATIONS), sharex=True, sharey="row")
    for name, column in zip(ACTIVATIONS, axes.T, strict=True):
        values, derivatives = differentiate(name, points)
        column[0].plot(points, values, color="#0072b2", linewidth=2)
        column[1].plot(points, derivatives, color="#d55e00", linewidth=2)
        column[0].set_title(name)
        column[0].set_ylim(-1.2, 2.2)
        for axis in column:
            axis.grid(color="#dddddd")
    axes[0, 0].set_ylabel("value")
    axes[1, 0].set_ylabel("derivative")
    return figure


def main() -> None:
    points = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    print(f"{'x':>18}", *(f"{x:7.4g}" for x in points.tolist()))
    for name in ACTIVATIONS:
        for title, numbers in zip(("", "derivative"), differentiate(name, points), strict=True):
            print(f"{name:7} {title:10}", *(f"{number:7.4f}" for number in numbers.tolist()))
    draw().savefig(PICTURE, dpi=120)
    print(f"Written: {PICTURE}")


if __name__ == "__main__":
    main()
