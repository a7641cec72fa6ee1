"""Load, evaluate and predict from Python, with the numbers of the commands."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import TINY, Command
from helpers.paths import ROOT
from helpers.sample_images import load_sample_images
from helpers.small_runs import SMALL, Runs, read_files
from PIL import Image

from cnnbench.api import evaluate, load, predict, train
from cnnbench.data.catalog import CATALOG
from cnnbench.errors import ConfigError

ONE_EPOCH = (*TINY, "train.epochs=1", "train.fail_if_not_learning=false")


@pytest.fixture(autouse=True)
def _change_to_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_repr_of_results_is_one_line() -> None:
    result = train(*ONE_EPOCH, directory="run")
    figures = f"value={result.value:.4f}, test_accuracy={result.test_accuracy:.4f}"
    assert repr(result) == f"Result('run', epochs=1, {figures})"
    figures = "model='lenet_relu', classes=10, weights='best.pt, epoch 1'"
    assert repr(load("run")) == f"TrainedModel('run', {figures})"
    assert len(repr(evaluate("run"))) < 300


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.copy("finished", tmp_path / "run")


@pytest.mark.parametrize("kind", [str, Path])
def test_evaluate_returns_the_metrics_of_the_command(
    run: Path, within: Command, kind: type
) -> None:
    assert within("evaluate", "run", "data.test_examples=10").returncode == 0
    recorded = json.loads((run / "evaluation_data.test_examples=10.json").read_text())
    before = read_files(run)
    evaluation = evaluate(kind("run"), "data.test_examples=10")
    measured = json.loads(json.dumps(dataclasses.asdict(evaluation)))
    assert measured == {key: recorded[key] for key in measured}
    assert read_files(run) == before


@pytest.mark.usefixtures("run")
def test_evaluate_matches_other_class_names_by_order_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = dataclasses.replace(CATALOG["sample"], name="mnist", classes=tuple("0123456789"))
    monkeypatch.setitem(CATALOG, "mnist", other)
    with pytest.raises(ConfigError, match="add: --match-by-order"):
        evaluate("run", "data=mnist")
    assert evaluate("run", "data=mnist", match_by_order=True).examples == 1000


@pytest.mark.usefixtures("run")
def test_load_returns_the_network_its_classes_and_preprocessing() -> None:
    network = load("run", "device=cpu")
    images = torch.tensor(load_sample_images()[:3]).view(3, 1, 28, 28)
    assert (len(network.classes), network.classes[0]) == (10, "T-shirt/top")
    assert (network.config.model.name, network.model.training) == ("mlp", False)
    with torch.no_grad():
        logits = network.model(network.preprocess(images))
    assert torch.equal(network(images.numpy()), logits)


@pytest.mark.parametrize("shape", [(28, 28), (2, 3, 28, 28), (2, 1, 28, 28)])
@pytest.mark.usefixtures("run")
def test_images_of_another_type_or_shape_are_refused(shape: tuple[int, ...]) -> None:
    kind = np.float32 if shape == (2, 1, 28, 28) else np.uint8
    with pytest.raises(ConfigError, match=r"They must be uint8 \(N, 1, H, W\)\."):
        load("run")(np.zeros(shape, kind))


@pytest.mark.usefixtures("run")
def test_predict_returns_the_classes_of_the_command(within: Command, tmp_path: Path) -> None:
    Image.fromarray(load_sample_images()[0]).save("shirt.png")
    Path("notes.png").write_text("these are notes")
    (recorded,) = json.loads(within("predict", "run", "shirt.png", "--json", "--topk", "4").stdout)
    for images in ("shirt.png", Path("shirt.png"), ["shirt.png"]):
        (predicted,) = predict("run", images, "device=cpu", topk=4)
        assert (predicted.image, dict(predicted.classes)) == ("shirt.png", recorded["classes"])
    first, second = predict("run", ["notes.png", "shirt.png"])
    assert ("notes.png is not" in first.error, first.classes) == (True, [])
    assert len(second.classes) == 3
    with pytest.raises(ConfigError, match="topk=0 is out of range"):
        predict("run", "shirt.png", topk=0)


@pytest.mark.parametrize("call", [load, evaluate, lambda run, **more: predict(run, [], **more)])
def test_custom_model_of_an_untrusted_run_needs_allow_custom_model(
    call: Callable[..., object], within: Command, tmp_path: Path
) -> None:
    marks = "from pathlib import Path\nPath('mark').touch()\n"
    Path("own.py").write_text(f"{marks}from cnnbench.models.mlp import MLP\nclass Net(MLP): pass\n")
    assert within(*SMALL, "model.name=own:Net", "hydra.run.dir=run").returncode == 0
    Path("mark").unlink()
    with pytest.raises(ConfigError, match=r"If you trust it: allow_custom_model=True$"):
        call("run")
    assert not Path("mark").exists()
    call("run", allow_custom_model=True)
    assert Path("mark").exists()
    del sys.modules["own"]


def test_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"## From Python\n.*?```python\n(.*?)```", page, re.DOTALL)
    Image.fromarray(load_sample_images()[0]).save("shirt.png")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    exec(code.replace('"data=sample"', f"*{TINY}"), {})
    assert (tmp_path / "rates.png").stat().st_size > 0
