"""`cnnbench export`: a trained network as a file for other programs, compared with the network before it is kept."""

import argparse
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import cnnbench
from cnnbench import models
from cnnbench.analysis.format import format_bytes, printable
from cnnbench.data import catalog, storage
from cnnbench.errors import ConfigError, explain_write_error
from cnnbench.runs.directory import write_atomically
from cnnbench.runs.reading import read_json, read_status
from cnnbench.training.exporting import FORMATS, Classifier, Preprocessing, differences, pack
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["TOLERANCE", "run"]

TOLERANCE = 1e-4  # the most that logits may differ by, in parts of the largest; single precision makes some 1e-6 of it

COMPARED = 64  # images

# the network as it was trained, but computed as other programs compute; the data are not read from where it says
SETTINGS = (
    *("device=cpu", "device.precision=fp32", "device.channels_last=false"),
    *("reference=none", "data.root=null"),
)


def run(arguments: list[str], conf: Path) -> None:
    """Write the file and say what is in it.

    Raises:
        ConfigError: the directory holds no training run, a package is missing, the network cannot be exported so or
            comes out as another, or the file cannot be written.
        CheckpointError: its checkpoint is missing, damaged or refused.
    """
    options = _parser().parse_args(arguments)
    form = FORMATS[options.format]
    if options.preprocessing and options.format == "safetensors":
        raise ConfigError("--preprocessing: safetensors holds weights alone. Use --format onnx or torch_export.")
    missing = [package for package in form.packages if not _is_installed(package)]
    if missing:
        raise ConfigError(f"--format {options.format} needs {' and '.join(missing)}: pip install 'cnnbench[onnx]'")
    trained = load_trained_model(options.directory, list(SETTINGS), conf, "export", options.allow_custom_model)
    engine, dataset = trained.engine, trained.dataset
    side = dataset.image_size if options.preprocessing else trained.config.data.resize
    preprocessing = Preprocessing(engine.preprocess, side) if options.preprocessing else None
    classifier = Classifier(engine.eval_model, engine.config.tta, preprocessing)
    takes = torch.zeros(2, dataset.in_channels, side, side, dtype=torch.uint8 if preprocessing else torch.float32)
    metadata = _metadata(trained, options.preprocessing, side)
    content = pack(options.format, classifier, takes, metadata)
    checked = _check(options.format, content, trained, options.preprocessing)
    path = options.output or trained.directory / "export" / f"{_name(trained)}{form.suffix}"
    _write(path, content)
    heading = f"{os.path.relpath(path)}, {format_bytes(len(content))}: {trained.config.model.name} ({trained.weights})"
    lines = [heading, f"takes    {metadata['input']}", f"gives    {metadata['output']}", f"checked  {checked}"]
    print(printable("\n".join(lines)))


def _is_installed(package: str) -> bool:
    found = find_spec(package)
    return found is not None and found.origin is not None  # else it is a mere folder of that name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnbench export",
        description="Write the network of a run as a file for other programs, in single precision and for batches of "
        "any size. The file is run and its logits are compared with the network's before it is kept.",
        epilog="Example: cnnbench export outputs/lenet-fashion_mnist-28px/2026-11-24_10-00-00 --format onnx "
        "--preprocessing",
    )
    parser.add_argument("directory", type=Path, metavar="RUN_DIR", help="a run directory, such as those under outputs/")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="default: onnx; safetensors: weights alone")
    parser.add_argument(
        "--preprocessing",
        action="store_true",
        help="have it take uint8 images of the size of the data set; else it takes normalised ones of the network's",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in the run directory, export/MODEL.onnx")
    parser.add_argument("--allow-custom-model", action="store_true", help="let it run a network that is not cnnbench's")
    return parser


def _metadata(trained: TrainedModel, preprocessing: bool, side: int) -> dict[str, str]:
    """What whoever has the file alone must know, each a string."""
    dataset, config = trained.dataset, trained.config
    shape = f"(N, {dataset.in_channels}, {side}, {side})"
    values = "pixels / 255, less the mean, divided by std"
    return {
        "model": config.model.name,
        "arguments": json.dumps(config.model.arguments),
        "input": f"images: uint8 {shape}" if preprocessing else f"images: float32 {shape}, {values}",
        "output": f"logits: float32 (N, {len(dataset.classes)}), whose softmax are probabilities",
        "classes": json.dumps(dataset.classes),
        "mean": json.dumps(trained.engine.preprocess.mean),
        "std": json.dumps(trained.engine.preprocess.std),
        "preprocessing": json.dumps(preprocessing),
        "image_size": json.dumps(dataset.image_size),
        "input_size": json.dumps(config.data.resize),
        "tta": trained.engine.config.tta,
        "data": dataset.title,
        "run": str(trained.directory),
        "weights": trained.weights,
        "cnnbench": cnnbench.__version__,
        **_recorded(trained),
    }


def _recorded(trained: TrainedModel) -> dict[str, str]:
    """What the run knows of itself, as far as it does: the commit it was trained by, the accuracy of these weights."""
    environment, result = (_read(trained.directory / name) for name in ("environment.json", "result.json"))
    facts = {}
    if isinstance(environment.get("commit"), str):
        facts["commit"] = environment["commit"]
    chosen = trained.weights.startswith("best.pt")
    finished = read_status(trained.directory)["state"] == "finished"  # else the result may be of other weights
    accuracy = result.get("test_accuracy")
    if finished and chosen == isinstance(result.get("best"), dict) and type(accuracy) is float:
        facts["test_accuracy"] = json.dumps(accuracy)
    return facts


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def _check(form: str, content: bytes, trained: TrainedModel, preprocessing: bool) -> str:
    """Run what was exported beside the network; returns in words how nearly it computes the same.

    Raises:
        ConfigError: it does not.
    """
    images, whose = _images(trained)
    difference, largest = differences(
        form, content, lambda: _rebuild(trained), trained.engine, images, preprocessed=not preprocessing
    )
    if not difference <= TOLERANCE * largest:  # which NaN is not
        raise ConfigError(
            f"--format {form}: what was exported does not compute what the network does. On {whose} logits differ by "
            f"up to {difference:.2g}, and may by {TOLERANCE * largest:.2g}. Nothing was written. Try another format."
        )
    return f"with {FORMATS[form].runtime} on {whose}: largest difference {difference:.2g}, largest logit {largest:.3g}"


def _name(trained: TrainedModel) -> str:
    """Of the network, as a part of a file name."""
    return trained.config.model.name.rpartition(":")[2]


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise explain_write_error(path, error, "--output FILE") from error


def _rebuild(trained: TrainedModel) -> Classifier:
    """A network of the same kind, with other weights."""
    config, dataset = trained.config, trained.dataset
    network = models.build(
        config.model.name, dataset.in_channels, len(dataset.classes), config.data.resize, **config.model.arguments
    )
    return Classifier(network, trained.engine.config.tta)


def _images(trained: TrainedModel) -> tuple[torch.Tensor, str]:
    """What to compare on, uint8 (N, C, H, W): test images if they are on this machine, and what they are in words."""
    dataset = trained.dataset
    shape = (COMPARED, dataset.in_channels, dataset.image_size, dataset.image_size)
    known = catalog.CATALOG.get(dataset.name)
    if known is not None and known.sha256 == dataset.sha256:
        arrays = storage.load_here(known)
        if arrays is not None:
            images = torch.from_numpy(arrays.test_images[:COMPARED].copy())
            return images.view(shape), f"{COMPARED} test images of {dataset.title}"
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator), f"{COMPARED} random images"
