"""Sweeps that were interrupted or have failed jobs are resumed."""

import signal
import subprocess
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, find_job
from helpers.two_process_runs import rank_environments

Done = subprocess.CompletedProcess[str]
SWEEP = ("-m", *SMALL, "sweep=mine")


OWN = """
from pathlib import Path
from cnnbench.models.mlp import MLP

class Net(MLP):
    def forward(self, images):
        if not images.is_meta and Path("broken").exists():
            raise ValueError("the file is there")
        return super().forward(images)
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*SWEEP, "model.name=mlp,own:Net"), marks=pytest.mark.slow),
        ("resume", "outputs/sweeps/mine", "--allow-custom-model"),
    ],
)
def test_failed_job_is_retried(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken").touch()
    assert run_in_process(*SWEEP, "model.name=mlp,own:Net", folder=tmp_path).returncode == 1
    (tmp_path / "broken").unlink()
    done = run_in_process(*command, folder=tmp_path)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_sweep_on_error_stop_leaves_other_jobs_for_resume(
    forks: ForkServer, tmp_path: Path, mine: Path, launcher: str
) -> None:
    words = [] if launcher == "basic" else ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    sweep = [*SWEEP, "sweep_on_error=stop", "optimizer.lr=1e30,0.005,0.02"]
    done = forks.run(*sweep, *words, folder=tmp_path)
    assert done.returncode == 4
    assert "3 runs: 1 failed, 2 not begun" in done.stdout, done.stdout + done.stderr
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert "3 runs: 1 failed, 2 not begun" in done.stdout, done.stdout  # it fails again
    record = mine / "sweep.json"
    record.write_text(record.read_text().replace("=stop", "=continue"))
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert "3 runs: 2 finished, 1 failed" in done.stdout, done.stdout


def test_resume_runs_remaining_jobs_with_the_same_bits(
    forks: ForkServer, grid: tuple[Path, Done], tmp_path: Path, mine: Path
) -> None:
    sweep = (*SWEEP, "optimizer.lr=0.005,0.02", "seed=0,1")
    interrupted = forks.run(*sweep, folder=tmp_path, faults=[(int(signal.SIGINT), "step", 6)])
    assert interrupted.returncode == 130, interrupted.stderr
    assert "4 runs: 1 interrupted, 3 not begun" in interrupted.stdout
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert (done.returncode, "4 runs: 4 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    finished = [path.parent.name for path in mine.glob("*/result.json")]
    found = {name: find_differences(mine / name, grid[0] / name) for name in finished}
    assert found == {name: [] for name in finished}


def test_sweep_restarted_by_torchrun_is_resumed_under_any_name(
    forks: ForkServer, tmp_path: Path
) -> None:
    launch = {**rank_environments(1)[0], "TORCHELASTIC_RUN_ID": "launch"}
    words = ("-m", *SMALL, "seed=0,1")
    faults = [(int(signal.SIGINT), "step", 6)]
    interrupted = forks.run(*words, folder=tmp_path, faults=faults, **launch)
    assert interrupted.returncode == 130, interrupted.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    sweep.rename(sweep.with_name("earlier"))
    done = run_in_process(*words, folder=tmp_path, TORCHELASTIC_RESTART_COUNT="1", **launch)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert [sweep.name for sweep in (tmp_path / "outputs" / "sweeps").iterdir()] == ["earlier"]


@pytest.mark.slow
def test_resume_finds_groups_in_config_dir(forks: ForkServer, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nseed: 5\n")
    interrupted = forks.run(
        *("--config-dir", "mine", *SWEEP, "experiment=mine"),
        folder=tmp_path,
        faults=[(int(signal.SIGINT), "step", 3)],
    )
    assert interrupted.returncode == 130, interrupted.stderr
    done = run_in_process("resume", "outputs/sweeps/mine", "--config-dir", "mine", folder=tmp_path)
    assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )


def test_sweep_of_an_experiment_is_resumed(forks: ForkServer, tmp_path: Path, mine: Path) -> None:
    # The experiment varies the weight decay, 0 and 0.001.
    sweep = (*SWEEP, "experiment=claims/weight_decay", "seed=0")
    faults = [(int(signal.SIGINT), "step", 3)]
    assert forks.run(*sweep, folder=tmp_path, faults=faults).returncode == 130
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert find_job(mine, "experiment=claims/weight_decay", "optimizer.weight_decay=0").is_dir()
