"""How wrong numerical derivatives are, step by step: why a step may be neither large nor small.

    python examples/numerical_derivative.py

prints the errors of the one-sided and the central difference of f(x) = exp(x) at x = 1, where each derivative is e.
Down to the best step they are what Taylor's series leaves, in proportion to h and to h^2: ten times smaller a step,
ten and a hundred times smaller an error. Beyond it they are rounding, in proportion to 1/h: drawn, a V.
The formulas are derived in cnnbench/reference/differentiation.py.
"""

import math
from collections.abc import Iterable

from cnnbench.reference.differentiation import central_difference, one_sided_difference

X = 1.0
EPS = 2.0**-52  # of float64: the distance from 1 to the next number
COLUMNS = 16  # of a bar, one for each factor of ten from 1e-16


def errors(steps: Iterable[float]) -> list[tuple[float, float, float]]:
    """Rows of h and the errors of the one-sided and the central difference."""
    exact = math.exp(X)
    return [
        (
            h,
            abs(one_sided_difference(math.exp, X, h) - exact),
            abs(central_difference(math.exp, X, h) - exact),
        )
        for h in steps
    ]


def bar(error: float) -> str:
    """As long as the error has factors of ten above 1e-16."""
    length = round(math.log10(max(error, 1e-16)) + COLUMNS)
    return "#" * length + " " * (COLUMNS - length)


def main() -> list[tuple[float, float, float]]:
    rows = errors(10.0**-k for k in range(1, 15))
    print(f"f(x) = exp(x) at x = {X:g}, float64\n")
    print(f"    h  {'one-sided':>9}  {'':{COLUMNS}}  {'central':>9}")
    for h, one_sided, central in rows:
        print(
            f"{h:.0e}  {one_sided:9.1e}  {bar(one_sided)}  {central:9.1e}  {bar(central)}".rstrip()
        )
    print(
        f"\nBest by theory: h = {math.sqrt(2 * EPS):.0e} one-sided, h = {(1.5 * EPS) ** (1 / 3):.0e} central."
    )
    return rows


if __name__ == "__main__":
    main()
