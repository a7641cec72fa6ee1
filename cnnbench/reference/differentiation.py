"""Numerical differentiation: derivatives from values of a function alone.

By Taylor, f(x ± h) = f(x) ± h f'(x) + h^2 f''(x) / 2 ± h^3 f'''(x) / 6 + ..., and so

    one-sided   (f(x + h) - f(x)) / h               = f'(x) + h f''(x) / 2 + ...          error O(h)
    central     (f(x + h) - f(x - h)) / (2 h)       = f'(x) + h^2 f'''(x) / 6 + ...       error O(h^2)

since in the central difference f'' cancels. A smaller h is not always better. A number of float64 has 52 binary digits
behind its point, so values of f are rounded by up to eps |f| / 2, eps = 2^-52 = 2.2e-16. Their difference is then wrong
by up to eps |f|, which is divided by h or by 2 h. The sum of both errors is least where its derivative by h is 0:

    one-sided   h |f''| / 2 + eps |f| / h               h = sqrt(2 eps |f / f''|)           about eps^(1/2)
    central     h^2 |f'''| / 6 + eps |f| / (2 h)        h = cbrt(3/2 eps |f / f'''|)        about eps^(1/3)

times a scale, on which f changes: for want of knowing it, the larger of |x| and 1. The error that is left is about
eps^(1/2) = 1e-8 and eps^(2/3) = 4e-11. The steps here are powers of 2, as with them x + h is often exact.

Cost: a gradient of n partial derivatives takes 2 n calls of f. Backpropagation takes about as long as three calls,
however many there are: numerical gradients are for checking what it gives.
"""

from collections.abc import Callable, Sequence

import torch

__all__ = [
    "central_difference",
    "gradient_check",
    "gradient_descent",
    "numerical_gradient",
    "one_sided_difference",
    "partial_derivative",
]

H_ONE_SIDED = 2.0**-26  # eps^(1/2)
H_CENTRAL = 2.0**-17  # 1.26 eps^(1/3)

Function = Callable[[torch.Tensor], torch.Tensor | float]
Difference = Callable[[Callable[[float], float], float, float | None], float]


def one_sided_difference(f: Callable[[float], float], x: float, h: float | None = None) -> float:
    """The derivative of f at x, with an error O(h); h is eps^(1/2) max(1, |x|) unless given."""
    if h is None:
        h = H_ONE_SIDED * max(1.0, abs(x))
    return (f(x + h) - f(x)) / h


def central_difference(f: Callable[[float], float], x: float, h: float | None = None) -> float:
    """The derivative of f at x, with an error O(h^2); h is about eps^(1/3) max(1, |x|) unless given."""
    if h is None:
        h = H_CENTRAL * max(1.0, abs(x))
    return (f(x + h) - f(x - h)) / (2 * h)


@torch.no_grad()
def partial_derivative(
    f: Function,
    x: torch.Tensor,
    index: tuple[int, ...],
    h: float | None = None,
    difference: Difference = central_difference,
) -> float:
    """The derivative of f at x by x[index]: that of a function of one number, all others being held.

    x is float64 of any shape, f(x) one number. x is changed for each call of f, and in the end it is what it was.

    Raises:
        TypeError: x is not float64, whose precision the steps are made for.
    """
    if x.dtype != torch.float64:
        raise TypeError(f"numerical derivatives are for float64, not {x.dtype}")
    before = float(x[index])

    def of_one_number(value: float) -> float:
        x[index] = value
        return float(f(x))

    try:
        return difference(of_one_number, before, h)
    finally:
        x[index] = before


def numerical_gradient(
    f: Function,
    x: torch.Tensor,
    entries: Sequence[int] | None = None,
    h: float | None = None,
    difference: Difference = central_difference,
) -> torch.Tensor:
    """The partial derivatives of f at x, float64 in the shape of x; two calls of f for each.

    `entries` are positions in x.flatten(): with them, the derivatives by these alone are taken, (len(entries)).
    x is changed for each call of f, and in the end it is what it was.

    Raises:
        TypeError: x is not float64.
        IndexError: x has no such entry.
    """
    positions = (
        range(x.numel()) if entries is None else [range(x.numel())[entry] for entry in entries]
    )
    values = [
        partial_derivative(f, x, _index(position, x.shape), h, difference) for position in positions
    ]
    gradient = torch.tensor(values, dtype=torch.float64, device=x.device)
    return gradient.view(x.shape) if entries is None else gradient


def gradient_check(
    f: Function, gradient: torch.Tensor, x: torch.Tensor, entries: Sequence[int] | None = None
) -> float:
    """How far `gradient`, of the shape of x, is from the numerical gradient of f at x; of `entries` if given.

    The largest difference, as a share of the largest number in `gradient`: not of each number by itself, as those that
    are nearly 0 are rounding alone. If all are 0 it is the largest difference as such. A right gradient of a
    smooth function is within some 1e-9.
    """
    numerical = numerical_gradient(f, x, entries)
    chosen = gradient if entries is None else gradient.flatten()[list(entries)]
    largest = float(gradient.abs().max())
    difference = float((chosen - numerical).abs().max())
    return difference / largest if largest != 0 else difference


def gradient_descent(f: Function, start: torch.Tensor, lr: float, steps: int) -> torch.Tensor:
    """Follow x <- x - lr times the gradient of f, numerically; returns all points, (steps + 1, *start.shape)."""
    points = [start]
    for _ in range(steps):
        points.append(points[-1] - lr * numerical_gradient(f, points[-1]))
    return torch.stack(points)


def _index(position: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Where in a tensor of `shape` the entry is that lies at `position` in the flat one."""
    index: list[int] = []
    for size in reversed(shape):
        position, rest = divmod(position, size)
        index.insert(0, rest)
    return tuple(index)
