"""`cnnbench export`: a trained network as a file for other programs, compared with the network before it is kept."""

import argparse
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

import cnnbench
from cnnbench.analysis.format import format_bytes, printable
from cnnbench.data import catalog, download
from cnnbench.data.catalog import Dataset
from cnnbench.errors import ConfigError, explain_write_error
from cnnbench.runs.atomic_files import write_atomically
from cnnbench.runs.records import read_records
from cnnbench.training.export import FORMATS, Classifier, Preprocessing, differences, pack
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["TOLERANCE", "run"]

TOLERANCE = 1e-4  # the most that logits may differ by, in parts of the largest; single precision makes some 1e-6 of it

COMPARED = 64  # images

# the network as it was trained, but computed as other programs compute; the data are not read from where it says
SETTINGS = (
    *("device=cpu", "device.precision=fp32", "device.channels_last=false"),
    *("reference=none", "data.root=null"),
)


def run(options: argparse.Namespace, conf: Path) -> None:
    """Write the file and say what is in it.

    Raises:
        CnnbenchError: as `load_trained_model`.
        ConfigError: a package is missing, the network cannot be exported so or comes out as another, or the file
            cannot be written.
    """
    form, preprocesses = FORMATS[options.format], options.preprocessing
    if preprocesses and options.format == "safetensors":
        raise ConfigError(
            "--preprocessing: safetensors holds weights alone. Use --format onnx or torch_export."
        )
    specs = {package: find_spec(package) for package in form.packages}
    # one without an origin is a mere folder of that name
    missing = [package for package, spec in specs.items() if spec is None or spec.origin is None]
    if missing:
        raise ConfigError(
            f"--format {options.format} needs {' and '.join(missing)}: pip install 'cnnbench[onnx]'"
        )
    run, trust = options.directory, options.allow_custom_model
    trained = load_trained_model(run, SETTINGS, conf, "export", trust, options.rest)
    config, engine, dataset = trained.config, trained.engine, trained.dataset
    side = dataset.image_size if preprocesses else config.data.resize
    network = f"{config.model.name} ({trained.weights})"
    print(printable(f"Exporting {network} as {options.format} ..."), file=sys.stderr)
    preprocessing = Preprocessing(engine.preprocess, side) if preprocesses else None
    classifier = Classifier(engine.eval_model, engine.config.tta, preprocessing)
    takes = torch.zeros(2, dataset.in_channels, side, side)
    metadata = _metadata(trained, preprocesses, side)
    content = pack(options.format, classifier, takes.byte() if preprocesses else takes, metadata)
    checked = _check(options.format, content, trained, preprocesses)
    name = config.model.name.rpartition(":")[2]
    path = options.output or trained.directory / "export" / f"{name}{form.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise explain_write_error(path, error, "Name another place: --output FILE.") from error
    heading = f"{os.path.relpath(path)}, {format_bytes(len(content))}: {network}"
    takes_and_gives = f"takes    {metadata['input']}\ngives    {metadata['output']}"
    print(printable(f"{heading}\n{takes_and_gives}\nchecked  {checked}"))


def _metadata(trained: TrainedModel, preprocessing: bool, side: int) -> dict[str, str]:
    """Return what whoever has the file alone must know, each a string."""
    dataset, config = trained.dataset, trained.config
    shape = f"(N, {dataset.in_channels}, {side}, {side})"
    values = "pixels / 255, less the mean, divided by std"
    metadata = {
        "model": config.model.name,
        "arguments": json.dumps(config.model.arguments),
        "input": f"images: uint8 {shape}"
        if preprocessing
        else f"images: float32 {shape}, {values}",
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
    }
    (run,) = read_records(trained.directory)
    commit, accuracy = run.environment.get("commit"), run.result.get("test_accuracy")
    if isinstance(commit, str):
        metadata["commit"] = commit
    is_chosen = trained.weights.startswith("best.pt")  # else the result is of other weights
    if type(accuracy) is float and is_chosen == isinstance(run.result.get("best"), dict):
        metadata["test_accuracy"] = json.dumps(accuracy)
    return metadata


def _check(form: str, content: bytes, trained: TrainedModel, preprocessing: bool) -> str:
    """Require that what was exported computes what the network does; return in words how nearly."""
    images, whose = _images(trained.dataset)
    difference, largest = differences(form, content, trained.engine, images, not preprocessing)
    if not difference <= TOLERANCE * largest:  # which NaN is not
        raise ConfigError(
            f"--format {form}: what was exported does not compute what the network does. On {whose} logits differ by "
            f"up to {difference:.2g}, and may by {TOLERANCE * largest:.2g}. Nothing was written. Try another format."
        )
    return f"with {FORMATS[form].runtime} on {whose}: largest difference {difference:.2g}, largest logit {largest:.3g}"


def _images(dataset: Dataset) -> tuple[torch.Tensor, str]:
    """Return what to compare on, uint8 (N, C, H, W), test images if they are on this machine, and its description."""
    shape = (COMPARED, dataset.in_channels, dataset.image_size, dataset.image_size)
    known = catalog.CATALOG.get(dataset.name)
    if known is not None and known.sha256 == dataset.sha256:
        arrays = download.load_local(known)
        if arrays is not None:
            images = torch.from_numpy(arrays.test_images[:COMPARED].copy())
            return images.view(shape), f"{COMPARED} test images of {dataset.title}"
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return images, f"{COMPARED} random images"
