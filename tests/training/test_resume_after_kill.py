"""Runs that are killed repeatedly, at any moment, end with the bits of an uninterrupted run."""

import functools
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import resume_arguments
from helpers.compare_runs import find_differences
from helpers.fault_injection import Fault
from helpers.fork_server import ForkServer

from cnnbench.runs.reading import read_status
from cnnbench.training import checkpoint

SMALL = (
    "data=sample",
    "data.train_examples=250",
    "data.validation=90",
    "data.test_examples=90",
    "device=cpu",
    "train.batch_size=32",
    "train.epochs=3",
    "train.checkpoint_every.steps=3",
)
RECIPES = {
    "batch_norm_dropout_average": (
        "model=densenet40",
        "model.depth=7",
        "model.growth_rate=4",
        "model.dropout=0.2",
        "augment=hflip_translate",
        "optimizer=adamw",
        "optimizer.lr=0.01",
        "scheduler=cosine",
        "train.ema_decay=0.9",
    ),
    "momentum_measured_on_the_test_set": (
        "model=bn_lenet",
        "data.validation=0",
        "optimizer=momentum",
        "optimizer.lr=0.1",
        "augment=cutmix",
        "scheduler=step",
        "train.checkpoint_every.epochs=null",
    ),
    "muon_mixed_images_skipping": (
        "model=lenet_relu",
        "augment=mixup",
        "augment.random_erasing=0.5",
        "optimizer=muon",
        "optimizer.lr=0.02",
        "scheduler=onecycle",
        "train.on_nonfinite_loss=skip",
        "train.grad_clip_norm=1",
    ),
    "micro_batches_balanced_ended_by_patience": (
        "model=lenet_relu",
        "data.class_weights=balanced",
        "optimizer=momentum",
        "optimizer.lr=0.5",
        "train.epochs=8",  # patience ends it after 5
        "train.accumulate=3",
        "train.grad_clip_norm=1",
        "train.select_by=loss",
        "train.patience=1",
    ),
}

KILL, KILL_IN_WRITE = signal.SIGKILL, signal.SIGXFSZ
KILLED = (-KILL, -KILL_IN_WRITE)

GetRun = Callable[[str], Path]


@pytest.fixture(scope="module")
def uninterrupted_run(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> GetRun:
    """Return a function that gives the directory of an uninterrupted run of a recipe."""

    @functools.cache
    def get_run(recipe: str) -> Path:
        folder = tmp_path_factory.mktemp(recipe)
        done = forks.run(*SMALL, *RECIPES[recipe], "hydra.run.dir=run", folder=folder)
        assert done.returncode == 0, done.stderr
        return folder / "run"

    return get_run


def describe_state(run: Path) -> str:
    """Return the state and the progress of a killed run; fail if its files are damaged."""
    if not run.exists():
        return "nothing"
    state: str = read_status(run)["state"]
    assert state in ("interrupted", "finished")
    last, problems = checkpoint.load_newest(run / "checkpoints")
    assert not problems
    if last is None:
        return state
    return f"{state} after epoch {last['epoch']} and {last['step']} steps"


def kill(forks: ForkServer, folder: Path, arguments: list[str], moment: float | Fault) -> int:
    """Run a command that is killed after some seconds or by a strike; return its exit code."""
    if not isinstance(moment, float):
        return forks.run(*arguments, folder=folder, faults=[moment]).returncode
    running = forks.start(*arguments, folder=folder)
    time.sleep(moment)
    return running.kill().returncode


def choose_moment(chance: random.Random) -> float | Fault:
    """Return seconds since the start, or a strike at a step, evaluation batch or disk change.

    No moment is late in a run, so that most runs are killed as often as allowed.
    """
    kinds = ("seconds", 0), ("step", 10), ("evaluation", 5), ("file", 30), ("checkpoint", 16)
    kind, max_count = chance.choice(kinds)
    if kind == "seconds":
        return chance.uniform(0.05, 0.6)
    number = chance.choice([KILL, KILL_IN_WRITE]) if kind in ("file", "checkpoint") else KILL
    return number, kind, chance.randint(1, max_count)


def kill_repeatedly(
    forks: ForkServer, folder: Path, recipe: str, uninterrupted: Path, seed: int, max_kills: int
) -> None:
    """Resume and kill a run up to `max_kills` times; compare the bits of its end."""
    chance, run, job = random.Random(seed), folder / "run", (*SMALL, *RECIPES[recipe])
    code, had_checkpoint, moments = -KILL, False, []
    while code in KILLED and len(moments) < max_kills:
        moment = choose_moment(chance)
        code = kill(forks, folder, resume_arguments(run, job), moment)
        state = describe_state(run)
        moments.append(f"{moment}: {state}")
        report = f"{recipe}, seed {seed}, killed at\n" + "\n".join(moments)
        assert code in (0, *KILLED), report
        has_checkpoint = " after " in state
        assert has_checkpoint or not had_checkpoint, f"The checkpoint is lost. {report}"
        had_checkpoint = has_checkpoint
    done = forks.run(*resume_arguments(run, job), folder=folder)
    assert done.returncode == 0, f"{done.stderr}\n{report}"
    assert find_differences(run, uninterrupted) == [], report
    assert read_status(run)["state"] == "finished", report


@pytest.mark.parametrize(
    ("seed", "recipe"),
    [
        pytest.param(seed, recipe, marks=pytest.mark.slow if "muon" in recipe else ())
        for seed, recipe in enumerate(RECIPES)
    ],
)
def test_run_killed_four_times_ends_with_the_same_bits(
    forks: ForkServer, uninterrupted_run: GetRun, tmp_path: Path, recipe: str, seed: int
) -> None:
    kill_repeatedly(forks, tmp_path, recipe, uninterrupted_run(recipe), seed, max_kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 18))
