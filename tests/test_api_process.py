"""Training from Python restores signals, logging, Hydra and streams of the process."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import hydra
import pytest
from helpers.command import TINY, clean_environment, find_only_run
from helpers.compare_runs import find_differences
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

import cnnbench
from cnnbench.api import Row, train
from cnnbench.errors import ConfigError
from cnnbench.runs.machine import spin_count

ONE_EPOCH = (*TINY, "train.epochs=1", "train.fail_if_not_learning=false")
LOG = logging.getLogger("cnnbench")


@pytest.fixture(autouse=True)
def _change_to_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def status(directory: Path) -> dict[str, str]:
    return json.loads((directory / "status.json").read_text())


@pytest.mark.filterwarnings("default")
def test_sigint_is_raised_after_the_run_is_saved(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(*TINY, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGINT))
    run = find_only_run(tmp_path)
    assert status(run)["state"] == "interrupted"
    assert (run / "checkpoints" / "last.pt").exists()


def test_scheduler_signal_reaches_its_handler_after_the_run_is_saved() -> None:
    states = []

    def handle(number: int, frame: object) -> None:
        states.append(json.loads((find_only_run(Path()) / "status.json").read_text())["state"])

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        with pytest.raises(SystemExit):
            train(*TINY, on_epoch=lambda row: os.kill(os.getpid(), signal.SIGUSR2))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert states == ["interrupted"]


def test_train_restores_signal_handlers() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(*ONE_EPOCH)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_train_restores_logging() -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        return [
            root.level,
            LOG.level,
            LOG.propagate,
            *root.handlers,
            *LOG.handlers,
            *root.filters,
            *LOG.filters,
        ]

    before = state()
    train(*ONE_EPOCH)
    assert state() == before


class LineHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(
    ("level", "is_logged"),
    [(logging.WARNING, False), (logging.INFO, True)],
    ids=["warning", "info"],
)
def test_handlers_of_the_caller_get_lines_of_its_level(
    level: int, is_logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = LineHandler()
    monkeypatch.setattr(LOG, "handlers", [handler])
    monkeypatch.setattr(LOG, "level", level)
    logging.getLogger().manager._clear_cache()
    train(*ONE_EPOCH)
    assert any("Test accuracy" in line for line in handler.lines) == is_logged


def test_train_log_does_not_depend_on_the_log_level_of_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    logging.getLogger().manager._clear_cache()
    logged = (train(*ONE_EPOCH).directory / "train.log").read_text()
    assert " INFO lenet_relu on part of Fashion-MNIST at " in logged.partition("\n")[0]
    assert "INFO Test accuracy" in logged


def test_train_prints_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Earlier commands in this process have left handlers.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    train(*ONE_EPOCH)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [False, True])
def test_progress_prints_log_lines_and_a_bar(
    progress: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    directory = train(*TINY, progress=progress).directory
    log = (directory / "train.log").read_text()
    logged = re.findall(r"^\S+ \S+ [A-Z]+ (.*)$", log, re.MULTILINE)
    printed = capsys.readouterr()
    assert os.path.relpath(directory) in logged
    assert printed.out.splitlines() == (logged if progress else [])
    assert ("examples/s" in printed.err) is progress
    assert "TQDM_DISABLE" not in os.environ


def test_train_restores_hydra(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "application.yaml").write_text("defaults: [schema, _self_]\nkey: 1\n")
    store = ConfigStore.instance()
    kept = dict(store.repo)
    store.store("schema", {"theirs": True})
    try:
        with hydra.initialize_config_dir(str(tmp_path / "theirs"), version_base="1.2"):
            application = GlobalHydra.instance().hydra
            train(*ONE_EPOCH)
            assert GlobalHydra.instance().hydra is application
            assert str(version.getbase()) == "1.2"
            assert hydra.compose("application") == {"theirs": True, "key": 1}
    finally:
        store.repo = kept


def test_train_leaves_hydra_uninitialized() -> None:
    GlobalHydra.instance().clear()
    train(*ONE_EPOCH)
    assert not GlobalHydra.instance().is_initialized()


def test_concurrent_run_in_one_process_is_refused() -> None:
    def again(row: Row) -> None:
        with pytest.raises(ConfigError, match="A run is under way in this process"):
            train(*TINY)

    train(*ONE_EPOCH, on_epoch=again)


def test_train_in_another_thread_has_the_same_numbers(tmp_path: Path) -> None:
    thread = threading.Thread(
        target=train, args=TINY, kwargs={"directory": tmp_path / "in_a_thread"}
    )
    thread.start()
    thread.join()
    assert find_differences(train(*TINY).directory, tmp_path / "in_a_thread") == []


IMPORTS = """
import os, sys
import cnnbench
print("torch" in sys.modules, cnnbench.errors.ConfigError.exit_code, hasattr(cnnbench, "nothing"))
try:
    cnnbench.api
except ImportError:
    print(os.environ["GOMP_SPINCOUNT"])
"""


def test_only_the_api_imports_torch_after_setting_threads(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError")
    command = [sys.executable, "-c", IMPORTS]
    environment = clean_environment(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"False 2 False\n{spin_count()}\n", "")


def test_api_is_an_attribute_of_the_package() -> None:
    assert cnnbench.__getattr__("api").train is train
