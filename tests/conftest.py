"""Fixtures for all tests."""

import gc
import os

# Set before torch is imported. Two workers share two cores, and threads that spin would slow both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.command import Command
from helpers.fork_server import ForkServer
from helpers.in_process import main, run_in_process
from helpers.small_runs import Runs


@pytest.fixture
def cnnbench(tmp_path: Path) -> Command:
    """Return a function that runs a command: cnnbench("data=sample", "train.epochs=1").

    The command has a clean environment. The result has stdout, stderr and returncode.
    """
    return partial(run_in_process, folder=tmp_path)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Return a server that starts commands in new processes, which can be killed."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def runs(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return small runs, to be copied, damaged and resumed."""
    return Runs(forks, tmp_path_factory.mktemp("small_runs"))


@pytest.fixture
def finished_run(runs: Runs, tmp_path: Path) -> Path:
    """Return the directory of a finished run, `run` in the folder of the test."""
    return runs.copy("finished", tmp_path / "run")


@pytest.fixture
def last_chance_run(runs: Runs, tmp_path: Path) -> Path:
    """Return the directory of an interrupted run whose previous.pt is gone."""
    return runs.last_chance(tmp_path / "run")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return Chromium, for tests with the MARKS of helpers/browser.py."""
    from helpers.browser import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"]  # root cannot use the sandbox
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Return a function that runs a command in the environment of the test."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main(arguments)


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Make the garbage collector skip all that was imported, since it stays until the end."""
    gc.freeze()
    gc.enable()
