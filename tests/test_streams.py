"""Standard streams that are closed, full, left by their reader, or of an encoding that lacks signs."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forking import ForkServer
from installed import TINY, run_command
from small_runs import SMALL

from cnnbench.cli.streams import shield_stream

ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.mark.parametrize(
    ("text", "printed"),
    [("0.91 ± 0.02", "0.91 +- 0.02"), ("28 × 28 …", "28 x 28 ..."), ("±学\udcff", "+-\\u5b66\\udcff")],
)
def test_an_ascii_stream_gets_replacements(monkeypatch: pytest.MonkeyPatch, text: str, printed: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    shield_stream("stdout", lossy=True)
    print(text, end="", flush=True)
    assert stream.buffer.getvalue() == printed.encode()


def test_a_file_that_is_not_blocking_gets_all_lines(tmp_path: Path) -> None:
    """More than a pipe holds, to a reader that waits first."""
    program = (
        "import os, sys\n"
        "from cnnbench.cli.streams import shield_stream\n"
        "os.set_blocking(1, False)\n"
        "shield_stream('stdout', lossy=True)\n"
        "print('x' * 300_000, flush=True)\n"
    )
    reader = ["sh", "-c", '"$0" -c "$1" | { sleep 0.3; wc -c; }', sys.executable, program]
    done = subprocess.run(reader, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == 300_001, done.stderr


def test_closed_streams_do_not_give_their_numbers_to_files(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "from cnnbench.cli.streams import open_missing_streams\n"
        "open_missing_streams()\n"
        "subprocess.run([sys.executable, '-c', 'import os; os.write(1, bytes(1))'], check=True)\n"
        "with open('file', 'w') as file:\n"
        "    print('to nobody')\n"
        "    print('to nobody', file=sys.stderr)\n"
        "    file.write(str(file.fileno() > 2))\n"
    )
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", shell, sys.executable, program], cwd=tmp_path, timeout=60, check=True)
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
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, timeout=60, check=True)
    assert (tmp_path / "train.log").read_text("utf-8").endswith("größe 学 \\udcff\n")


def test_a_sweep_may_be_named_by_bytes_that_are_no_text(forks: ForkServer, tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "sweep=gr\udcf6\udcdfe", "data.root=\udcff", "seed=1")
    for _ in range(2):
        done = forks.run(*sweep, folder=tmp_path)
        assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), done.stdout


@pytest.mark.slow  # quick: the tests of the stream and of the log, above
def test_a_run_in_an_ascii_locale_prints_every_line(tmp_path: Path) -> None:
    done = run_command([*TINY, "hydra.run.dir='größe'"], tmp_path, ASCII_LOCALE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    log = (tmp_path / "größe" / "train.log").read_text("utf-8").splitlines()
    assert [line.split(" INFO ")[1] for line in log] == done.stdout.splitlines()
