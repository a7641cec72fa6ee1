"""Runs with damaged files resume to the same bits, or are refused and left unchanged."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.compare_runs import find_differences
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL, STATES, Runs, read_checkpoints, read_files

NUM_CASES = 348
NUM_QUICK_CASES = 36  # they damage each file of each state once


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file as disks and transfers do; return a description of the damage."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(["flip", "flip", "truncate", "zeros"])
    start = chance.randrange(len(content) + (kind == "truncate")) if content else 0
    if kind == "truncate" or not content:
        del content[start:]
    elif kind == "flip":
        for index in (start, *chance.choices(range(len(content)), k=chance.choice([0, 0, 4]))):
            content[index] ^= 1 << chance.randrange(8)
    else:
        content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)
    return f"{kind} at {start} of {path}"


@pytest.mark.parametrize(
    "seed",
    [
        *range(NUM_QUICK_CASES),
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(NUM_QUICK_CASES, NUM_CASES)),
    ],
)
def test_damaged_file_gives_the_same_bits_or_is_refused_without_changes(
    seed: int, runs: Runs, tmp_path: Path
) -> None:
    state = list(STATES)[seed % len(STATES)]
    run = runs.copy(state, tmp_path / "run")
    files = sorted(path for path in run.rglob("*") if path.is_file())
    description = damage(files[seed // len(STATES) % len(files)], random.Random(seed))
    before = read_checkpoints(run)
    done = run_in_process("resume", "run", *runs.changes(state), folder=tmp_path)
    case = f"seed {seed}, {state}, {description}:\n{done.stdout}{done.stderr}"
    assert done.returncode in (0, 2, 5), case
    assert "Traceback" not in case
    if done.returncode == 0:
        assert find_differences(run, runs.uninterrupted(state)) == [], case
    else:
        assert read_checkpoints(run) == before, case


def flip_middle_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("is_missing", [False, True], ids=["damaged", "missing"])
def test_previous_checkpoint_is_used_if_the_last_is_damaged_or_missing(
    is_missing: bool, state: str, runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(state, tmp_path / "run")
    last = run / "checkpoints" / "last.pt"
    if is_missing:
        last.unlink()
    else:
        flip_middle_bit(last)
    done = run_in_process("resume", "run", *runs.changes(state), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("last.pt is damaged" in done.stdout) != is_missing
    assert find_differences(run, runs.uninterrupted(state)) == []


@pytest.mark.parametrize(
    ("state", "damaged"),
    [*((state, ("last", "previous")) for state in STATES), ("in_second_epoch", ("best",))],
)
def test_run_without_valid_checkpoint_is_refused_without_changes(
    state: str, damaged: Sequence[str], runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy(state, tmp_path / "run")
    for name in damaged:
        flip_middle_bit(run / "checkpoints" / f"{name}.pt")
    before = read_files(run)
    done = run_in_process("resume", "run", *runs.changes(state), folder=tmp_path)
    assert done.returncode == 5, done.stderr
    assert read_files(run) == before


def test_run_killed_while_replacing_a_damaged_checkpoint_is_resumed(
    runs: Runs, tmp_path: Path
) -> None:
    run = runs.copy("in_second_epoch", tmp_path / "run")
    folder = run / "checkpoints"
    (folder / "previous.pt").replace(folder / ".new.pt")
    (folder / "last.pt").replace(folder / "previous.pt")
    flip_middle_bit(folder / "previous.pt")
    done = run_in_process("resume", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert find_differences(run, runs.uninterrupted("in_second_epoch")) == []


@pytest.mark.parametrize("content", [None, "{}", '{"best": 7}', "{"])
def test_sweep_rewrites_the_damaged_result_of_a_finished_job(
    content: str | None, tmp_path: Path
) -> None:
    command = ("-m", *SMALL, "sweep=again")
    run_in_process(*command, folder=tmp_path)
    (result,) = tmp_path.rglob("result.json")
    before = json.loads(result.read_text())
    if content is None:
        result.unlink()
    else:
        result.write_text(content)
    done = run_in_process(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    after = json.loads(result.read_text())
    assert after == {**before, "wall_s": after["wall_s"]}


def test_sweep_relaunches_a_finished_job_with_damaged_configuration(
    tmp_path: Path,
) -> None:
    command = ("-m", *SMALL, "sweep=again")
    run_in_process(*command, folder=tmp_path)
    (configuration,) = tmp_path.glob("outputs/sweeps/again/*/config.yaml")
    configuration.write_text("{")
    done = run_in_process(*command, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 run: 1 finished" in done.stdout
    assert "Launching 1 jobs locally" in done.stdout
