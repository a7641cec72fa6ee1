"""What other libraries log and warn of, and what of that is shown."""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from installed import Command
from small_runs import SMALL

from cnnbench.cli import other_libraries
from cnnbench.cli.other_libraries import OwnLines, silence_libraries
from cnnbench.training import recording

INSTALLED = str(Path(matplotlib.__file__))
CUSTOM = "/home/gauss/my_module.py"


def passes(name: str, level: int, path: str, verbose: bool | str | list[str] = False) -> bool:
    return OwnLines(verbose).filter(logging.LogRecord(name, level, path, 1, "a line", (), None))


@pytest.mark.parametrize(
    ("name", "level", "path", "is_shown"),
    [
        ("cnnbench", logging.DEBUG, INSTALLED, True),
        ("hydra.core.utils", logging.INFO, INSTALLED, True),
        ("matplotlib.font_manager", logging.INFO, INSTALLED, False),
        ("torch._dynamo", logging.WARNING, INSTALLED, False),
        ("torch._dynamo", logging.ERROR, INSTALLED, True),
        ("asyncio", logging.DEBUG, logging.__file__, False),
        ("my_module", logging.WARNING, CUSTOM, True),
        ("my_module", logging.INFO, CUSTOM, False),
        ("cnnbenchmark", logging.INFO, INSTALLED, False),
    ],
)
def test_lines_are_shown_of_cnnbench_of_custom_models_and_of_errors(
    name: str, level: int, path: str, is_shown: bool
) -> None:
    assert passes(name, level, path) == is_shown


def test_verbose_shows_all_lines_of_custom_models() -> None:
    assert passes("my_module", logging.DEBUG, CUSTOM, True)


@pytest.mark.parametrize("verbose", ["filelock", ["torch", "filelock"]], ids=str)
def test_a_library_that_hydra_verbose_names_is_shown(verbose: str | list[str]) -> None:
    assert passes("filelock", logging.DEBUG, INSTALLED, verbose)
    assert not passes("filelock", logging.DEBUG, INSTALLED, True)


@pytest.mark.parametrize("arguments", [SMALL, ("-m", *SMALL, "seed=0,1")], ids=["run", "sweep"])
def test_verbose_shows_debug_lines_of_cnnbench_alone(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    describe = recording.describe

    def talk(*values: object) -> object:
        logging.getLogger("cnnbench").debug("a detail")
        text = "generated new fontManager"
        record = logging.LogRecord("matplotlib", logging.DEBUG, INSTALLED, 1, text, (), None)
        logging.getLogger().handle(record)
        return describe(*values)

    monkeypatch.setattr(recording, "describe", talk)
    done = within(*arguments, "hydra.verbose=true")
    assert (done.returncode, done.stderr) == (0, "")
    (log, *_) = (path.read_text() for path in tmp_path.rglob("train.log"))
    for text in (done.stdout, log):
        assert "a detail" in text
        assert not re.search("fontManager|STREAM", text)


def test_commands_silence_libraries(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"TORCH_LOGS": "-all", "TORCH_CPP_LOG_LEVEL": "ERROR", "ORT_DISABLE_TELEMETRY": "1"}
    for name in wanted:
        monkeypatch.setenv(name, "")  # so that it is restored in any case
        monkeypatch.delenv(name)
    within("--version")
    assert {name: os.environ[name] for name in wanted} == wanted


@pytest.fixture
def silenced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Silence warnings as in a process whose user has decided nothing about them."""
    monkeypatch.setattr(other_libraries.sys, "warnoptions", [])
    monkeypatch.setenv("TORCH_LOGS", "+dynamo")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # so that it is restored
        silence_libraries()
        yield


def warn(text: str, path: str) -> None:
    warnings.warn_explicit(text, UserWarning, path, 1)


@pytest.mark.usefixtures("silenced")
def test_warnings_of_libraries_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    warn("TensorFloat32 is available", INSTALLED)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("silenced")
def test_warnings_of_custom_models_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    show = "_show_as_python_does"
    monkeypatch.setattr(other_libraries, show, lambda message, *_: shown.append(str(message)))
    warn("a hint", CUSTOM)
    assert shown == ["a hint"]


@pytest.mark.usefixtures("silenced")
def test_why_cuda_does_not_start_is_told(caplog: pytest.LogCaptureFixture) -> None:
    warn("CUDA initialization: The driver is too old.\n(Triggered internally at ...)", INSTALLED)
    assert caplog.messages == ["PyTorch finds no GPU. CUDA initialization: The driver is too old."]


@pytest.mark.usefixtures("silenced")
def test_log_settings_of_torch_that_the_user_has_made_stay() -> None:
    assert os.environ["TORCH_LOGS"] == "+dynamo"
