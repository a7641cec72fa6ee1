"""Closed, full or ASCII streams, messages of libraries, and the folders of their caches."""

import io
import logging
import os
import pwd
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import pytest
from helpers.command import TINY, Command, run_command
from helpers.fork_server import ForkServer
from helpers.small_runs import SMALL

from cnnbench.cli import process_setup
from cnnbench.cli.process_setup import (
    OwnLines,
    place_third_party_caches,
    shield_stream,
    silence_libraries,
)
from cnnbench.training import recording

ASCII_LOCALE = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "",
}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("0.91 ± 0.02", "0.91 +- 0.02"),
        ("28 × 28 …", "28 x 28 ..."),
        ("±学\udcff", "+-\\u5b66\\udcff"),
    ],
)
def test_an_ascii_stream_gets_replacements(
    monkeypatch: pytest.MonkeyPatch, text: str, printed: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    shield_stream("stdout", lossy=True)
    print(text, end="", flush=True)
    assert stream.buffer.getvalue() == printed.encode()


def test_stderr_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "errors").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        shield_stream("stderr", lossy=True)
        print("Exporting ...", file=sys.stderr)
        assert (tmp_path / "errors").read_text() == "Exporting ...\n"


def test_nonblocking_stream_gets_all_output(tmp_path: Path) -> None:
    """Print more than a pipe holds to a reader that waits first."""
    program = (
        "import os, sys\n"
        "from cnnbench.cli.process_setup import shield_stream\n"
        "os.set_blocking(1, False)\n"
        "shield_stream('stdout', lossy=True)\n"
        "print('x' * 300_000, flush=True)\n"
    )
    reader = ["sh", "-c", '"$0" -c "$1" | { sleep 0.3; wc -c; }', sys.executable, program]
    done = subprocess.run(reader, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == 300_001, done.stderr


def test_files_do_not_get_descriptors_of_closed_streams(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "from cnnbench.cli.process_setup import open_missing_streams\n"
        "open_missing_streams()\n"
        "subprocess.run([sys.executable, '-c', 'import os; os.write(1, bytes(1))'], check=True)\n"
        "with open('file', 'w') as file:\n"
        "    print('to nobody')\n"
        "    print('to nobody', file=sys.stderr)\n"
        "    file.write(str(file.fileno() > 2))\n"
    )
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    subprocess.run(
        ["sh", "-c", shell, sys.executable, program], cwd=tmp_path, timeout=60, check=True
    )
    assert (tmp_path / "file").read_text() == "True"


def test_the_log_is_utf8_in_an_ascii_locale(tmp_path: Path) -> None:
    program = (
        "import logging\n"
        "from pathlib import Path\n"
        "from cnnbench.cli.hydra_app import conf_folder\n"
        "from cnnbench.runs.directory import log_to\n"
        "log_to(Path.cwd(), conf_folder())\n"
        "logging.getLogger('cnnbench').info('gr\\xf6\\xdfe \\u5b66 \\udcff')\n"
    )
    environment = {**os.environ, **ASCII_LOCALE}
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, timeout=60, check=True
    )
    assert (tmp_path / "train.log").read_text("utf-8").endswith("größe 学 \\udcff\n")


def test_sweep_name_may_be_invalid_utf8(forks: ForkServer, tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "sweep=gr\udcf6\udcdfe", "data.root=\udcff", "seed=1")
    for _ in range(2):
        done = forks.run(*sweep, folder=tmp_path)
        assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), done.stdout


