"""The command line of `cnnbench lr-find`."""

from pathlib import Path

import pytest
from helpers.command import Command

TORCHRUN = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--from 0", "--from 0 is out of range. It must be from 1e-12 to 1000."),
        ("--from nan", "--from nan is out of range. It must be from 1e-12 to 1000."),
        ("--to inf", "--to inf is out of range. It must be from 1e-12 to 1000."),
        ("--to fast", "--to fast is not a number. It must be from 1e-12 to 1000."),
        ("--from 1 --to 0.1", "--from 1 must be less than --to 0.1."),
        ("--steps 19", "--steps 19 is out of range. It must be from 20 to 100000."),
        ("--steps 1e3", "--steps 1e3 is not a whole number. It must be from 20 to 100000."),
        (
            "-m model=lenet,mlp",
            "cnnbench lr-find looks at one network: -m is for cnnbench train.",
        ),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(
    line: str, message: str, within: Command, tmp_path: Path
) -> None:
    done = within("lr-find", *line.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cnnbench: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_several_values_are_refused(within: Command, tmp_path: Path) -> None:
    done = within("lr-find", "data=sample", "optimizer.lr=0.1,0.5")
    assert done.returncode == 2
    assert "optimizer.lr" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rank", "code"), [("0", 2), ("1", 0)])
def test_several_ranks_are_refused_by_the_first(
    rank: str, code: int, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {**TORCHRUN, "RANK": rank}.items():
        monkeypatch.setenv(key, value)
    done = within("lr-find", "data=sample")
    message = "cnnbench: cnnbench lr-find trains in one process. Start it without torchrun.\n"
    assert (done.returncode, done.stderr) == (code, message if rank == "0" else "")
    assert list(tmp_path.iterdir()) == []


def test_underscore_in_the_command_is_explained(within: Command) -> None:
    assert "Did you mean 'lr-find'?" in within("lr_find").stderr
