"""What a run records of its surroundings."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from cnnbench.runs import environment


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git repository with one commit, which holds the module as cnnbench/runs/environment.py."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tracked").write_text("as committed")
    git(tmp_path, "add", "tracked")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "cnnbench" / "runs" / "environment.py"))
    return tmp_path


@pytest.mark.parametrize("package", ["cnnbench", "torch", "torchvision", "numpy", "hydra-core", "omegaconf"])
def test_the_version_of_the_package_is_recorded(package: str) -> None:
    assert environment.describe()[package] == metadata.version(package)


def test_python_and_the_machine_are_recorded() -> None:
    said = environment.describe()
    assert (said["python"], said["host"]) == (platform.python_version(), platform.node())


def test_the_description_can_be_written_as_json() -> None:
    said = environment.describe()
    assert json.loads(json.dumps(said)) == said


def test_the_command_line_is_recorded_as_it_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "cnnbench", "data.root=/my folder"])
    assert environment.describe()["command"] == "python -m cnnbench 'data.root=/my folder'"


def test_the_folder_that_paths_are_relative_to_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.describe()["folder"] == str(tmp_path)


def test_the_commit_of_a_checkout_is_recorded(checkout: Path) -> None:
    assert environment.describe()["commit"] == git(checkout, "rev-parse", "HEAD")


def test_asking_for_the_commit_takes_no_lock(checkout: Path) -> None:
    """A lock would stay if the command is killed; without one the index is not brought up to date either."""
    index = checkout / ".git" / "index"
    os.utime(checkout / "tracked", (0, 0))
    before = index.read_bytes()
    environment._commit.__wrapped__(checkout)
    assert index.read_bytes() == before


def test_a_changed_file_is_recorded_with_the_commit(checkout: Path) -> None:
    (checkout / "tracked").write_text("as changed")
    assert environment.describe()["commit"] == git(checkout, "rev-parse", "HEAD") + "+changes"


def test_a_new_file_is_no_change_to_the_commit(checkout: Path) -> None:
    (checkout / "outputs").mkdir()
    (checkout / "outputs" / "result.json").touch()
    assert environment.describe()["commit"] == git(checkout, "rev-parse", "HEAD")


def test_an_installed_package_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = checkout / "lib" / "cnnbench" / "runs" / "environment.py"  # even inside somebody's checkout
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.describe()["commit"] is None


def test_a_machine_without_git_records_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.describe()["commit"] is None
