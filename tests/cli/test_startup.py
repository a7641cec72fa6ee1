"""The modules that commands import. benchmarks/startup.py measures the time of starting."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import TINY, clean_environment
from helpers.small_runs import Runs
from PIL import Image

from cnnbench.runs.machine import usable_cpus

IMPORTED_BY_THE_COMMAND = """
import sys
from cnnbench.cli.main import main
watched, sys.argv[1:] = sys.argv[1].split(), sys.argv[2:]
try:
    main()
finally:
    print([name for name in watched if name in sys.modules])
"""


def imported(watched: str, arguments: tuple[str, ...], folder: Path) -> str:
    """Run a command; return those of the modules `watched` that it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY_THE_COMMAND, watched, *arguments],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("evaluate", "--help"),
        ("export", "nowhere", "--formt"),
        ("lr=0.1",),
        ("optimizer.lr=-1",),
        ("evaluate", "nowhere"),
        ("-sc", "query=bash"),
    ],
    ids=" ".join,
)
def test_help_completion_and_errors_import_neither_torch_nor_numpy(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    assert imported("cnnbench.cli torch numpy", arguments, tmp_path) == "['cnnbench.cli']"


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_training_does_not_import_compiler_torchvision_or_trackers(
    optimizer: str, tmp_path: Path
) -> None:
    trackers = "tensorboard mlflow wandb cnnbench.trackers.tensorboard"
    watched = f"torch torch._dynamo torch._inductor torchvision sympy {trackers}"
    if usable_cpus() >= 2:  # otherwise this process draws curves.png
        watched += " matplotlib"
    assert imported(watched, (*TINY, f"optimizer={optimizer}"), tmp_path) == "['torch']"


def test_predict_imports_only_torch_and_pillow(runs: Runs, tmp_path: Path) -> None:
    runs.copy("finished", tmp_path / "run")
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    watched = (
        "torch PIL torch._dynamo torch._inductor torchvision sympy matplotlib onnx onnxruntime"
    )
    assert imported(watched, ("predict", "run", "black.png"), tmp_path) == "['torch', 'PIL']"
