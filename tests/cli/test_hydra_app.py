"""Hydra in the command line: composing, task functions and hydra.job.chdir."""

import gc
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.fork_server import ForkServer
from helpers.image_folders import fill
from helpers.small_runs import SMALL
from omegaconf import OmegaConf

from cnnbench.cli import compose
from cnnbench.cli.hydra_app import HydraJob, run_hydra_app

CHDIR = "hydra.job.chdir=true"


def test_chdir_run_takes_and_prints_paths_relative_to_the_start_folder(
    within: Command, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", {"Bag": 12, "Sandal": 12})
    data = ("data=folder", "data.path=photos", "data.image_size=8")
    small = [word for word in SMALL if not word.startswith("data")]
    done = within(*small, *data, CHDIR, "hydra.run.dir=run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run" in done.stdout.splitlines()
    assert (tmp_path / "run" / "result.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "run"]


def test_interrupted_chdir_run_prints_the_resume_command(forks: ForkServer, tmp_path: Path) -> None:
    faults = [(int(signal.SIGINT), "step", 3)]
    done = forks.run(*SMALL, CHDIR, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    hint = "To resume: cnnbench resume run\n"
    assert (done.returncode, hint in done.stderr) == (130, True), done.stderr


def test_failed_job_stops_a_sweep_with_chdir(within: Command, tmp_path: Path) -> None:
    rates = ("optimizer.lr=1e30,0.01", "sweep_on_error=stop", "sweep=mine")
    done = within("-m", *SMALL, *rates, CHDIR)
    assert (done.returncode, "Not begun: the sweep was stopped." in done.stdout) == (4, True), done
    (again,) = re.findall(r"To resume from there: cnnbench (.*)", done.stderr)
    _, job, _ = shlex.split(again)
    assert (tmp_path / job / "status.json").exists()


def test_cfg_job_prints_values_of_the_recipe(cnnbench: Command) -> None:
    done = cnnbench("model=alexnet", "data.resize=96", "--cfg", "job", "--resolve")
    composed = OmegaConf.create(done.stdout)
    assert (composed.data.resize, composed.train.batch_size, composed.optimizer.lr) == (
        96,
        128,
        0.01,
    )


def test_composing_is_independent_of_earlier_configurations(within: Command) -> None:
    first = within("--cfg", "job", "optimizer=adam").stdout
    within(
        "--cfg", "job", "model=alexnet", "optimizer=rmsprop", "+model.width=3", "train.epochs=99"
    )
    assert within("--cfg", "job", "optimizer=adam").stdout == first


def test_garbage_collection_is_on_during_a_job(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected: list[bool] = []
    monkeypatch.setattr(compose, "train_job", lambda *_, plot: collected.append(gc.isenabled()))
    within("data=sample", "device=cpu")
    assert collected == [True]


def test_garbage_collection_is_on_after_a_command_without_a_job(within: Command) -> None:
    within("--cfg", "job")
    assert gc.isenabled()


def test_worker_ranks_use_the_sweeper_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in {**launch, "HYDRA_FULL_ERROR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["cnnbench"])
    monkeypatch.setattr("hydra.main", lambda **_: lambda job: lambda: None)
    arguments = ["-m", "hydra/sweeper=basic", "hydra/job_logging=default"]
    run_hydra_app("train", arguments, HydraJob(lambda composed, claimed: None))
    assert "hydra/sweeper=basic" in sys.argv
    assert "hydra/job_logging=default" not in sys.argv
