"""The programs in docs/using.md. Those of exports are run unchanged, that which trains on less."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import TINY, Command
from helpers.paths import ROOT
from helpers.sample_images import load_sample_images
from helpers.small_runs import Runs
from PIL import Image

import cnnbench
from cnnbench.models.mlp import MLP

PAGE = (ROOT / "docs" / "using.md").read_text()
IN_NOTEBOOK, OF_ONNX, OF_TORCH_EXPORT, OF_SAFETENSORS = re.findall(
    r"```python\n(.*?)```", PAGE, re.DOTALL
)


@pytest.fixture(autouse=True)
def _run(runs: Runs, tmp_path: Path) -> None:
    runs.copy("finished", tmp_path / "run")


def test_notebook_example_lists_the_run_that_it_trains(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_as_shown = cnnbench.api.train
    monkeypatch.setattr(
        cnnbench.api, "train", lambda *shown, live: train_as_shown(*shown, *TINY, live=live)
    )
    names: dict[str, Any] = {}
    exec(IN_NOTEBOOK, names)
    (run,) = names["runs"]
    assert Path(run["directory"]).samefile(names["result"].directory)
    assert run["test_accuracy"] == names["result"].test_accuracy


def test_onnx_example_predicts_the_same_class(
    within: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(load_sample_images()[7]).convert("RGB").resize((300, 200)).save(
        tmp_path / "shirt.png"
    )
    predicted = within("predict", "run", "shirt.png", "--csv").stdout.splitlines()[1].split(",")[1]
    within("export", "run", "--preprocessing", "--output", "lenet.onnx")
    exec(OF_ONNX, {})
    assert capsys.readouterr().out == f"{predicted}\n"


def test_torch_export_example_needs_no_model_code(
    within: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    predicted = within("predict", "run", "black.png", "--csv").stdout.splitlines()[1].split(",")[1]
    within("export", "run", "--format", "torch_export", "--preprocessing", "--output", "lenet.pt2")
    exec(OF_TORCH_EXPORT, {})
    assert capsys.readouterr().out == f"{predicted}\n"


def test_safetensors_example_builds_the_network_from_metadata(within: Command) -> None:
    within("export", "run", "--format", "safetensors", "--output", "lenet.safetensors")
    names: dict[str, object] = {}
    exec(OF_SAFETENSORS, names)
    network = names["network"]
    assert isinstance(network, MLP)
    assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
