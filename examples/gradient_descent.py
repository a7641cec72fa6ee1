"""SGD, Momentum, AdaGrad and Adam in a long valley, by the reference implementation.

    python examples/gradient_descent.py [PICTURE]

Minimizes f(x0, x1) = x0^2 / 20 + x1^2 in thirty steps from (-7, 2). Prints the points of each
optimizer and draws their paths over the contours of f, to optimizers.png by default.

Across the valley f is twenty times as steep as along it. SGD bounces from side to side at any
learning rate that moves it along the valley. In Momentum the bounces cancel. AdaGrad and Adam give
each direction a separate learning rate. The formulas are in cnnbench/reference/optimizers.py.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.optim import Optimizer

from cnnbench.reference.optimizers import SGD, AdaGrad, Adam, Momentum

START = (-7.0, 2.0)
STEPS = 30
OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], float]] = {
    "SGD": (SGD, 0.95),
    "Momentum": (Momentum, 0.1),
    "AdaGrad": (AdaGrad, 1.5),
    "Adam": (Adam, 0.3),
}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def f(x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
    return x0**2 / 20 + x1**2


def descend(make: Callable[..., Optimizer], lr: float) -> torch.Tensor:
    """Return the points of the path from START: (STEPS + 1, 2)."""
    point = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = make([point], lr=lr)
    points = [point.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        f(*point).backward()
        optimizer.step()
        points.append(point.detach().clone())
    return torch.stack(points)


def print_table(paths: dict[str, torch.Tensor]) -> None:
    titles = [f"{name}, lr {lr:g}" for name, (_, lr) in OPTIMIZERS.items()]
    print("step" + "".join(f"{title:>18}" for title in titles))
    for step in (0, 1, 2, 3, 5, 10, 20, 30):
        cells = [f"({points[step][0]:.3f}, {points[step][1]:.3f})" for points in paths.values()]
        print(f"{step:4}" + "".join(f"{cell:>18}" for cell in cells))
    print("   f" + "".join(f"{f(*points[-1]).item():18.1e}" for points in paths.values()))


def draw(paths: dict[str, torch.Tensor], picture: Path) -> None:
    """Draw the paths over the contours of f, one panel for each optimizer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.4), dpi=150, layout="constrained")
    x0 = torch.linspace(-8.5, 8.5, 200)
    x1 = torch.linspace(-3.2, 3.2, 200)
    x0, x1 = torch.meshgrid(x0, x1, indexing="xy")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, color, (name, points) in zip(panels, COLORS, paths.items(), strict=True):
        levels = [0.1, 0.5, 1, 2, 3.5, 5.5, 8]
        axes.contour(x0, x1, f(x0, x1), levels=levels, colors="#999999", linewidths=0.8)
        axes.plot(*points.T, color=color, marker="o", markersize=4, linewidth=1.5)
        axes.plot(0, 0, color="black", marker="+", markersize=12, markeredgewidth=1.5)
        axes.set_title(
            f"{name}, learning rate {OPTIMIZERS[name][1]:g}: "
            f"f = {f(*points[-1]):.2g} after {STEPS} steps"
        )
        # Both axes need one scale, so that gradients are drawn at right angles to contours.
        axes.set(xlim=(-8.5, 8.5), ylim=(-3.2, 3.2), aspect="equal")
        axes.label_outer()
    figure.supxlabel("$x_0$")
    figure.supylabel("$x_1$")
    figure.suptitle("Thirty steps on $f(x_0, x_1) = x_0^2 / 20 + x_1^2$ from $(-7, 2)$")
    figure.savefig(picture)


def main(arguments: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "picture",
        nargs="?",
        type=Path,
        default=Path("optimizers.png"),
        help="a PNG, SVG or PDF file",
    )
    options = parser.parse_args(arguments)
    paths = {name: descend(make, lr) for name, (make, lr) in OPTIMIZERS.items()}
    print_table(paths)
    draw(paths, options.picture)
    print(f"\nThe paths are drawn in {options.picture}.")
    return paths


if __name__ == "__main__":
    main()
