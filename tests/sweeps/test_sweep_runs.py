"""Sweeps: which jobs they have, how they go on, what they say of their jobs."""

import csv
import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.command import run_command
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL
from helpers.two_process_runs import rank_environments

from cnnbench.runs.reading import read_status

SWEEP = ("-m", *SMALL, "sweep=mine")
Done = subprocess.CompletedProcess[str]


def job(sweep: Path, *overrides: str) -> Path:
    """The directory of the one job that has the overrides."""
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    (found,) = (name for name, given in jobs.items() if set(overrides) <= set(given))
    return sweep / found


def table(sweep: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((sweep / "sweep.csv").read_text().splitlines()))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "mine"


Grid = tuple[Path, Done]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """A sweep over rates and seeds, in which one rate diverges, and what it said."""
    folder = tmp_path_factory.mktemp("grid")
    done = run_in_process(*SWEEP, "optimizer.lr=0.005,0.02,1e30", "seed=0,1", folder=folder)
    return folder / "outputs" / "sweeps" / "mine", done


def test_the_best_command_line_repeats_the_best_job(grid: Grid, tmp_path: Path) -> None:
    sweep, done = grid
    (line,) = re.findall(r"^the best: cnnbench (.*)$", done.stdout, re.MULTILINE)
    again = run_in_process(*line.replace("'", "").split(), "hydra.run.dir=again", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    varied = [word for word in line.split() if word.startswith(("optimizer.lr", "seed"))]
    assert find_differences(job(sweep, *varied), tmp_path / "again") == []


def test_each_job_but_the_first_begins_with_how_many_and_how_long(grid: Grid) -> None:
    _, done = grid
    assert done.stdout.startswith("Checking 6 jobs ...\n")
    assert re.findall(r"^(\d of 6), about \d+ s left$", done.stdout, re.MULTILINE) == [
        f"{number} of 6" for number in range(2, 7)
    ]


def test_failed_jobs_do_not_stop_the_others_and_are_told_at_the_end(grid: Grid) -> None:
    sweep, done = grid
    assert done.returncode == 4
    assert "6 runs: 4 finished, 2 failed" in done.stdout
    told = done.stdout.partition("failed: optimizer.lr=1e+30 seed=1\n")[2].splitlines()
    assert "The training loss became" in told[0]
    place = job(sweep, "optimizer.lr=1e+30", "seed=1").relative_to(sweep.parents[2])
    assert f"  more: {place}/status.json" in told[:5]
    assert (
        "Traceback"
        in json.loads((sweep.parents[2] / place / "status.json").read_text())["traceback"]
    )


def test_the_csv_has_a_row_for_each_job_the_best_first(grid: Grid) -> None:
    sweep, _ = grid
    rows = table(sweep)
    accuracies = [float(row["validation_accuracy"] or 0) for row in rows]
    assert (len(rows), accuracies) == (6, sorted(accuracies, reverse=True))
    assert [(row["status"], row["optimizer.lr"]) for row in rows[4:]] == [("failed", "1e+30")] * 2


def test_report_repeats_the_table_of_a_sweep_and_its_csv(grid: Grid) -> None:
    sweep, done = grid
    table = (sweep / "sweep.csv").read_bytes()
    (sweep / "sweep.csv").unlink()
    again = run_in_process("report", "outputs/sweeps/mine", folder=sweep.parents[2])
    written = "".join(f"outputs/sweeps/mine/report.{kind}\n" for kind in ("html", "csv", "md"))
    assert (again.returncode, again.stdout) == (0, done.stdout.partition("\n\n")[2] + written), (
        again.stderr
    )
    assert (sweep / "sweep.csv").read_bytes() == table


@pytest.mark.slow
def test_a_sweep_that_changed_adds_what_is_new_and_keeps_what_is_there(
    tmp_path: Path, mine: Path
) -> None:
    assert run_in_process(*SWEEP, "seed=0,1", folder=tmp_path).returncode == 0
    before = (job(mine, "seed=1") / "status.json").read_bytes()
    done = run_in_process(*SWEEP, "seed=1,2", folder=tmp_path)
    assert "1 of 2 jobs finished already." in done.stdout
    assert "3 runs: 3 finished" in done.stdout
    assert (job(mine, "seed=1") / "status.json").read_bytes() == before


OWN = """
from pathlib import Path
from cnnbench.models.mlp import MLP

class Net(MLP):
    def forward(self, images):
        if not images.is_meta and Path("broken").exists():
            raise ValueError("as long as there is such a file")
        return super().forward(images)
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*SWEEP, "model.name=mlp,own:Net"), marks=pytest.mark.slow),
        ("resume", "outputs/sweeps/mine", "--allow-custom-model"),
    ],
)
def test_a_failed_job_is_tried_again(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken").touch()
    assert run_in_process(*SWEEP, "model.name=mlp,own:Net", folder=tmp_path).returncode == 1
    (tmp_path / "broken").unlink()
    done = run_in_process(*command, folder=tmp_path)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_after_a_failed_job_no_more_begin_if_asked_so_and_resume_begins_them(
    forks: ForkServer, tmp_path: Path, launcher: str
) -> None:
    elsewhere = [] if launcher == "basic" else ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    sweep = [*SWEEP, "sweep_on_error=stop", "optimizer.lr=1e30,0.005,0.02"]
    done = forks.run(*sweep, *elsewhere, folder=tmp_path)
    assert done.returncode == 4
    assert "3 runs: 1 failed, 2 not begun" in done.stdout, done.stdout + done.stderr
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert "3 runs: 1 failed, 2 not begun" in done.stdout, done.stdout  # it fails again
    (tmp_path / "outputs" / "sweeps" / "mine" / "sweep.json").write_text(
        (tmp_path / "outputs" / "sweeps" / "mine" / "sweep.json")
        .read_text()
        .replace("=stop", "=continue")
    )
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert "3 runs: 2 finished, 1 failed" in done.stdout, done.stdout


def test_resume_begins_the_jobs_that_had_not_begun_with_their_bits(
    forks: ForkServer, grid: Grid, tmp_path: Path, mine: Path
) -> None:
    sweep = (*SWEEP, "optimizer.lr=0.005,0.02", "seed=0,1")
    struck = forks.run(*sweep, folder=tmp_path, faults=[(int(signal.SIGINT), "step", 6)])
    assert (struck.returncode, "4 runs: 1 interrupted, 3 not begun" in struck.stdout) == (
        130,
        True,
    ), struck.stdout
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert (done.returncode, "4 runs: 4 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    finished = [each.parent.name for each in mine.glob("*/result.json")]
    assert {name: find_differences(mine / name, grid[0] / name) for name in finished} == {
        name: [] for name in finished
    }


def test_a_sweep_that_torchrun_restarts_goes_on_whatever_it_was_named(
    forks: ForkServer, tmp_path: Path
) -> None:
    launch = {**rank_environments(1)[0], "TORCHELASTIC_RUN_ID": "launch"}
    words = ("-m", *SMALL, "seed=0,1")
    struck = forks.run(*words, folder=tmp_path, faults=[(int(signal.SIGINT), "step", 6)], **launch)
    assert struck.returncode == 130, struck.stderr
    (named_by_the_time,) = (tmp_path / "outputs" / "sweeps").iterdir()
    named_by_the_time.rename(named_by_the_time.with_name("earlier"))
    done = run_in_process(*words, folder=tmp_path, TORCHELASTIC_RESTART_COUNT="1", **launch)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert [each.name for each in (tmp_path / "outputs" / "sweeps").iterdir()] == ["earlier"]


def test_lines_of_a_file_are_jobs_and_what_is_swept_beside_them_multiplies(
    tmp_path: Path, mine: Path
) -> None:
    (tmp_path / "jobs").write_text(
        "# two\noptimizer.momentum=0.5 train.grad_clip_norm=1 # one\n\noptimizer.momentum=0.9\n"
    )
    done = run_in_process(*SWEEP, "--jobs-file", "jobs", "seed=0,1", folder=tmp_path)
    assert (done.returncode, "4 runs: 4 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert "train.grad_clip_norm" not in job(mine, "optimizer.momentum=0.9", "seed=1").name
    assert job(mine, "optimizer.momentum=0.5", "train.grad_clip_norm=1", "seed=1")


@pytest.mark.parametrize(
    ("lines", "told"),
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
def test_jobs_files_that_cannot_be_are_refused(
    tmp_path: Path, lines: str | None, told: str
) -> None:
    if lines is not None:
        (tmp_path / "jobs").write_text(lines)
    done = run_in_process(*SWEEP, "--jobs-file", "jobs", "seed=0,1", folder=tmp_path)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("flag", [["--dry-run"], ["--jobs-file", "jobs"]])
def test_flags_of_sweeps_want_a_sweep(tmp_path: Path, flag: Sequence[str]) -> None:
    done = run_in_process(*SMALL, *flag, folder=tmp_path)
    assert (done.returncode, "are for a sweep: add -m" in done.stderr) == (2, True), done.stderr


def test_a_dry_run_lists_jobs_and_time_and_starts_nothing(tmp_path: Path) -> None:
    done = run_in_process(
        *SWEEP, "seed=0,1", "train.epochs=1000,2000", "--dry-run", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    times = [
        float(each)
        for each in re.findall(r"seed=\d .* ([\d.]+) s  to run$", done.stdout, re.MULTILINE)
    ]
    assert len(times) == 4, done.stdout
    assert times[2] == pytest.approx(2 * times[0], rel=0.2)  # rounded to one or two digits
    assert "4 jobs in outputs/sweeps/mine. Nothing was started." in done.stdout
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_of_a_sweep_that_has_begun_says_how_far_it_is(grid: Grid) -> None:
    sweep, _ = grid
    command = (*SWEEP, "optimizer.lr=0.02,-1", "seed=1,2", "--dry-run")
    done = run_in_process(*command, folder=sweep.parents[2])
    lines = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert [line.rpartition("  ")[2] for line in lines] == [
        *("finished", "to run"),
        *(["would fail: optimizer.lr=-1 is out of range. It must be above 0."] * 2),
    ]
    assert done.returncode == 2
    assert "as data.test_examples=20," in done.stdout, (
        done.stdout
    )  # whose speed it was estimated by


def test_folds_are_repetitions_of_one_another(tmp_path: Path) -> None:
    done = run_in_process(*SWEEP, "data.folds=3", "data.fold=0,1,2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = re.findall(
        r"^ *([\d.]+) ± ([\d.]+) +[\d.]+ ± [\d.]+ +3 +2 ", done.stdout, re.MULTILINE
    )
    assert "mean ± standard deviation over folds" in done.stdout
    assert float(row[0]) > 0


@pytest.mark.slow
def test_jobs_side_by_side_are_those_of_one_after_another(
    grid: Grid, forks: ForkServer, tmp_path: Path, mine: Path
) -> None:
    side_by_side = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = forks.run(*SWEEP, "optimizer.lr=0.005,0.02", "seed=0,1", *side_by_side, folder=tmp_path)
    assert (done.returncode, "4 runs: 4 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    for line in (r"#3 Test accuracy", r"#3 4 of 4, about \d+ s left$"):
        assert re.search(f"^{line}", done.stdout, re.MULTILINE), done.stdout
    names = [each.parent.name for each in mine.glob("*/result.json")]
    assert {name: find_differences(mine / name, grid[0] / name) for name in names} == {
        name: [] for name in names
    }


@pytest.mark.slow
@pytest.mark.parametrize("unwritable", ["pipe", "full"])
def test_jobs_side_by_side_finish_where_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path, mine: Path, unwritable: str
) -> None:
    side_by_side = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "--plot")
    words = (*SWEEP, "optimizer.lr=1e30,0.01", *side_by_side)
    done = forks.run(*words, folder=tmp_path, unwritable=unwritable)
    assert done.returncode == 4
    states = {str(run): read_status(run)["state"] for run in mine.glob("*=*")}
    assert sorted(states.values()) == ["failed", "finished"], states


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_jobs_side_by_side_are_saved_when_their_parent_gets_a_signal_twice(
    forks: ForkServer, tmp_path: Path, mine: Path, number: int
) -> None:
    endless = [*SWEEP, "train.epochs=100000", "train.checkpoint_every.steps=null"]
    rare = ["train.checkpoint_every.epochs=100000", "seed=0,1"]
    side_by_side = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    parent = forks.start(*endless, *rare, *side_by_side, folder=tmp_path)
    while parent.is_running() and len(list(mine.glob("*/metrics.csv"))) < 2:
        time.sleep(0.05)
    parent.send(number)
    time.sleep(0.02)
    parent.send(number)
    assert parent.wait().returncode == 128 + number
    saved = [
        (path.parent / "checkpoints" / "last.pt").exists() for path in mine.glob("*/metrics.csv")
    ]
    assert saved == [True, True]


@pytest.mark.slow
def test_jobs_side_by_side_are_saved_when_their_parent_is_killed(
    forks: ForkServer, tmp_path: Path, mine: Path
) -> None:
    words = [*SWEEP, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    endless = [*words, "train.epochs=100000", "train.checkpoint_every.epochs=100000"]
    parent = forks.start(*endless, folder=tmp_path)
    while parent.is_running() and len(list(mine.glob("*/metrics.csv"))) < 2:
        time.sleep(0.05)
    again = forks.run(*endless, folder=tmp_path)
    assert (again.returncode, again.stderr.count("is in use")) == (2, 2), again.stderr
    parent.kill()
    jobs = [path.parent for path in mine.glob("*/metrics.csv")]
    give_up_at = time.monotonic() + 60
    while any(read_status(job)["state"] == "running" for job in jobs):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    assert all((job / "checkpoints" / "last.pt").exists() for job in jobs)


def test_directories_named_by_the_user_are_found_again(tmp_path: Path, mine: Path) -> None:
    sweep = (*SWEEP, "seed=0,1", "hydra.sweep.subdir=${hydra.job.num}")
    assert run_in_process(*sweep, folder=tmp_path).returncode == 0
    done = run_in_process(*sweep, folder=tmp_path)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert done.stdout.count("is finished with a test accuracy of") == 2
    assert sorted(each.parent.name for each in mine.glob("*/result.json")) == ["0", "1"]


@pytest.mark.slow
def test_a_job_elsewhere_records_the_command_that_was_typed(tmp_path: Path, mine: Path) -> None:
    done = run_command(
        [*SWEEP, "seed=0", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    environment = json.loads((job(mine, "seed=0") / "environment.json").read_text())
    assert shlex.split(environment["command"])[1:] == done.args[1:]
    assert environment["openmp"] == {"GOMP_SPINCOUNT": "20000"}


def test_benchmarks_are_not_taken_side_by_side(tmp_path: Path) -> None:
    done = run_in_process(
        "benchmark", "-m", *SMALL, "seed=0,1", "hydra/launcher=joblib", folder=tmp_path
    )
    assert (done.returncode, "measures one network after another" in done.stderr) == (2, True), (
        done.stderr
    )


def test_a_dry_run_tells_that_a_finished_job_has_other_values(tmp_path: Path) -> None:
    mine = tmp_path / "experiment" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("# @package _global_\nseed: 5\n")
    sweep = ("--config-dir", str(tmp_path), *SWEEP, "experiment=mine")
    assert run_in_process(*sweep, folder=tmp_path).returncode == 0
    mine.write_text("# @package _global_\nseed: 6\n")
    done = run_in_process(*sweep, "--dry-run", folder=tmp_path)
    assert (
        done.returncode,
        "holds a run with other values: seed=5 instead of 6" in done.stdout,
    ) == (2, True), done


@pytest.mark.slow
def test_resume_finds_the_groups_of_the_user(forks: ForkServer, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nseed: 5\n")
    struck = forks.run(
        *("--config-dir", "mine", *SWEEP, "experiment=mine"),
        folder=tmp_path,
        faults=[(int(signal.SIGINT), "step", 3)],
    )
    assert struck.returncode == 130, struck.stderr
    done = run_in_process("resume", "outputs/sweeps/mine", "--config-dir", "mine", folder=tmp_path)
    assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )


PROPOSED = (
    *SWEEP,
    "experiment=claims/weight_decay",
)  # which varies the decay, 0 and 0.001, and the seed, 0 to 2


def decays_and_seeds(done: Done) -> list[tuple[str, ...]]:
    """Of each job that a dry run lists."""
    return re.findall(
        r"^#\d+ .*optimizer\.weight_decay=(\S+) seed=(\d) ", done.stdout, re.MULTILINE
    )


def test_a_sweep_varies_what_its_experiment_proposes(tmp_path: Path) -> None:
    done = run_in_process(*PROPOSED, "--dry-run", folder=tmp_path)
    assert decays_and_seeds(done) == [
        (decay, seed) for decay in ("0", "0.001") for seed in "012"
    ], done.stdout


def test_a_sweep_that_an_experiment_proposes_is_resumed(
    forks: ForkServer, tmp_path: Path, mine: Path
) -> None:
    faults = [(int(signal.SIGINT), "step", 3)]
    assert forks.run(*PROPOSED, "seed=0", folder=tmp_path, faults=faults).returncode == 130
    done = run_in_process("resume", "outputs/sweeps/mine", folder=tmp_path)
    assert (done.returncode, "2 runs: 2 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert job(mine, "experiment=claims/weight_decay", "optimizer.weight_decay=0").is_dir()
