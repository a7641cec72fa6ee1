"""Runs that get signals: they save a checkpoint and print the command that resumes them."""

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

# 7 steps per epoch, then 3 batches of the validation set; at the end 2 batches of the test set
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
def uninterrupted(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run without interruptions."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = forks.run(*JOB, "hydra.run.dir=run", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def printed_command(done: Done) -> list[str]:
    """Return the arguments of the resume command at the end of stderr."""
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
def test_printed_command_resumes_to_the_same_bits(
    forks: ForkServer, tmp_path: Path, uninterrupted: Path, number: int, code: int, moment: str
) -> None:
    interrupted = forks.run(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=[(number, *MOMENTS[moment])]
    )
    assert (interrupted.returncode, read_status(tmp_path / "run")["state"]) == (
        code,
        "interrupted",
    ), interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    done = forks.run(*printed_command(interrupted), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", uninterrupted) == []


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
def test_fatal_signals_save_and_log_the_resume_command(
    forks: ForkServer, tmp_path: Path, number: int, code: int
) -> None:
    faults = [(number, "step", 10)]
    interrupted = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert (interrupted.returncode, read_status(tmp_path / "run")["state"]) == (code, "interrupted")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "checkpoints/last.pt holds epoch 1 and epoch 2 up to step 3." in log
    assert "To resume: cnnbench resume run" in log


def test_run_in_a_closed_terminal_is_resumed_to_the_same_bits(
    forks: ForkServer, tmp_path: Path, uninterrupted: Path
) -> None:
    faults = [(signal.SIGHUP, "step", 10)]
    closed = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults, unwritable="pipe")
    assert closed.returncode == 129
    done = forks.run("resume", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", uninterrupted) == []


def test_ignored_sighup_stays_ignored(forks: ForkServer, tmp_path: Path) -> None:
    ignored = [signal.SIGHUP]
    faults = [(signal.SIGHUP, "step", 10)]
    done = forks.run(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults, ignored_signals=ignored
    )
    assert done.returncode == 0, done.stderr


def is_suspended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the state of a process in /proc")
def test_suspended_time_is_not_training_time(forks: ForkServer, tmp_path: Path) -> None:
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
def test_signal_saves_a_checkpoint_when_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path, number: int, code: int, unwritable: str
) -> None:
    faults = [(number, "step", 10)]
    interrupted = forks.run(
        *JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults, unwritable=unwritable
    )
    assert (interrupted.returncode, read_status(tmp_path / "run")["state"]) == (code, "interrupted")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "checkpoints/last.pt holds epoch 1 and epoch 2 up to step 3." in log


@pytest.mark.parametrize("unwritable", ["full", "pipe"])
def test_run_finishes_when_nothing_can_be_printed(
    forks: ForkServer, tmp_path: Path, unwritable: str
) -> None:
    done = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, unwritable=unwritable)
    assert done.returncode == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_signal_ends_a_sweep_when_nothing_can_be_printed(forks: ForkServer, tmp_path: Path) -> None:
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


def test_printing_command_ends_with_its_reader(forks: ForkServer, tmp_path: Path) -> None:
    for command in (["models"], ["--cfg", "job"]):
        done = forks.run(*command, folder=tmp_path, unwritable="pipe")
        assert done.returncode == 141, command


def test_signal_in_an_epoch_ends_the_run_after_the_step(forks: ForkServer, tmp_path: Path) -> None:
    interrupted = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=[(INT, "step", 10)])
    assert "checkpoints/last.pt holds epoch 1 and epoch 2 up to step 3." in interrupted.stdout


