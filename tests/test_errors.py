"""Suggestions in error messages, and errors of memory and files."""

import errno
import os
from pathlib import Path

import pytest

from cnnbench.errors import (
    did_you_mean,
    explain_write_error,
    find_similar,
    is_harmless,
    is_out_of_memory,
)


@pytest.mark.parametrize(
    ("word", "cutoff", "expected"),
    [
        ("GPU", 0.6, "cuda"),
        ("Batch-Size", 0.6, "batch_size"),
        ("Batch-Size", 1, "batch_size"),
        ("cudo", 0.6, "cuda"),
        ("cudo", 1, None),
        ("nonsense", 0.6, None),
    ],
)
def test_find_similar_knows_synonyms_and_spellings(
    word: str, cutoff: float, expected: str | None
) -> None:
    assert find_similar(word, ["batch_size", "cpu", "cuda"], cutoff) == expected


@pytest.mark.parametrize(
    ("word", "allowed", "group", "message"),
    [
        ("epoch", ["lr", "epochs"], "", "Did you mean 'epochs'? Allowed: epochs, lr."),
        ("epoch", ["epochs"], "train", "Did you mean 'train.epochs'? Allowed: epochs."),
        ("nonsense", ["lr"], "", "Allowed: lr."),
        ("lr", [], "", "There are none."),
        ("x", [f"word{n:02}" for n in range(61)], "", "There are 61, such as word00, word01, "),
    ],
)
def test_did_you_mean_suggests_a_word_and_lists_the_allowed_ones(
    word: str, allowed: list[str], group: str, message: str
) -> None:
    assert did_you_mean(word, allowed, group).startswith(message)


def test_write_error_of_a_broken_link_names_the_link(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("missing")
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    message = str(explain_write_error(link, error, "Name another place."))
    assert message == f"{link} is a broken link. Name another place."


def test_write_error_at_a_limit_of_the_system_has_its_own_advice(tmp_path: Path) -> None:
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    message = str(explain_write_error(tmp_path, error, "Name another place."))
    assert "ulimit" in message
    assert "Name another place." not in message


@pytest.mark.parametrize(
    ("text", "expected"), [("CUDA error: out of memory", True), ("CUDA error: illegal", False)]
)
def test_out_of_memory_is_recognized_by_its_message(text: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) == expected


@pytest.mark.parametrize(
    ("character", "expected"),
    [("a", True), ("\u3000", True), ("\u200d", True), ("\x1b", False), ("\u202e", False)],
)
def test_control_characters_are_harmful(character: str, expected: bool) -> None:
    assert is_harmless(character) == expected