@pytest.mark.parametrize("recipe", RECIPES)
def test_run_killed_six_times_ends_with_the_same_bits(
    forks: ForkServer, uninterrupted_run: GetRun, tmp_path: Path, recipe: str, seed: int
) -> None:
    kill_repeatedly(forks, tmp_path, recipe, uninterrupted_run(recipe), seed, max_kills=6)


@pytest.mark.parametrize(
    ("seed", "recipe"),
    [
        pytest.param(seed, recipe, marks=() if seed == 21 else pytest.mark.slow)
        for seed, recipe in enumerate([*RECIPES] * 4, start=20)
    ],
)
def test_same_command_three_times_killed_twice_ends_with_the_same_bits(
    forks: ForkServer, uninterrupted_run: GetRun, tmp_path: Path, recipe: str, seed: int
) -> None:
    chance, run = random.Random(seed), tmp_path / "run"
    command, moments = [*SMALL, *RECIPES[recipe], "hydra.run.dir=run"], []
    for _ in range(2):
        moment = choose_moment(chance)
        code = kill(forks, tmp_path, command, moment)
        moments.append(f"{moment}: {describe_state(run)}")
        assert code in (0, *KILLED), moments
    done = forks.run(*command, folder=tmp_path)
    assert done.returncode == 0, (done.stderr, moments)
    assert find_differences(run, uninterrupted_run(recipe)) == [], moments
    assert read_status(run)["state"] == "finished"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [KILL, KILL_IN_WRITE])
def test_same_command_after_a_kill_at_any_early_change_of_the_disk_ends_with_the_same_bits(
    forks: ForkServer, uninterrupted_run: GetRun, tmp_path: Path, number: int
) -> None:
    recipe = "momentum_measured_on_the_test_set"
    for count in range(1, 16):
        (tmp_path / str(count)).mkdir()
        command, folder = [*SMALL, *RECIPES[recipe], "hydra.run.dir=run"], tmp_path / str(count)
        assert kill(forks, folder, command, (number, "file", count)) == -number
        report = f"killed at change {count} of the disk: {describe_state(folder / 'run')}"
        done = forks.run(*command, folder=folder)
        assert done.returncode == 0, f"{done.stderr}\n{report}"
        assert find_differences(folder / "run", uninterrupted_run(recipe)) == [], report


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [KILL, KILL_IN_WRITE])
def test_run_killed_at_any_change_of_the_disk_ends_with_the_same_bits(
    forks: ForkServer, uninterrupted_run: GetRun, tmp_path: Path, number: int
) -> None:
    recipe, count, code = "batch_norm_dropout_average", 0, -number
    job = (*SMALL, *RECIPES[recipe])
    while code == -number:
        count += 1
        run = tmp_path / str(count) / "run"
        run.parent.mkdir()
        code = kill(forks, run.parent, resume_arguments(run, job), (number, "file", count))
        report = f"killed at change {count} of the disk: {describe_state(run)}"
        done = forks.run(*resume_arguments(run, job), folder=run.parent)
        assert done.returncode == 0, f"{done.stderr}\n{report}"
        assert find_differences(run, uninterrupted_run(recipe)) == [], report
    assert count > 50
