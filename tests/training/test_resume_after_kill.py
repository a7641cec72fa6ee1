"""Runs that are killed, anywhere and again and again, and end as if they never had been."""

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
    *(
        "data=sample",
        "data.train_examples=250",
        "data.validation=90",
        "data.test_examples=90",
        "device=cpu",
    ),
    *("train.batch_size=32", "train.epochs=3", "train.checkpoint_every.steps=3"),
)
RECIPES = {
    "batch_norm_dropout_average": (
        *(
            "model=densenet40",
            "model.depth=7",
            "model.growth_rate=4",
            "model.dropout=0.2",
            "augment=hflip_translate",
        ),
        *("optimizer=adamw", "optimizer.lr=0.01", "scheduler=cosine", "train.ema_decay=0.9"),
    ),
    "momentum_measured_on_the_test_set": (
        *(
            "model=bn_lenet",
            "data.validation=0",
            "optimizer=momentum",
            "optimizer.lr=0.1",
            "augment=cutmix",
        ),
        *("scheduler=step", "train.checkpoint_every.epochs=null"),
    ),
    "muon_mixed_images_skipping": (
        *(
            "model=lenet_relu",
            "augment=mixup",
            "augment.random_erasing=0.5",
            "optimizer=muon",
            "optimizer.lr=0.02",
        ),
        *("scheduler=onecycle", "train.on_nonfinite_loss=skip", "train.grad_clip_norm=1"),
    ),
}

KILL, IN_WRITING = signal.SIGKILL, signal.SIGXFSZ
KILLED = (-KILL, -IN_WRITING)

Reference = Callable[[str], Path]


@pytest.fixture(scope="module")
def reference(forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The directory of a run that nothing interrupts, by the name of its recipe."""
    made: dict[str, Path] = {}

    def get(recipe: str) -> Path:
        if recipe not in made:
            folder = tmp_path_factory.mktemp(recipe)
            done = forks.run(*SMALL, *RECIPES[recipe], "hydra.run.dir=run", folder=folder)
            assert done.returncode == 0, done.stderr
            made[recipe] = folder / "run"
        return made[recipe]

    return get


def what_is_left(run: Path) -> str:
    """The state of a killed run in words; fails where it is not as it should be."""
    if not run.exists():
        return "nothing"
    status = read_status(run)
    assert status["state"] in ("interrupted", "finished")
    last, problems = checkpoint.load_newest(run / "checkpoints")
    assert not problems
    return status["state"] + (
        "" if last is None else f" after epoch {last['epoch']} and {last['step']} steps"
    )


def kill(forks: ForkServer, folder: Path, arguments: list[str], moment: float | Fault) -> int:
    """Run a command, killed after so many seconds or by a strike, if it is not done before; returns its exit code."""
    if not isinstance(moment, float):
        return forks.run(*arguments, folder=folder, faults=[moment]).returncode
    running = forks.start(*arguments, folder=folder)
    time.sleep(moment)
    return running.kill().returncode


def any_moment(chance: random.Random) -> float | Fault:
    """Seconds since the start, or a strike at a step, a batch of an evaluation or a change of the disk.

    None is late in a run, so that most runs are killed as often as they may be, further on each time.
    """
    kinds = ("seconds", 0), ("step", 10), ("evaluation", 5), ("file", 30), ("checkpoint", 16)
    kind, most = chance.choice(kinds)
    if kind == "seconds":
        return chance.uniform(0.05, 0.6)
    number = chance.choice([KILL, IN_WRITING]) if kind in ("file", "checkpoint") else KILL
    return number, kind, chance.randint(1, most)


def kill_again_and_again(
    forks: ForkServer, folder: Path, recipe: str, unharmed: Path, seed: int, kills: int
) -> None:
    chance, run, job, moments = random.Random(seed), folder / "run", (*SMALL, *RECIPES[recipe]), []
    code, had = -KILL, False
    while code in KILLED and len(moments) < kills:
        moment = any_moment(chance)
        code = kill(forks, folder, resume_arguments(run, job), moment)
        left = what_is_left(run)
        moments.append(f"{moment}: {left}")
        story = f"{recipe}, seed {seed}, killed at\n" + "\n".join(moments)
        assert code in (0, *KILLED), story
        assert not (had and " after " not in left), f"No checkpoint any more. {story}"
        had = " after " in left
    done = forks.run(*resume_arguments(run, job), folder=folder)
    assert done.returncode == 0, f"{done.stderr}\n{story}"
    assert find_differences(run, unharmed) == [], story
    assert read_status(run)["state"] == "finished", story


@pytest.mark.parametrize(
    ("seed", "recipe"),
    [
        pytest.param(seed, recipe, marks=pytest.mark.slow if "muon" in recipe else ())
        for seed, recipe in enumerate(RECIPES)
    ],
)
def test_a_run_killed_four_times_ends_with_the_same_bits(
    forks: ForkServer, reference: Reference, tmp_path: Path, recipe: str, seed: int
) -> None:
    kill_again_and_again(forks, tmp_path, recipe, reference(recipe), seed, kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 18))
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_killed_six_times_ends_with_the_same_bits(
    forks: ForkServer, reference: Reference, tmp_path: Path, recipe: str, seed: int
) -> None:
    kill_again_and_again(forks, tmp_path, recipe, reference(recipe), seed, kills=6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [KILL, IN_WRITING])
def test_a_run_killed_at_any_change_of_the_disk_ends_with_the_same_bits(
    forks: ForkServer, reference: Reference, tmp_path: Path, number: int
) -> None:
    recipe, count, code = "batch_norm_dropout_average", 0, -number
    job = (*SMALL, *RECIPES[recipe])
    while code == -number:
        count += 1
        run = tmp_path / str(count) / "run"
        run.parent.mkdir()
        code = kill(forks, run.parent, resume_arguments(run, job), (number, "file", count))
        left = what_is_left(run)
        done = forks.run(*resume_arguments(run, job), folder=run.parent)
        assert done.returncode == 0, f"{done.stderr}\nkilled at change {count}, which left {left}"
        assert find_differences(run, reference(recipe)) == [], (
            f"killed at change {count}, which left {left}"
        )
    assert count > 50
