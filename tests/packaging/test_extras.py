"""Without the packages of an extra, errors name the extra and everything else works."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers.command import Command, clean_environment

import cnnbench

EXTRAS = (
    *("hydra_plugins", "submitit", "joblib", "tensorboard", "mlflow", "wandb"),
    *("onnx", "onnxscript", "onnxruntime", "safetensors", "scipy"),
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all installed packages except those of extras."""
    folder = tmp_path_factory.mktemp("packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name not in EXTRAS:
            (folder / package.name).symlink_to(package)
    return folder


@pytest.fixture
def without_extras(tmp_path: Path, packages: Path) -> Command:
    search_path = f"{Path(cnnbench.__file__).parents[1]}:{packages}"

    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-S", "-m", "cnnbench", *arguments],
            cwd=tmp_path,
            env=clean_environment(tmp_path) | {"PYTHONPATH": search_path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


@pytest.mark.parametrize(
    ("launcher", "extra"), [("slurm", "slurm"), ("slurm_local", "slurm"), ("joblib", "joblib")]
)
def test_missing_launcher_error_names_its_extra(
    without_extras: Command, launcher: str, extra: str
) -> None:
    done = without_extras("-m", "seed=0,1", f"hydra/launcher={launcher}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"pip install 'cnnbench[{extra}]'" in done.stderr


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_missing_tracker_error_names_its_extra_before_the_run_starts(
    without_extras: Command, tmp_path: Path, tracker: str
) -> None:
    (tmp_path / tracker).mkdir()  # Python would import this folder as a package
    done = without_extras("data=sample", f"tracker={tracker}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"pip install 'cnnbench[{tracker}]'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [tracker]


@pytest.mark.parametrize(
    ("form", "needed"),
    [("onnx", "onnx and onnxscript and onnxruntime"), ("safetensors", "safetensors")],
)
def test_missing_export_packages_are_reported_before_the_run_is_read(
    without_extras: Command, tmp_path: Path, form: str, needed: str
) -> None:
    (tmp_path / form).mkdir()  # Python would import this folder as a package
    done = without_extras("export", "nowhere", "--format", form)
    message = f"cnnbench: --format {form} needs {needed}: pip install 'cnnbench[onnx]'\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_reproduce_needs_scipy(without_extras: Command, tmp_path: Path) -> None:
    (tmp_path / "scipy").mkdir()  # Python would import this folder as a package
    done = without_extras("reproduce", "--scale", "smoke")
    message = "cnnbench: cnnbench reproduce needs scipy: pip install 'cnnbench[reproduce]'\n"
    assert (done.returncode, done.stderr) == (2, message)
    assert [path.name for path in tmp_path.iterdir()] == ["scipy"]


@pytest.mark.parametrize("flag", ["--help", "--info"])
def test_help_and_info_need_no_extra(without_extras: Command, flag: str) -> None:
    done = without_extras(flag)
    assert (done.returncode, done.stderr) == (0, "")
