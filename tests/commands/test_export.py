"""`cnnbench export`: the exported files, their metadata, and errors."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.command import Command
from helpers.paths import CONF
from helpers.sample_images import load_sample_images
from helpers.small_runs import Runs, rewrite_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file

from cnnbench import models
from cnnbench.commands import export
from cnnbench.data import catalog, download
from cnnbench.training import device
from cnnbench.training.load_model import TrainedModel, load_trained_model

SUFFIXES = {"onnx": "onnx", "torch_export": "pt2", "safetensors": "safetensors"}


@pytest.fixture(autouse=True)
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.copy("finished", tmp_path / "run")


CLOTHES = torch.tensor(load_sample_images()[:5]).view(-1, 1, 28, 28)


def opened(run: Path) -> TrainedModel:
    return load_trained_model(run, [], CONF, "export")


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def logits(path: Path, images: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(session(path).run(None, {"images": images.numpy()})[0])


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata of a file, read with the library of its format."""
    if path.suffix == ".onnx":
        return dict(session(path).get_modelmeta().custom_metadata_map)
    if path.suffix == ".pt2":
        found = {"metadata.json": ""}
        torch.export.load(io.BytesIO(path.read_bytes()), extra_files=found)
        values: dict[str, str] = json.loads(found["metadata.json"])
        return values
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize("form", SUFFIXES)
def test_export_is_named_after_the_network_and_prints_its_interface(
    form: str, run: Path, within: Command
) -> None:
    flags = [] if form == "onnx" else ["--format", form]  # ONNX is the default
    done = within("export", "run", *flags)
    heading = f"Exporting mlp (best.pt, epoch 2) as {form} ...\n"
    assert (done.returncode, done.stderr) == (0, heading)
    path = run / "export" / f"mlp.{SUFFIXES[form]}"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    heading, takes, gives, checked = done.stdout.splitlines()
    assert heading.startswith(f"run/export/{path.name}, ")
    assert heading.endswith(" KiB: mlp (best.pt, epoch 2)")
    assert (
        takes
        == "takes    images: float32 (N, 1, 28, 28), pixels / 255, less the mean, divided by std"
    )
    assert gives == "gives    logits: float32 (N, 10), whose softmax are probabilities"
    assert " on 64 test images of part of Fashion-MNIST: largest difference " in checked


def test_with_preprocessing_the_file_takes_pixels(run: Path, within: Command) -> None:
    def enlarge(state: dict[str, Any]) -> None:
        state["config"]["data"]["resize"] = 40
        state["model"]["layers.1.weight"] = torch.rand(8, 40 * 40) - 0.5

    rewrite_checkpoint(run / "checkpoints" / "best.pt", enlarge)
    done = within("export", "run", "--preprocessing")
    assert "takes    images: uint8 (N, 1, 28, 28)" in done.stdout
    expected = opened(run).engine.classify(CLOTHES)
    torch.testing.assert_close(
        logits(run / "export" / "mlp.onnx", CLOTHES), expected, rtol=1e-5, atol=1e-5
    )


def test_safetensors_weights_load_into_the_network_of_the_metadata(
    run: Path, within: Command
) -> None:
    within("export", "run", "--format", "safetensors")
    path = run / "export" / "mlp.safetensors"
    facts = metadata_of(path)
    network = models.build(
        facts["model"], 1, len(json.loads(facts["classes"])), **json.loads(facts["arguments"])
    )
    network.load_state_dict(load_file(path))
    pixels = CLOTHES.numpy() / 255
    inputs = (pixels - np.array(json.loads(facts["mean"]))) / np.array(json.loads(facts["std"]))
    given = network(torch.tensor(inputs, dtype=torch.float32))
    torch.testing.assert_close(
        given.detach(), opened(run).engine.classify(CLOTHES), rtol=1e-5, atol=1e-6
    )


def test_bf16_run_is_exported_in_fp32(
    run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    precise = opened(run).engine.classify(CLOTHES)
    monkeypatch.setattr(device, "_multiplies_in_bf16", lambda: True)  # so that auto selects bf16
    monkeypatch.setattr(device, "MIN_BF16_INTENSITY", 0)
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: state["config"]["device"].update(precision="bf16"),
    )
    assert within("export", "run", "--preprocessing").returncode == 0
    assert not torch.equal(opened(run).engine.classify(CLOTHES), precise)
    torch.testing.assert_close(
        logits(run / "export" / "mlp.onnx", CLOTHES), precise, rtol=1e-5, atol=1e-6
    )


def test_run_of_a_missing_device_is_exported(run: Path, within: Command) -> None:
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: state["config"]["device"].update(name="mps", cuda_graphs=True),
    )
    assert within("export", "run", "--format", "safetensors").returncode == 0


@pytest.mark.parametrize("form", SUFFIXES)
def test_metadata_describe_the_network_and_its_inputs(
    form: str, run: Path, within: Command
) -> None:
    within("export", "run", "--format", form)
    facts = metadata_of(run / "export" / f"mlp.{SUFFIXES[form]}")
    result, environment = (
        json.loads((run / f"{name}.json").read_text()) for name in ("result", "environment")
    )
    sample = catalog.get("sample")
    assert facts.pop("cnnbench")
    assert facts == {
        "model": "mlp",
        "arguments": '{"widths": [8], "activation": "relu"}',
        "input": "images: float32 (N, 1, 28, 28), pixels / 255, less the mean, divided by std",
        "output": "logits: float32 (N, 10), whose softmax are probabilities",
        "classes": json.dumps(sample.classes),
        "mean": json.dumps(sample.mean),
        "std": json.dumps(sample.std),
        "preprocessing": "false",
        "image_size": "28",
        "input_size": "28",
        "tta": "none",
        "data": "part of Fashion-MNIST",
        "run": "run",
        "weights": "best.pt, epoch 2",
        "test_accuracy": json.dumps(result["test_accuracy"]),
        **({} if environment["commit"] is None else {"commit": environment["commit"]}),
    }


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


