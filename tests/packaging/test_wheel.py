"""The wheel, installed outside of a checkout: it has the configuration and the sample data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import clean_environment
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder; return the folder."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.mark.slow
def test_smoke_experiment_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path) | {"PYTHONPATH": os.fspath(installed)}
    code = "import cnnbench, sys; sys.exit(not cnnbench.__file__.startswith(sys.argv[1]))"
    command = [sys.executable, "-c", code, installed]
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0
    command = [sys.executable, "-m", "cnnbench", "experiment=smoke"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "cnnbench/conf/train.yaml",
        "cnnbench/conf/claims.yaml",
        "cnnbench/data/sample/LICENSE",
        "cnnbench/py.typed",
        "cnnbench/reports/page/base.html.jinja",
        "cnnbench/reports/page/charts.js",
        "cnnbench/reports/reproduction/results.md.jinja",
        "hydra_plugins/cnnbench_sweeper.py",
    ],
)
def test_wheel_has_file(installed: Path, name: str) -> None:
    assert (installed / name).is_file()
