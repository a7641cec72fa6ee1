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
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git repository with one commit, which holds the module as cnnbench/runs/environment.py."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tracked").write_text("as committed")
    git(tmp_path, "add", "tracked")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(
        environment, "__file__", str(tmp_path / "cnnbench" / "runs" / "environment.py")
    )
    return tmp_path


def test_versions_machine_and_command_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "cnnbench", "data.root=/my folder"])
    said = environment.describe()
    packages = ("cnnbench", "torch", "torchvision", "numpy", "hydra-core", "omegaconf")
    assert [said[name] for name in packages] == [metadata.version(name) for name in packages]
    assert (said["python"], said["host"]) == (platform.python_version(), platform.node())
    assert said["command"] == "python -m cnnbench 'data.root=/my folder'"
    assert said["folder"] == str(tmp_path)
    assert json.loads(json.dumps(said)) == said


def test_asking_for_the_commit_takes_no_lock(checkout: Path) -> None:
    """A lock would stay if the command is killed; without one the index is not brought up to date either."""
    index = checkout / ".git" / "index"
    os.utime(checkout / "tracked", (0, 0))
    before = index.read_bytes()
    environment._commit.__wrapped__(checkout)
    assert index.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "end"), [("outputs", ""), ("tracked", "+changes")], ids=["new file", "changed file"]
)
def test_the_commit_is_recorded_and_whether_files_changed(
    checkout: Path, name: str, end: str
) -> None:
    (checkout / name).write_text("as changed")
    assert environment.describe()["commit"] == git(checkout, "rev-parse", "HEAD") + end


def test_an_installed_package_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = (
        checkout / "lib" / "cnnbench" / "runs" / "environment.py"
    )  # even inside somebody's checkout
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.describe()["commit"] is None


def test_a_machine_without_git_records_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.describe()["commit"] is None
