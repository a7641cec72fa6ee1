"""The errors of numerical derivatives: a step may be neither too large nor too small.

    python examples/numerical_derivative.py

Prints the errors of the one-sided and the central difference of f(x) = exp(x) at x = 1, where each
derivative is e, for steps that shrink. Down to the best step the error is the remainder of the
Taylor series, in proportion to h and to h^2: for a step ten times smaller, the error is ten and a
hundred times smaller. Below the best step it is rounding, in proportion to 1/h. The bars form a V.
The formulas are derived in cnnbench/reference/differentiation.py.
"""

import math
from collections.abc import Iterable

from cnnbench.reference.differentiation import central_difference, one_sided_difference

X = 1.0
EPS = 2.0**-52  # the distance from 1 to the next float64 number
MAX_BAR = 16  # characters: one for each factor of ten from 1e-16


def measure_errors(steps: Iterable[float]) -> list[tuple[float, float, float]]:
    """Return rows of h and the errors of the one-sided and the central difference."""
    exact = math.exp(X)
    rows = []
    for h in steps:
        one_sided = one_sided_difference(math.exp, X, h)
        central = central_difference(math.exp, X, h)
        rows.append((h, abs(one_sided - exact), abs(central - exact)))
    return rows


def format_bar(error: float) -> str:
    """Return a bar with one character for each factor of ten above 1e-16."""
    length = round(math.log10(max(error, 1e-16)) + MAX_BAR)
    return "#" * length + " " * (MAX_BAR - length)


def main() -> list[tuple[float, float, float]]:
    rows = measure_errors(10.0**-k for k in range(1, 15))
    print(f"f(x) = exp(x) at x = {X:g}, float64\n")
    print(f"    h  {'one-sided':>9}  {'':{MAX_BAR}}  {'central':>9}")
    for h, one_sided, central in rows:
        cells = f"{one_sided:9.1e}  {format_bar(one_sided)}  {central:9.1e}  {format_bar(central)}"
        print(f"{h:.0e}  {cells}".rstrip())
    best_one_sided, best_central = math.sqrt(2 * EPS), (1.5 * EPS) ** (1 / 3)
    print(f"\nBest by theory: h = {best_one_sided:.0e} one-sided, h = {best_central:.0e} central.")
    return rows


if __name__ == "__main__":
    main()
