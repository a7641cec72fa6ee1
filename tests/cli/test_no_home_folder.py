"""Users without a home folder or a name, as in a container that runs with only a user id."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.command import TINY, Command, clean_environment
from helpers.small_runs import SMALL

NAMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give this process a user id without a name, and no HOME."""

    def know_nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.mark.usefixtures("homeless")
def test_a_user_without_home_or_name_trains(within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, "train.epochs=1", "hydra.run.dir=run")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "tmp"]


@pytest.mark.usefixtures("homeless")
def test_a_user_without_home_or_name_lists_data_sets(within: Command, tmp_path: Path) -> None:
    done = within("data")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sample: part of Fashion-MNIST" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("root", ["~/data", "~no-such-user/data"])
def test_unknown_home_in_data_root_is_an_error(within: Command, tmp_path: Path, root: str) -> None:
    done = within(*SMALL, f"data.root='{root}'")
    assert done.returncode == 2
    assert done.stderr.startswith(f"cnnbench: data.root={root}: ~")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="changes the user id")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="changes the user id by setpriv")
@pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")
def test_user_without_home_trains_with_mlflow_and_leaves_only_its_run(tmp_path: Path) -> None:
    """Train as an unknown user, with the capability to read an interpreter in root's home."""
    tmp_path.chmod(0o777)
    uid = 54321
    environment = clean_environment(tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"}
    environment["TMPDIR"] = str(tmp_path)
    for name in (*NAMES, "MPLCONFIGDIR"):
        environment.pop(name, None)
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    done = subprocess.run(
        [*become, sys.executable, "-m", "cnnbench", *TINY, "tracker=mlflow", "hydra.run.dir=run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The tracker mlflow failed" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"cnnbench-{uid}", "outputs", "run"]
    assert [path.name for path in (tmp_path / f"cnnbench-{uid}").iterdir()] == ["matplotlib"]
