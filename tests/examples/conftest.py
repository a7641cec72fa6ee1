"""Fixtures that run the examples as a student runs them."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import EXAMPLES


@pytest.fixture
def load_example() -> Callable[[str], dict[str, Any]]:
    """Return a function that returns the definitions of an example, without running it."""
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture
def run_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], list[str]]:
    """Return a function that runs an example in an empty directory and returns its lines."""
    monkeypatch.chdir(tmp_path)

    def run_example_file(name: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return run_example_file
