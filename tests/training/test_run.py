"""One training run: its heading, its networks, and the warning when resumed with more epochs."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.command import TINY, Command
from helpers.in_process import run_in_process

from cnnbench import models
from cnnbench.config import Config
from cnnbench.training.preflight import check

HEADING = (
    "lenet_relu on part of Fashion-MNIST at 28 x 28: "
    "256 training, 100 validation and 100 test examples"
)


def test_heading_is_logged_before_pytorch_is_imported(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    with pytest.raises(ModuleNotFoundError, match="torch"):
        check(config, announce=True)
    assert [line.partition(": ")[0] for line in caplog.messages] == [
        "mlp on part of Fashion-MNIST at 4 x 4"
    ]


def test_run_resumed_run_and_job_start_with_a_heading(within: Command, tmp_path: Path) -> None:
    run = within(*TINY, "hydra.run.dir=run")
    lines = run.stdout.splitlines()
    assert lines[0] == HEADING
    assert lines[1] == "run"
    assert lines[2].startswith("32,000 parameters on cpu (")
    assert lines[3].split() == ["epoch", "lr", "train", "validation", "time", "examples/s"]
    job = within("-m", *TINY, "sweep=mine")
    resumed = within("resume", "run", "train.epochs=3")
    assert resumed.stdout.startswith("Resuming run ...\n")
    assert [done.stdout.count(HEADING) for done in (run, job, resumed)] == [1, 1, 1]
    for folder, count in (("run", 2), ("outputs/sweeps/mine/*", 1)):
        (log,) = tmp_path.glob(f"{folder}/train.log")
        assert log.read_text().count(f" INFO {HEADING}\n") == count


def test_run_builds_its_network_once_on_meta_and_once_on_cpu(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []
    build = models.build

    def build_and_record(*arguments: Any, **more: Any) -> Any:
        network = build(*arguments, **more)
        devices.append(next(network.parameters()).device.type)
        return network

    for function in ("cnnbench.models.build", "cnnbench.analysis.meta_shapes.build"):
        monkeypatch.setattr(function, build_and_record)
    assert within(*TINY, "hydra.run.dir=run").returncode == 0
    assert devices == ["meta", "cpu"]


@pytest.mark.parametrize(
    ("scheduler", "warnings"),
    [
        (
            "cosine",
            [  # the last of 8 steps had a factor of (1 + cos(7 pi / 8)) / 2
                "train.epochs=2 in place of 1 changes the schedule scheduler=cosine: "
                "the learning rate jumps from 0.019 to 0.25."
            ],
        ),
        ("constant", []),
    ],
    ids=["cosine", "constant"],
)
def test_resume_with_more_epochs_warns_of_a_jump_in_lr(
    tmp_path: Path, scheduler: str, warnings: list[str]
) -> None:
    job = (*TINY, "train.epochs=1", "optimizer.lr=0.5", f"scheduler={scheduler}")
    run_in_process(*job, "train.fail_if_not_learning=false", "hydra.run.dir=run", folder=tmp_path)
    done = run_in_process("resume", "run", "train.epochs=2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "jumps" in line] == warnings
