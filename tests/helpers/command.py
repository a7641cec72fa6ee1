"""The installed command, run by subprocess in a fresh folder, as a new user runs it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.paths import ROOT

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NOWHERE = "http://127.0.0.1:9"  # a closed port: connections are refused at once

TINY = (
    "experiment=smoke",
    "data.train_examples=256",
    "data.test_examples=100",
    "data.validation=100",
)


def clean_environment(folder: Path) -> dict[str, str]:
    """Return an environment with no network, no data but the sample, and an empty cache."""
    own = {
        "CNNBENCH_DATA": "",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MPLCONFIGDIR": str(ROOT / "tests" / ".matplotlib"),
        "http_proxy": NOWHERE,
        "https_proxy": NOWHERE,
        "no_proxy": "",
        "PYTHONWARNINGS": "error",
        "OMP_NUM_THREADS": "1",  # other tests keep the cores busy, and threads would wait
    }
    inherited = dict(os.environ)
    inherited.pop("OMP_WAIT_POLICY", None)  # tests/conftest.py sets it
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
    """Return the only run directory under outputs/."""
    (run,) = (status.parent for status in (folder / "outputs").rglob("status.json"))
    return run


def resume_arguments(run: Path, job: Sequence[str]) -> list[str]:
    """Return arguments that resume a run from its parent folder.

    A run without a config.yaml is removed and begins again.
    """
    if (run / "config.yaml").exists():
        return ["resume", run.name]
    shutil.rmtree(run, ignore_errors=True)
    return [*job, f"hydra.run.dir={run.name}"]
