"""The directories that a single run claims or refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import TINY, Command, clean_environment
from helpers.small_runs import SMALL

REFUSED = "'.' already exists and is not an empty folder. Name another directory"


@pytest.mark.parametrize(
    "arguments",
    [("hydra.run.dir=.",), ("benchmark", "hydra.run.dir=."),
     ("-m", "seed=0,1", "hydra.sweep.dir=."),
     ("-m", "seed=0,1", "hydra.sweep.dir=.", "hydra/sweeper=basic"),
     ("benchmark", "-m", "seed=0,1", "hydra.sweep.dir=.")],
    ids=" ".join,
)  # fmt: skip
def test_folder_with_other_files_is_refused_and_unchanged(
    within: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "notes").touch()
    done = within(*arguments, *SMALL)
    assert (done.returncode, REFUSED in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_run_or_sweep_uses_an_empty_folder(within: Command, tmp_path: Path) -> None:
    for name in ("run", "sweep"):
        (tmp_path / name).mkdir()
    assert within(*SMALL, "hydra.run.dir=run").returncode == 0
    sweep = ("-m", *SMALL, "seed=0", "hydra.sweep.dir=sweep")
    assert within(*sweep).returncode == 0
    assert "1 of 1 job finished already." in within(*sweep).stdout


@pytest.mark.slow
def test_five_concurrent_runs_get_five_directories(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cnnbench", *TINY], cwd=tmp_path, env=clean_environment(tmp_path)
        )
        for _ in range(5)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0] * 5
    assert len(list(tmp_path.rglob("result.json"))) == 5


@pytest.mark.parametrize(
    "words", [["experiment=book/lenet"], ["experiment=claims/relu_lenet", "model=lenet"]], ids=str
)
def test_single_run_of_an_experiment_needs_values_for_its_swept_keys(
    within: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("cnnbench.training.preflight.check", lambda *_, **__: None)
    monkeypatch.setattr("cnnbench.cli.compose.train_job", lambda *_, **__: 0.0)
    done = within(*words)
    assert done.returncode == 0, done.stderr


def test_error_names_an_output_folder_that_cannot_be_created(
    cnnbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "outputs").write_text("a file where the folder should be")
    done = cnnbench(*TINY)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "hydra.run.dir=DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_error_names_an_output_folder_without_write_permission(
    cnnbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "outputs").mkdir(mode=0o555)
    done = cnnbench(*TINY)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_a_directory_that_holds_a_run_is_refused(cnnbench: Command, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "status.json").write_text("{}")
    done = cnnbench(*TINY, f"hydra.run.dir={taken}")
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert [path.name for path in taken.iterdir()] == ["status.json"]
