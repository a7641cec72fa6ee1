"""`cnnbench train -m`: the directories of jobs, and jobs that fail."""

from pathlib import Path

from helpers.command import TINY, Command


def test_sweep_has_a_directory_for_each_combination(cnnbench: Command, tmp_path: Path) -> None:
    done = cnnbench(
        "-m",
        "optimizer.lr=0.1,0.5",
        "train.batch_size=64,256",
        *TINY,
        "train.epochs=2",
        "sweep=mine",
    )
    assert done.returncode == 0, done.stderr
    jobs = [
        path.parent.name
        for path in (tmp_path / "outputs" / "sweeps" / "mine").glob("*/result.json")
    ]
    assert len(jobs) == 4
    assert all("optimizer.lr=0." in job and "train.batch_size=" in job for job in jobs)


def test_sweep_continues_after_a_failed_job_and_returns_its_exit_code(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench("-m", "optimizer.lr=1e30,0.5", *TINY, "sweep=mine")
    assert done.returncode == 4
    assert "The training loss became" in done.stderr
    assert len(list((tmp_path / "outputs" / "sweeps" / "mine").glob("*/result.json"))) == 1
