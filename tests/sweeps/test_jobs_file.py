"""Sweeps whose jobs are the lines of a file, with --jobs-file."""

from pathlib import Path

import pytest
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, find_job

SWEEP = ("-m", *SMALL, "sweep=mine")


def test_lines_of_a_jobs_file_are_combined_with_swept_values(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "jobs").write_text(
        "# two\noptimizer.momentum=0.5 train.grad_clip_norm=1 # one\n\noptimizer.momentum=0.9\n"
    )
    done = run_in_process(*SWEEP, "--jobs-file", "jobs", "seed=0,1", folder=tmp_path)
    assert (done.returncode, "4 runs: 4 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert "train.grad_clip_norm" not in find_job(mine, "optimizer.momentum=0.9", "seed=1").name
    assert find_job(mine, "optimizer.momentum=0.5", "train.grad_clip_norm=1", "seed=1")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("optimizer.momentum 0.5", "line 1: 'optimizer.momentum' is not a value of one job"),
        ("\n\n--cfg=job", "line 3: '--cfg=job' is not a value of one job"),
        ("hydra/launcher=joblib", "'hydra/launcher=joblib' is not a value of one job"),
        ("train.l1=1\n++sweep=other", "line 2: '++sweep=other' is not a value of one job"),
        ("~train.l1=1", "'~train.l1=1' is not a value of one job"),
        ("train.l1=1,2", "'train.l1=1,2' is not a value of one job"),
        ("train.l1=range(3)", "'train.l1=range(3)' is not a value of one job"),
        ("# nothing", "has no line with overrides"),
        ("optimizer.momentum='0.5", "cannot be read: No closing quotation"),
        ("train.l1=1 train.l1=2", "line 1: train.l1 is given twice"),
        ("++seed=1", "seed is given by the jobs file and on the command line"),
        (None, "cannot be read: [Errno 2]"),
    ],
)
def test_invalid_jobs_file_is_refused(tmp_path: Path, lines: str | None, message: str) -> None:
    if lines is not None:
        (tmp_path / "jobs").write_text(lines)
    done = run_in_process(*SWEEP, "--jobs-file", "jobs", "seed=0,1", folder=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "outputs").exists()
