"""`cnnbench train`: the lines that it prints and logs, and the progress bar."""

import csv
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import TINY, Command, clean_environment, run_command
from helpers.shortcuts import SHORTCUTS
from helpers.small_runs import SMALL

from cnnbench.runs import machine
from cnnbench.trackers import curves


@pytest.mark.skipif(shutil.which("taskset") is None, reason="sets the affinity by taskset")
def test_number_of_threads_follows_cpu_affinity(tmp_path: Path) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    environment = clean_environment(tmp_path) | {"OMP_WAIT_POLICY": "nonsense"}
    del environment["OMP_NUM_THREADS"]
    command = ["taskset", "--cpu-list", cpu, sys.executable, "-m", "cnnbench", *TINY]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # libgomp does not warn of the policy either
    _, _, device, policy, *_ = done.stdout.splitlines()
    assert device.endswith(", 1 thread")
    assert policy == "OMP_WAIT_POLICY=nonsense is neither ACTIVE nor PASSIVE: it is ignored."


def test_more_threads_than_cpus_are_allowed_with_one_warning(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 1)
    done = within(*TINY, "device.threads=2")
    assert done.returncode == 0, done.stderr
    warning = "device.threads=2 is more than the CPUs that this process may use (1).\n"
    assert done.stdout.count(warning) == 1


@pytest.mark.parametrize("arguments", [SMALL, ("-m", *SMALL, "seed=0,1")], ids=["run", "sweep"])
def test_log_lines_of_other_libraries_are_not_printed(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def draw(*_: object) -> None:
        logging.getLogger("matplotlib.font_manager").warning(
            "Matplotlib is building the font cache"
        )
        logging.getLogger("another").info("generated something")

    monkeypatch.setitem(SHORTCUTS, (curves, "write_curves"), draw)
    done = within(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (log, *_) = (path.read_text() for path in tmp_path.rglob("train.log"))
    assert "Test accuracy" in log
    assert not re.search("font cache|generated something", done.stdout + log)


@pytest.mark.slow
def test_missing_font_cache_of_matplotlib_prints_nothing(tmp_path: Path) -> None:
    commands = [
        (*TINY, "hydra.run.dir=run"),
        ("inspect", "run"),
        ("evaluate", "run"),
        ("report", "run"),
    ]
    for number, command in enumerate(commands):
        fonts = tmp_path / f"fonts{number}"
        done = run_command(command, tmp_path, {"MPLCONFIGDIR": str(fonts)})
        assert (done.returncode, done.stderr) == (0, "")
        assert "font" not in done.stdout.replace(str(fonts), "").lower()
    assert list((tmp_path / "fonts0").glob("fontlist*"))


def test_steps_are_logged_between_the_epochs(within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, "train.log_every=3", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    first_words = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert first_words[2:] == ["0.75", "1/2", "1.50", "2/2"]
    with (tmp_path / "run" / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert f"0.75      0.01  {float(rows[0]['train_loss']):7.4f}" in done.stdout
