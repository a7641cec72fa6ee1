"""One training run: what it builds, and what it says where it resumes with more epochs."""

from pathlib import Path
from typing import Any

import pytest
from in_process import run_in_process
from installed import TINY, Command

from cnnbench import models


def test_a_run_builds_its_network_on_the_meta_device_once_and_for_real_once(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []
    build = models.build

    def build_and_count(*arguments: Any, **more: Any) -> Any:
        network = build(*arguments, **more)
        devices.append(next(network.parameters()).device.type)
        return network

    for place in ("cnnbench.models.build", "cnnbench.analysis.meta_shapes.build"):
        monkeypatch.setattr(place, build_and_count)
    assert within(*TINY, "hydra.run.dir=run").returncode == 0
    assert devices == ["meta", "cpu"]


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (
            "cosine",
            [  # the last of 8 steps has had (1 + cos(7 pi / 8)) / 2 of the rate
                "train.epochs=2 in place of 1 changes the schedule scheduler=cosine: "
                "the learning rate jumps from 0.019 to 0.25."
            ],
        ),
        ("constant", []),
    ],
    ids=["cosine", "constant"],
)
def test_a_jump_of_the_learning_rate_by_more_epochs_is_said(tmp_path: Path, scheduler: str, said: list[str]) -> None:
    job = (*TINY, "train.epochs=1", "optimizer.lr=0.5", f"scheduler={scheduler}")
    run_in_process(*job, "train.fail_if_not_learning=false", "hydra.run.dir=run", folder=tmp_path)
    done = run_in_process("resume", "run", "train.epochs=2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "jumps" in line] == said