# The second signal comes while the checkpoint is copied, just before or after it replaces the old
# one, or while the status is written.
@pytest.mark.parametrize(
    "second",
    [
        ("save", 2),
        ("file", 36),
        *(pytest.param(("file", n), marks=pytest.mark.slow) for n in (33, 37, 39)),
    ],
)
def test_second_sigint_ends_at_once_without_damage(
    forks: ForkServer, tmp_path: Path, uninterrupted: Path, second: tuple[str, int]
) -> None:
    faults = [(INT, "step", 10), (INT, *second)]
    interrupted = forks.run(*JOB, "hydra.run.dir=run", folder=tmp_path, faults=faults)
    assert interrupted.returncode == 130, interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert read_status(tmp_path / "run")["state"] == "interrupted"
    done = forks.run(*printed_command(interrupted), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(tmp_path / "run", uninterrupted) == []


def run_with_random_signals(
    forks: ForkServer, folder: Path, uninterrupted: Path, seed: int
) -> None:
    """Send up to three signals to a run at random moments, and then let it finish.

    A signal before the command has its handlers, or while Python ends, kills the process. A shell
    reports the same code for that.
    """
    generator, run, story = random.Random(seed), folder / "run", [f"seed {seed}"]
    for _ in range(3):
        number, code = generator.choice([(INT, 130), (TERM, 143)])
        wait_s = generator.uniform(0.05, 1.0)
        running = forks.start(*resume_arguments(run, JOB), folder=folder)
        time.sleep(wait_s)
        running.send(number)
        done = running.wait()
        state = read_status(run)["state"] if run.exists() else "nothing"
        story.append(f"{wait_s:.3f} s, signal {number}: {done.returncode}, {state}\n{done.stderr}")
        assert done.returncode in (0, code, -number), "\n".join(story)
        # A signal within open() leaves a file unclosed. Only tests show this warning.
        is_quiet = "Traceback" not in done.stderr or "ResourceWarning: unclosed file" in done.stderr
        is_clear = done.returncode == code and is_quiet
        assert is_clear or state in ("nothing", "finished"), "\n".join(story)
    done = forks.run(*resume_arguments(run, JOB), folder=folder)
    assert done.returncode == 0, "\n".join([*story, done.stderr])
    assert find_differences(run, uninterrupted) == [], "\n".join(story)


def test_handlers_are_restored_after_a_command(within: Command) -> None:
    before = signal.getsignal(TERM)
    within("--version")
    assert signal.getsignal(TERM) == before


def test_signals_at_random_moments_do_not_change_the_bits(
    forks: ForkServer, tmp_path: Path, uninterrupted: Path
) -> None:
    run_with_random_signals(forks, tmp_path, uninterrupted, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 16))
def test_signals_at_many_random_moments_do_not_change_the_bits(
    forks: ForkServer, tmp_path: Path, uninterrupted: Path, seed: int
) -> None:
    run_with_random_signals(forks, tmp_path, uninterrupted, seed)


Sweep = tuple[Done, Path, Path]
SWEEP = ("-m", *JOB, "seed=0,1,2")


@pytest.fixture(scope="module")
def sweep(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Interrupt a sweep in its second job, resume it, kill it in its third job, and resume it.

    Return the output of the last command, the folder of the sweep, and that of a sweep without
    interruptions.
    """
    folder = tmp_path_factory.mktemp("sweep")
    uninterrupted = forks.run(*SWEEP, "sweep=uninterrupted", folder=folder)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    interrupted = forks.run(*SWEEP, folder=folder, faults=[(INT, "step", 21 + 10)])
    assert interrupted.returncode == 130, interrupted.stderr
    killed = forks.run(
        *printed_command(interrupted), folder=folder, faults=[(KILL, "step", 11 + 10)]
    )
    assert killed.returncode == -KILL, killed.stderr
    done = forks.run(*printed_command(interrupted), folder=folder)
    assert done.returncode == 0, done.stderr
    sweeps = folder / "outputs" / "sweeps"
    (ours,) = (path for path in sweeps.iterdir() if path.name != "uninterrupted")
    return done, ours, sweeps / "uninterrupted"


@pytest.mark.slow
def test_printed_command_resumes_a_sweep_to_the_same_bits(sweep: Sweep) -> None:
    _, ours, uninterrupted = sweep
    jobs = {path.name for path in uninterrupted.iterdir() if path.is_dir()}
    assert len(jobs) == 3
    found = {job: find_differences(ours / job, uninterrupted / job) for job in jobs}
    assert found == {job: [] for job in jobs}


@pytest.mark.slow
def test_resumed_sweep_skips_finished_jobs(sweep: Sweep) -> None:
    done, *_ = sweep
    assert "2 of 3 jobs finished already." in done.stdout
    assert done.stdout.count("Test accuracy") == 1
