"""Signals: the step is finished and saved, and the command that is printed goes on from there."""

import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import Command, resume_arguments
from helpers.compare_runs import find_differences
from helpers.fork_server import ForkServer

from cnnbench.cli import main
from cnnbench.runs.reading import read_status

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
Done = subprocess.CompletedProcess[str]

# 7 steps an epoch, 3 batches of the validation set after each, then 2 of the test set
JOB = (
    *(
        "model=bn_lenet",
        "data=sample",
        "data.train_examples=200",
        "data.validation=90",
        "data.test_examples=60",
    ),
    *(
        "train.batch_size=32",
        "train.epochs=3",
        "train.ema_decay=0.9",
        "augment=hflip_translate",
        "scheduler=cosine",
    ),
    *("optimizer=momentum", "optimizer.lr=0.1", "device=cpu"),
)
MOMENTS = {
    "mid_epoch": ("step", 10),
    "validation": ("evaluation", 5),
    "final_evaluation": ("evaluation", 11),
}


@pytest.fixture(scope="module")
def unharmed(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("unharmed")
    done = forks.run(*JOB, "hydra.run.dir=run", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def printed_command(done: Done) -> list[str]:
    """The arguments of the command that goes on, as a person would copy it from the end of stderr."""
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("To resume: "))
    program, *arguments = shlex.split(line.removeprefix("To resume: "))
    assert program == "cnnbench"
    return arguments


def test_sigterm_before_training_ends_the_command_with_its_code(
    within: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(main.COMMANDS, "models", lambda arguments: signal.raise_signal(TERM))
    done = within("models")
    assert (done.returncode, capfd.readouterr().err) == (143, "cnnbench: terminated\n")


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [
        (INT, 130, "mid_epoch"),
        (TERM, 143, "validation"),
        (INT, 130, "final_evaluation"),
        pytest.param(TERM, 143, "mid_epoch", marks=pytest.mark.slow),
        pytest.param(INT, 130, "validation", marks=pytest.mark.slow),
        pytest.param(TERM, 143, "final_evaluation", marks=pytest.mark.slow),
    ],
)
def test_what_a_signal_prints_goes_on_to_the_same_bits(
    forks: ForkServer, tmp_path: Path, unharmed: Path, number: int, code: int, moment: str
) -> None:
    struck = forks.run(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=[(number, *MOMENTS[moment])]
    )
    assert (struck.returncode, read_status(tmp_path / "run")["state"]) == (code, "interrupted"), (
        struck.stderr
    )
    assert "Traceback" not in struck.stderr
    done = forks.run(*printed_command(struck), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", unharmed) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGHUP, 129),
        (signal.SIGUSR1, 138),
        (signal.SIGUSR2, 140),
        (signal.SIGXCPU, 152),
        (signal.SIGALRM, 142),
    ],
)
def test_each_signal_that_would_kill_saves_and_logs_the_command_that_resumes(
    forks: ForkServer, tmp_path: Path, number: int, code: int
) -> None:
    faults = [(number, "step", 10)]
    struck = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert (struck.returncode, read_status(tmp_path / "run")["state"]) == (code, "interrupted")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "checkpoints/last.pt holds epoch 1 and epoch 2 up to step 3." in log
    assert "To resume: cnnbench resume run" in log


def test_a_closed_terminal_loses_nothing(forks: ForkServer, tmp_path: Path, unharmed: Path) -> None:
    faults = [(signal.SIGHUP, "step", 10)]
    closed = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults, unwritable="pipe")
    assert closed.returncode == 129
    done = forks.run("resume", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", unharmed) == []


def test_an_ignored_hangup_stays_ignored(forks: ForkServer, tmp_path: Path) -> None:
    ignored = [signal.SIGHUP]
    faults = [(signal.SIGHUP, "step", 10)]
    done = forks.run(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults, ignored_signals=ignored
    )
    assert done.returncode == 0, done.stderr


def is_suspended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the state of a process in /proc")
def test_the_time_in_which_a_process_was_suspended_is_not_training(
    forks: ForkServer, tmp_path: Path
) -> None:
    running = forks.start(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=[(signal.SIGSTOP, "step", 10)]
    )
    while running.is_running() and not is_suspended(running.pid):
        time.sleep(0.01)
    time.sleep(1)
    running.send(signal.SIGCONT)
    assert running.wait().returncode == 0
    wall_s = json.loads((tmp_path / "run" / "result.json").read_text())["wall_s"]
    assert wall_s.pop("total") - sum(wall_s.values()) > 0.9


@pytest.mark.parametrize("unwritable", ["full", "pipe"])
@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143)])
def test_a_signal_saves_where_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path, number: int, code: int, unwritable: str
) -> None:
    faults = [(number, "step", 10)]
    struck = forks.run(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults, unwritable=unwritable
    )
    assert (struck.returncode, read_status(tmp_path / "run")["state"]) == (code, "interrupted")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "checkpoints/last.pt holds epoch 1 and epoch 2 up to step 3." in log


@pytest.mark.parametrize("unwritable", ["full", "pipe"])
def test_a_run_is_finished_where_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path, unwritable: str
) -> None:
    done = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, unwritable=unwritable)
    assert done.returncode == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_a_signal_ends_a_sweep_where_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path
) -> None:
    faults = [(signal.SIGHUP, "step", 10)]
    sweep = forks.run(
        *("-m", *JOB, "sweep=x", "seed=1,2"), folder=tmp_path, faults=faults, unwritable="pipe"
    )
    assert sweep.returncode == 129
    folder = tmp_path / "outputs" / "sweeps" / "x"
    (job,) = folder.glob("*/status.json")
    assert read_status(job.parent)["state"] == "interrupted"
    assert "holds epoch 1 and epoch 2 up to step 3." in (job.parent / "train.log").read_text()
    assert (folder / "sweep.csv").exists()


