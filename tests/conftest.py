"""What all tests may use."""

import gc
import os

# Before anything imports torch: two workers share two cores, and threads that spin while they wait slow both.
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
    """Call as cnnbench("data=sample", "train.epochs=1"): stdout, stderr and returncode, with a clean environment."""
    return partial(run_in_process, folder=tmp_path)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Commands in processes of their own, to be killed and sent signals, quickly: see helpers/fork_server.py."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def runs(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Small runs to be copied, broken and gone on with: see helpers/small_runs.py."""
    return Runs(forks, tmp_path_factory.mktemp("small_runs"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for tests that are marked by what helpers/browser.py says of it."""
    from helpers.browser import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )  # root needs that
        yield browser
        browser.close()


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """As the fixture `cnnbench`, with the environment of the test."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main(arguments)


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that was imported and collected, which stays until the end anyway."""
    gc.freeze()
    gc.enable()
