"""The recorded software and hardware of a run."""

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
    """Make a Git repository with one commit, as the checkout of the package."""
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
    described = environment.describe()
    packages = ("cnnbench", "torch", "torchvision", "numpy", "hydra-core", "omegaconf")
    assert [described[name] for name in packages] == [metadata.version(name) for name in packages]
    assert (described["python"], described["host"]) == (platform.python_version(), platform.node())
    assert described["command"] == "python -m cnnbench 'data.root=/my folder'"
    assert described["folder"] == str(tmp_path)
    assert json.loads(json.dumps(described)) == described


def test_commit_is_found_without_a_lock(checkout: Path) -> None:
    # Git would update the index under the lock, which stays if the command is killed.
    index = checkout / ".git" / "index"
    os.utime(checkout / "tracked", (0, 0))
    before = index.read_bytes()
    environment._commit.__wrapped__(checkout)
    assert index.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "end"), [("outputs", ""), ("tracked", "+changes")], ids=["new file", "changed file"]
)
def test_commit_is_recorded_with_a_mark_for_changed_files(
    checkout: Path, name: str, end: str
) -> None:
    (checkout / name).write_text("as changed")
    assert environment.describe()["commit"] == git(checkout, "rev-parse", "HEAD") + end


def test_installed_package_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package is installed in a folder of another checkout.
    installed = checkout / "lib" / "cnnbench" / "runs" / "environment.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.describe()["commit"] is None


def test_no_commit_is_recorded_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.describe()["commit"] is None
