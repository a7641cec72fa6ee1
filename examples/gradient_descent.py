"""SGD, Momentum, AdaGrad and Adam on a long valley, by the optimizers that are written by hand.

    python examples/gradient_descent.py [PICTURE]

prints where each of them is on f(x0, x1) = x0^2 / 20 + x1^2 in thirty steps from (-7, 2), and draws their paths over
the contours of f, to optimizers.png unless another file is named. Across the valley f is twenty times as steep as along
it: SGD bounces from side to side where it is fast enough to get on at all, Momentum lets the bounces cancel, AdaGrad
and Adam give each direction a learning rate of its own. The formulas are in cnnbench/reference/optimizers.py.
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


def path(make: Callable[..., Optimizer], lr: float) -> torch.Tensor:
    """The points (STEPS + 1, 2) from START on."""
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
        places = [f"({points[step][0]:.3f}, {points[step][1]:.3f})" for points in paths.values()]
        print(f"{step:4}" + "".join(f"{place:>18}" for place in places))
    print("   f" + "".join(f"{f(*points[-1]).item():18.1e}" for points in paths.values()))


def draw(paths: dict[str, torch.Tensor], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.4), dpi=150, layout="constrained")
    x0, x1 = torch.meshgrid(
        torch.linspace(-8.5, 8.5, 200), torch.linspace(-3.2, 3.2, 200), indexing="xy"
    )
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, color, (name, points) in zip(panels, COLORS, paths.items(), strict=True):
        axes.contour(
            x0,
            x1,
            f(x0, x1),
            levels=[0.1, 0.5, 1, 2, 3.5, 5.5, 8],
            colors="#999999",
            linewidths=0.8,
        )
        axes.plot(*points.T, color=color, marker="o", markersize=4, linewidth=1.5)
        axes.plot(0, 0, color="black", marker="+", markersize=12, markeredgewidth=1.5)
        axes.set_title(
            f"{name}, learning rate {OPTIMIZERS[name][1]:g}: f = {f(*points[-1]):.2g} after {STEPS} steps"
        )
        # one scale for both axes, as else gradients would not be drawn at right angles to contours
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
    paths = {name: path(make, lr) for name, (make, lr) in OPTIMIZERS.items()}
    print_table(paths)
    draw(paths, options.picture)
    print(f"\nThe paths are drawn in {options.picture}.")
    return paths


if __name__ == "__main__":
    main()