@pytest.mark.slow  # the tests of streams and of the log above are quick
def test_a_run_in_an_ascii_locale_prints_every_line(tmp_path: Path) -> None:
    done = run_command([*TINY, "hydra.run.dir='größe'"], tmp_path, ASCII_LOCALE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    log = (tmp_path / "größe" / "train.log").read_text("utf-8").splitlines()
    assert [line.split(" INFO ")[1] for line in log] == done.stdout.splitlines()


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
def test_filter_passes_cnnbench_custom_model_warnings_and_errors(
    name: str, level: int, path: str, is_shown: bool
) -> None:
    assert passes(name, level, path) == is_shown


@pytest.mark.parametrize(
    ("name", "path", "verbose", "is_shown"),
    [
        ("my_module", CUSTOM, True, True),
        ("filelock", INSTALLED, True, False),
        ("filelock", INSTALLED, "filelock", True),
        ("filelock", INSTALLED, ["torch", "filelock"], True),
    ],
)
def test_verbose_passes_custom_models_and_named_libraries(
    name: str, path: str, verbose: bool | str | list[str], is_shown: bool
) -> None:
    assert passes(name, logging.DEBUG, path, verbose) == is_shown


@pytest.mark.parametrize("arguments", [SMALL, ("-m", *SMALL, "seed=0,1")], ids=["run", "sweep"])
def test_verbose_shows_debug_lines_of_cnnbench_only(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    describe = recording.describe_engine

    def talk(*values: object) -> object:
        logging.getLogger("cnnbench").debug("a detail")
        text = "generated new fontManager"
        record = logging.LogRecord("matplotlib", logging.DEBUG, INSTALLED, 1, text, (), None)
        logging.getLogger().handle(record)
        return describe(*values)

    monkeypatch.setattr(recording, "describe_engine", talk)
    done = within(*arguments, "hydra.verbose=true")
    assert (done.returncode, done.stderr) == (0, "")
    (log, *_) = (path.read_text() for path in tmp_path.rglob("train.log"))
    for text in (done.stdout, log):
        assert "a detail" in text
        assert not re.search("fontManager|STREAM", text)


def test_commands_silence_libraries(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"TORCH_LOGS": "-all", "TORCH_CPP_LOG_LEVEL": "ERROR", "ORT_DISABLE_TELEMETRY": "1"}
    for name in wanted:
        monkeypatch.setenv(name, "")  # so that pytest restores it
        monkeypatch.delenv(name)
    within("--version")
    assert {name: os.environ[name] for name in wanted} == wanted


@pytest.fixture
def silenced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Silence warnings as in a process whose user has not configured them."""
    monkeypatch.setattr(process_setup.sys, "warnoptions", [])
    monkeypatch.setenv("TORCH_LOGS", "+dynamo")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(
            warnings, "showwarning", warnings.showwarning
        )  # so that pytest restores it
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
    show = "_show_python_warning"
    monkeypatch.setattr(process_setup, show, lambda message, *_: shown.append(str(message)))
    warn("a hint", CUSTOM)
    assert shown == ["a hint"]


@pytest.mark.usefixtures("silenced")
def test_reason_why_cuda_does_not_start_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    warn("CUDA initialization: The driver is too old.\n(Triggered internally at ...)", INSTALLED)
    assert caplog.messages == ["PyTorch finds no GPU. CUDA initialization: The driver is too old."]


@pytest.mark.usefixtures("silenced")
def test_log_settings_of_the_user_stay() -> None:
    assert os.environ["TORCH_LOGS"] == "+dynamo"


VARIABLES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the temporary cache of a user with a home and a name; no cache is placed yet."""
    for name in (*VARIABLES, "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")  # so that pytest restores it
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("USER", "gauss")
    return tmp_path / f"cnnbench-{os.getuid()}"


def have_no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def placed() -> list[str | None]:
    place_third_party_caches()
    return [os.environ.get(name) for name in VARIABLES]


def test_caches_stay_in_the_home_folder(cache: Path) -> None:
    assert placed() == [None, None]
    assert not cache.exists()


@pytest.mark.parametrize(
    "home", [have_no_home, lambda: Path("/dev/null")], ids=["none", "unwritable"]
)
def test_font_cache_is_temporary_without_a_home_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch, home: Callable[[], Path]
) -> None:
    monkeypatch.setattr(Path, "home", home)
    assert placed() == [str(cache / "matplotlib"), None]


def test_compiler_cache_is_temporary_for_a_user_without_a_name(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def know_nobody(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    assert placed() == [None, str(cache / "torchinductor")]


@pytest.mark.usefixtures("cache")
def test_cache_folders_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", have_no_home)
    monkeypatch.setenv("MPLCONFIGDIR", "/fonts")
    assert placed() == ["/fonts", None]


@pytest.mark.usefixtures("cache")
def test_no_cache_is_placed_without_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", have_no_home)
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    assert placed() == [None, None]
