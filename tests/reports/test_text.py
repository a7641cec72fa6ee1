"""Numbers as text."""

import pytest

from cnnbench.reports.text import three_digits


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.01234, "0.0123"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (99.99, "100.0"),
        (416.2, "416"),
        (12345.6, "12,346"),
        (0, "0"),
    ],
)
def test_three_digits_count(number: float, text: str) -> None:
    assert three_digits(number) == text