def test_what_only_prints_ends_with_its_reader(forks: ForkServer, tmp_path: Path) -> None:
    for command in (["models"], ["--cfg", "job"]):
        done = forks.run(*command, folder=tmp_path, unwritable="pipe")
        assert done.returncode == 141, command


def test_a_signal_in_an_epoch_is_followed_by_one_more_step_at_most(
    forks: ForkServer, tmp_path: Path
) -> None:
    struck = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=[(INT, "step", 10)])
    assert "checkpoints/last.pt holds epoch 1 and epoch 2 up to step 3." in struck.stdout


@pytest.mark.parametrize(
    "second",  # as the checkpoint is copied, or put into place; just before, just after, and as the status is
    [
        ("save", 2),
        ("file", 36),
        *(pytest.param(("file", n), marks=pytest.mark.slow) for n in (33, 37, 39)),
    ],
)
def test_a_second_sigint_ends_at_once_and_harms_nothing(
    forks: ForkServer, tmp_path: Path, unharmed: Path, second: tuple[str, int]
) -> None:
    faults = [(INT, "step", 10), (INT, *second)]
    struck = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert struck.returncode == 130, struck.stderr
    assert "Traceback" not in struck.stderr
    assert read_status(tmp_path / "run")["state"] == "interrupted"
    done = forks.run(*printed_command(struck), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", unharmed) == []


def signal_at_random(forks: ForkServer, folder: Path, unharmed: Path, seed: int) -> None:
    """Signals from outside, anywhere in the life of a run, up to three before it may finish.

    One that comes before the command looks out for it, or while Python ends, ends it with the signal itself. To a
    shell that is the same code.
    """
    chance, run, story = random.Random(seed), folder / "run", [f"seed {seed}"]
    for _ in range(3):
        number, code = chance.choice([(INT, 130), (TERM, 143)])
        wait_s = chance.uniform(0.05, 1.0)
        running = forks.start(*resume_arguments(run, JOB), folder=folder)
        time.sleep(wait_s)
        running.send(number)
        done = running.wait()
        state = read_status(run)["state"] if run.exists() else "nothing"
        story.append(f"{wait_s:.3f} s, signal {number}: {done.returncode}, {state}\n{done.stderr}")
        assert done.returncode in (0, code, -number), "\n".join(story)
        # a signal in the middle of open() leaves a file unclosed, of which only tests are warned
        is_quiet = "Traceback" not in done.stderr or "ResourceWarning: unclosed file" in done.stderr
        clear = done.returncode == code and is_quiet
        assert clear or state in ("nothing", "finished"), "\n".join(story)
    done = forks.run(*resume_arguments(run, JOB), folder=folder)
    assert done.returncode == 0, "\n".join([*story, done.stderr])
    assert find_differences(run, unharmed) == [], "\n".join(story)


def test_a_signal_after_the_command_finds_what_it_found_before(within: Command) -> None:
    before = signal.getsignal(TERM)
    within("--version")
    assert signal.getsignal(TERM) == before


def test_signals_at_random_moments_leave_the_same_bits(
    forks: ForkServer, tmp_path: Path, unharmed: Path
) -> None:
    signal_at_random(forks, tmp_path, unharmed, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 16))
def test_signals_at_many_random_moments_leave_the_same_bits(
    forks: ForkServer, tmp_path: Path, unharmed: Path, seed: int
) -> None:
    signal_at_random(forks, tmp_path, unharmed, seed)


Sweep = tuple[Done, Path, Path]
SWEEP = ("-m", *JOB, "seed=0,1,2")


@pytest.fixture(scope="module")
def sweep(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep interrupted in its second job, gone on with as printed, killed in its third, and gone on with again.

    What the last command printed, the folder of that sweep, and of one that nothing interrupted.
    """
    folder = tmp_path_factory.mktemp("sweep")
    unharmed = forks.run(*SWEEP, "sweep=unharmed", folder=folder)
    assert unharmed.returncode == 0, unharmed.stderr
    struck = forks.run(*SWEEP, folder=folder, faults=[(INT, "step", 21 + 10)])
    assert struck.returncode == 130, struck.stderr
    killed = forks.run(*printed_command(struck), folder=folder, faults=[(KILL, "step", 11 + 10)])
    assert killed.returncode == -KILL, killed.stderr
    done = forks.run(*printed_command(struck), folder=folder)
    assert done.returncode == 0, done.stderr
    sweeps = folder / "outputs" / "sweeps"
    (ours,) = (each for each in sweeps.iterdir() if each.name != "unharmed")
    return done, ours, sweeps / "unharmed"


@pytest.mark.slow
def test_the_command_printed_in_a_sweep_ends_with_the_same_bits_in_all_jobs(sweep: Sweep) -> None:
    _, ours, unharmed = sweep
    jobs = {each.name for each in unharmed.iterdir() if each.is_dir()}
    assert len(jobs) == 3
    assert {job: find_differences(ours / job, unharmed / job) for job in jobs} == {
        job: [] for job in jobs
    }


@pytest.mark.slow
def test_a_sweep_that_goes_on_trains_no_finished_job_again(sweep: Sweep) -> None:
    done, *_ = sweep
    assert "2 of 3 jobs finished already." in done.stdout
    assert done.stdout.count("Test accuracy") == 1
