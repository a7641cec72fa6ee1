"""Run directories with damaged files: they go on to the same bits, or are refused and left as they are."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, STATES, Runs, read_checkpoints, read_files

QUICK, ALL = 36, 348  # cases; in the quick ones each file of each state is damaged once


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file as disks and transfers do; returns what was done."""
    content = bytearray(path.read_bytes())
    how = chance.choice(["flip", "flip", "truncate", "zeros"])
    at = chance.randrange(len(content) + (how == "truncate")) if content else 0
    if how == "truncate" or not content:
        del content[at:]
    elif how == "flip":
        for place in (at, *chance.choices(range(len(content)), k=chance.choice([0, 0, 4]))):
            content[place] ^= 1 << chance.randrange(8)
    else:
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    path.write_bytes(content)
    return f"{how} at {at} of {path}"


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=() if seed < QUICK else pytest.mark.slow) for seed in range(ALL)],
)
def test_a_damaged_file_is_survived_with_the_same_bits_or_refused_with_nothing_overwritten(
    seed: int, runs: Runs, tmp_path: Path
) -> None:
    state = list(STATES)[seed % len(STATES)]
    run = runs.copy(state, tmp_path / "run")
    files = sorted(path for path in run.rglob("*") if path.is_file())
    told = damage(files[seed // len(STATES) % len(files)], random.Random(seed))
    before = read_checkpoints(run)
    done = run_in_process("resume", "run", *runs.changes(state), folder=tmp_path)
    told = f"seed {seed}, {state}, {told}:\n{done.stdout}{done.stderr}"
    assert done.returncode in (0, 2, 5), told
    assert "Traceback" not in told
    if done.returncode == 0:
        assert find_differences(run, runs.uninterrupted(state)) == [], told
    else:
        assert read_checkpoints(run) == before, told


def break_file(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("is_gone", [False, True], ids=["damaged", "gone"])
def test_the_previous_checkpoint_is_used_where_the_last_is_damaged_or_gone(
    is_gone: bool, state: str, runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(state, tmp_path / "run")
    last = run / "checkpoints" / "last.pt"
    last.unlink() if is_gone else break_file(last)
    done = run_in_process("resume", "run", *runs.changes(state), folder=tmp_path)
    assert (done.returncode, "last.pt is damaged" in done.stdout) == (0, not is_gone), done.stderr
    assert find_differences(run, runs.uninterrupted(state)) == []


@pytest.mark.parametrize(
    ("state", "damaged"),
    [*((state, ("last", "previous")) for state in STATES), ("in_second_epoch", ("best",))],
)
def test_without_a_sound_checkpoint_nothing_in_the_directory_changes(
    state: str, damaged: Sequence[str], runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(state, tmp_path / "run")
    for name in damaged:
        break_file(run / "checkpoints" / f"{name}.pt")
    before = read_files(run)
    done = run_in_process("resume", "run", *runs.changes(state), folder=tmp_path)
    assert (done.returncode, read_files(run) == before) == (5, True), done.stderr


def test_a_run_goes_on_that_was_killed_while_a_damaged_checkpoint_was_replaced(
    runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy("in_second_epoch", tmp_path / "run")
    folder = run / "checkpoints"
    (folder / "previous.pt").replace(folder / ".new.pt")
    (folder / "last.pt").replace(folder / "previous.pt")
    break_file(folder / "previous.pt")
    done = run_in_process("resume", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(run, runs.uninterrupted("in_second_epoch")) == []


@pytest.mark.parametrize("content", [None, "{}", '{"best": 7}', "{"])
def test_a_finished_job_of_a_sweep_makes_a_damaged_result_again(
    content: str | None, tmp_path: Path
) -> None:
    command = ("-m", *SMALL, "sweep=again")
    run_in_process(*command, folder=tmp_path)
    (result,) = tmp_path.rglob("result.json")
    was = json.loads(result.read_text())
    result.unlink() if content is None else result.write_text(content)
    done = run_in_process(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again = json.loads(result.read_text())
    assert again == was | {"wall_s": again["wall_s"]}


def test_a_finished_job_of_a_sweep_whose_configuration_is_damaged_is_looked_at_again(
    tmp_path: Path,
) -> None:
    command = ("-m", *SMALL, "sweep=again")
    run_in_process(*command, folder=tmp_path)
    (configuration,) = tmp_path.glob("outputs/sweeps/again/*/config.yaml")
    configuration.write_text("{")
    done = run_in_process(*command, folder=tmp_path)
    assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert "Launching 1 jobs locally" in done.stdout
