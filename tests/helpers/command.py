"""The installed command, run as a stranger runs it: in a folder of its own, by subprocess."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.paths import ROOT

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NOWHERE = "http://127.0.0.1:9"  # a port that refuses: no network, told at once

TINY = (
    "experiment=smoke",
    "data.train_examples=256",
    "data.test_examples=100",
    "data.validation=100",
)


def clean_environment(folder: Path) -> dict[str, str]:
    """No data but the sample, no network, a cache of its own."""
    own = {
        "CNNBENCH_DATA": "",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MPLCONFIGDIR": str(ROOT / "tests" / ".matplotlib"),
        "http_proxy": NOWHERE,
        "https_proxy": NOWHERE,
        "no_proxy": "",
        "PYTHONWARNINGS": "error",
        "OMP_NUM_THREADS": "1",  # two threads wait for each other where the cores are busy with other tests
    }
    inherited = {
        key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"
    }  # of tests/conftest.py
    return {**inherited, **own}


def run_command(
    arguments: Sequence[str], folder: Path, changes: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cnnbench", *arguments],
        cwd=folder,
        env=clean_environment(folder) | (changes or {}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def find_only_run(folder: Path) -> Path:
    """The one run directory under outputs/."""
    (run,) = (status.parent for status in (folder / "outputs").rglob("status.json"))
    return run


def resume_arguments(run: Path, job: Sequence[str]) -> list[str]:
    """The arguments that go on with a run, in its folder's parent; one that had written nothing down begins again."""
    if (run / "config.yaml").exists():
        return ["resume", run.name]
    shutil.rmtree(run, ignore_errors=True)
    return [*job, f"hydra.run.dir={run.name}"]