NOT_OF_THESE_WEIGHTS = {
    "the run was resumed": lambda run: change(run / "status.json", state="interrupted"),
    "the result is of the last epoch": lambda run: change(run / "result.json", best=None),
    "the result is damaged": lambda run: (run / "result.json").write_text("{"),
    "the result has none": lambda run: change(run / "result.json", test_accuracy="high"),
    "there is no result": lambda run: (run / "result.json").unlink(),
}


@pytest.mark.parametrize("why", NOT_OF_THESE_WEIGHTS)
def test_metadata_omit_an_accuracy_of_other_weights(why: str, run: Path, within: Command) -> None:
    NOT_OF_THESE_WEIGHTS[why](run)
    within("export", "run", "--format", "safetensors")
    assert "test_accuracy" not in metadata_of(run / "export" / "mlp.safetensors")


@pytest.mark.parametrize("content", ["{", '{"commit": 7}'], ids=["damaged", "no words"])
def test_metadata_omit_an_unknown_commit(content: str, run: Path, within: Command) -> None:
    (run / "environment.json").write_text(content)
    within("export", "run", "--format", "safetensors")
    assert "commit" not in metadata_of(run / "export" / "mlp.safetensors")


def test_export_creates_missing_output_folders(run: Path, within: Command, tmp_path: Path) -> None:
    done = within("export", "run", "--format", "safetensors", "--output", "new/folder/net.st")
    assert done.stdout.startswith("new/folder/net.st, ")
    assert load_file(tmp_path / "new" / "folder" / "net.st")
    assert not (run / "export").exists()


def test_export_replaces_an_earlier_file(run: Path, within: Command) -> None:
    within("export", "run", "--format", "torch_export")
    before = (run / "export" / "mlp.pt2").read_bytes()
    within("export", "run", "--format", "torch_export", "--preprocessing")
    assert (run / "export" / "mlp.pt2").read_bytes() != before


@pytest.mark.parametrize("output", ["run", "run/status.json/net.st"])
def test_unwritable_output_is_reported(output: str, within: Command) -> None:
    done = within("export", "run", "--format", "safetensors", "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{output} cannot be written: " in done.stderr
    assert "--output" in done.stderr


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_export_with_different_logits_is_not_written(
    error: float, run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = export.Classifier.forward
    monkeypatch.setattr(
        export.Classifier, "forward", lambda self, images: forward(self, images) * (1 + error)
    )
    done = within("export", "run", "--format", "torch_export")
    assert (done.returncode, (run / "export").exists()) == (2, False)
    assert "does not compute what the network does" in done.stderr


@pytest.mark.parametrize(
    "is_other", [False, True], ids=["no data", "another data set of that name"]
)
def test_export_is_compared_on_random_images_without_the_data(
    is_other: bool, run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_other:
        change(run / "dataset.json", sha256={}, image_size=30)
    else:
        monkeypatch.setattr(download, "load_local", lambda _: None)
    assert " on 64 random images: " in within("export", "run", "--format", "torch_export").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name a run directory: cnnbench export RUN"),
        (
            ("run", "--format", "tflite"),
            "--format tflite is not known. Allowed: onnx, safetensors, torch_export.",
        ),
        (
            ("run", "--format", "safetensors", "--preprocessing"),
            "holds weights alone. Use --format onnx",
        ),
        (
            ("run", "device=cuda"),
            "'device=cuda' is one word too many: cnnbench export RUN [options]",
        ),
        (("nowhere",), "nowhere is not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_arguments_exit_with_2(
    arguments: tuple[str, ...], message: str, within: Command
) -> None:
    done = within("export", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_control_characters_of_a_run_are_not_printed(run: Path, within: Command) -> None:
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: state["config"]["model"].update(name="\x1b[31m:Net"),
    )
    done = within("export", "run")
    assert (done.returncode, "\x1b" in done.stderr) == (2, False)


NETWORK = """
from cnnbench.models.mlp import MLP
class Net(MLP):
    def forward(self, images):
        if self.training or images.is_meta or images.sum() != 0:
            return super().forward(images)
"""


def test_network_that_pytorch_cannot_export_is_reported(
    run: Path, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "undecided_net.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: state["config"]["model"].update(name="undecided_net:Net"),
    )
    assert "--allow-custom-model" in within("export", "run").stderr
    done = within("export", "run", "--allow-custom-model")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 2)
    assert (
        "PyTorch cannot export this network: Could not guard on data-dependent expression"
        in done.stderr
    )


def test_custom_model_is_exported_under_its_class_name(
    run: Path, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_net.py").write_text(
        "from cnnbench.models.mlp import MLP\nclass Net(MLP): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: state["config"]["model"].update(name="plain_net:Net"),
    )
    done = within("export", "run", "--allow-custom-model", "--format", "safetensors")
    assert (done.returncode, (run / "export" / "Net.safetensors").exists()) == (0, True), (
        done.stderr
    )
