"""Tables and numbers as plain text."""

import pytest

from cnnbench.analysis.format import (
    align,
    fit_table,
    format_count,
    format_duration,
    format_time_left,
    printable,
    three_digits,
    truncate,
)


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
def test_three_digits(number: float, text: str) -> None:
    assert three_digits(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (60, "1 min 0 s"),
        (200.9, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7530, "2 h 5 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (29.4, "29 s"),
        (59.6, "1 min"),
        (250, "4 min"),
        (3599, "1 h 0 min"),
        (7530, "2 h 6 min"),
    ],
)
def test_format_time_left_rounds_to_minutes(seconds: float, text: str) -> None:
    assert format_time_left(seconds) == text


def test_printable_keeps_joiners_and_spaces_of_all_scripts() -> None:
    text = "\u0646\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f52c a\u00a0b \u72ac\u3000\u732b"
    assert printable(text) == text
    assert printable("a\u202eb\u2028c\u2066") == "a?b?c?"


def test_printable_replaces_control_characters() -> None:
    assert printable("a ± é\n\x1b[2J\r\x9b") == "a ± é\n?[2J??"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a coat", "a coat"),
        ("an ankle boot", "an an…"),
        ("a\n\tb\x1b", "a b?"),
        ("x" * 10**6, "xxxxx…"),
        ("猫猫猫", "猫猫猫"),
        ("猫猫猫猫", "猫猫…"),
    ],
)
def test_truncate_returns_one_line(text: str, line: str) -> None:
    assert truncate(text, 6) == line


def test_align_uses_terminal_width_of_letters() -> None:
    rows = [("name", "n"), ("猫和狗", "1"), ("🚀", "22"), ("e\u0301te\u0301", "3")]
    assert align(rows, right=[1]).split("\n") == [
        "name     n",
        "猫和狗   1",
        "🚀      22",
        "e\u0301te\u0301      3",
    ]


def test_fit_truncates_texts_before_wrapping_rows() -> None:
    rows = [
        ("a long heading", "lr", "accuracy"),
        ("x" * 30, "0.123456789012345", "0.5000 ± 0.0100"),
    ]
    assert fit_table(rows, [2], 100) == align(rows, [2])
    assert fit_table(rows, [2], 40).split("\n") == [
        "a long head…  lr",
        "         accuracy",
        "xxxxxxxxxxx…  0.123456789012345",
        "  0.5000 ± 0.0100",
    ]
    assert "0.123456789012345" in fit_table(rows, [2], 5)


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "thread", "1 thread"),
        (0, "run", "0 runs"),
        (2_000, "test image", "2,000 test images"),
        (3, "class", "3 classes"),
    ],
)
def test_format_count_uses_singular_for_one(number: int, noun: str, text: str) -> None:
    assert format_count(number, noun) == text
