"""Numerical differentiation: derivatives from values of a function alone.

By Taylor, f(x ± h) = f(x) ± h f'(x) + h^2 f''(x) / 2 ± h^3 f'''(x) / 6 + ..., and so

    one-sided   (f(x + h) - f(x)) / h          = f'(x) + h f''(x) / 2 + ...        error O(h)
    central     (f(x + h) - f(x - h)) / (2 h)  = f'(x) + h^2 f'''(x) / 6 + ...     error O(h^2)

since in the central difference f'' cancels. A smaller h is not always better. A number of float64
has 52 binary digits behind its point, so values of f are rounded by up to eps |f| / 2,
eps = 2^-52 = 2.2e-16. Their difference is then wrong by up to eps |f|, which is divided by h or by
2 h. The sum of both errors is least where its derivative by h is 0:

    one-sided   h |f''| / 2 + eps |f| / h           h = sqrt(2 eps |f / f''|)       about eps^(1/2)
    central     h^2 |f'''| / 6 + eps |f| / (2 h)    h = cbrt(3/2 eps |f / f'''|)    about eps^(1/3)

times a scale on which f changes. The scale is not known, so we take the larger of |x| and 1. The
remaining error is about eps^(1/2) = 1e-8 and eps^(2/3) = 4e-11. The steps here are powers of 2,
because then x + h is often exact.

Cost: a gradient of n partial derivatives takes 2 n calls of f. Backpropagation takes about as long
as three calls for any n. Numerical gradients are for checking the gradients of backpropagation.
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
    """Return the derivative of f at x, with an error O(h).

    h is eps^(1/2) max(1, |x|) unless given.
    """
    if h is None:
        h = H_ONE_SIDED * max(1.0, abs(x))
    return (f(x + h) - f(x)) / h


def central_difference(f: Callable[[float], float], x: float, h: float | None = None) -> float:
    """Return the derivative of f at x, with an error O(h^2).

    h is about eps^(1/3) max(1, |x|) unless given.
    """
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
    """Return the derivative of f at x by x[index], with all other numbers of x fixed.

    Args:
        f: a function of x that returns one number.
        x: float64 of any shape. It changes for each call of f, and is restored at the end.
        index: the place of the number in x.
        h: the step (None: chosen by `difference`).
        difference: one_sided_difference or central_difference.

    Raises:
        TypeError: x is not float64. The steps are chosen for its precision.
    """
    if x.dtype != torch.float64:
        raise TypeError(f"numerical derivatives are for float64, not {x.dtype}")
    before = float(x[index])

    def function_of_one_number(value: float) -> float:
        x[index] = value
        return float(f(x))

    try:
        return difference(function_of_one_number, before, h)
    finally:
        x[index] = before


def numerical_gradient(
    f: Function,
    x: torch.Tensor,
    entries: Sequence[int] | None = None,
    h: float | None = None,
    difference: Difference = central_difference,
) -> torch.Tensor:
    """Return the partial derivatives of f at x: float64 in the shape of x, or (len(entries)).

    Each takes two calls of f.

    Args:
        f: a function of x that returns one number.
        x: float64 of any shape. It changes for each call of f, and is restored at the end.
        entries: positions in x.flatten() to differentiate by (None: all).
        h: the step (None: chosen by `difference`).
        difference: one_sided_difference or central_difference.

    Raises:
        TypeError: x is not float64.
        IndexError: x has no such entry.
    """
    positions: Sequence[int] = range(x.numel())
    if entries is not None:
        positions = [positions[entry] for entry in entries]
    values = [
        partial_derivative(f, x, _to_index(position, x.shape), h, difference)
        for position in positions
    ]
    gradient = torch.tensor(values, dtype=torch.float64, device=x.device)
    return gradient.view(x.shape) if entries is None else gradient


def gradient_check(
    f: Function, gradient: torch.Tensor, x: torch.Tensor, entries: Sequence[int] | None = None
) -> float:
    """Return the largest difference of `gradient` from the numerical gradient of f at x.

    The difference is a share of the largest number in `gradient`. It is not a share of each number
    by itself, because numbers near 0 are only rounding. If all numbers of `gradient` are 0, the
    difference itself is returned. For the right gradient of a smooth function it is about 1e-9.

    Args:
        f: a function of x that returns one number.
        gradient: the gradient to check, in the shape of x.
        x: float64 of any shape.
        entries: positions in x.flatten() to check (None: all).
    """
    numerical = numerical_gradient(f, x, entries)
    checked = gradient if entries is None else gradient.flatten()[list(entries)]
    largest = float(gradient.abs().max())
    difference = float((checked - numerical).abs().max())
    return difference / largest if largest != 0 else difference


def gradient_descent(f: Function, start: torch.Tensor, lr: float, steps: int) -> torch.Tensor:
    """Minimize f by x <- x - lr times its numerical gradient.

    Returns:
        All points, including `start`: (steps + 1, *start.shape).
    """
    points = [start]
    for _ in range(steps):
        points.append(points[-1] - lr * numerical_gradient(f, points[-1]))
    return torch.stack(points)


def _to_index(position: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the index in a tensor of `shape` of the entry at `position` in the flat tensor."""
    index: list[int] = []
    for size in reversed(shape):
        position, rest = divmod(position, size)
        index.insert(0, rest)
    return tuple(index)
