"""`cnnbench export`: write a trained network as a file and compare it with the network."""

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

# Largest difference of logits, as a share of the largest logit. Float32 makes about 1e-6.
TOLERANCE = 1e-4
NUM_COMPARED = 64  # images

# Other programs compute on the CPU in float32. The data of the run are not read.
OVERRIDES = (
    *("device=cpu", "device.precision=fp32", "device.channels_last=false"),
    *("reference=none", "data.root=null"),
)


def run(options: argparse.Namespace, conf: Path) -> None:
    """Write the file and print what it takes and returns.

    Raises:
        CnnbenchError: as for `load_trained_model`.
        ConfigError: a package is missing, the network cannot be exported in this format, the
            exported network computes other logits, or the file cannot be written.
    """
    form, preprocesses = FORMATS[options.format], options.preprocessing
    if preprocesses and options.format == "safetensors":
        raise ConfigError(
            "--preprocessing: safetensors holds weights alone. Use --format onnx or torch_export."
        )
    specs = {package: find_spec(package) for package in form.packages}
    # A spec without an origin is only a folder of that name.
    missing = [package for package, spec in specs.items() if spec is None or spec.origin is None]
    if missing:
        raise ConfigError(
            f"--format {options.format} needs {' and '.join(missing)}: pip install 'cnnbench[onnx]'"
        )
    run, trust = options.directory, options.allow_custom_model
    trained = load_trained_model(run, OVERRIDES, conf, "export", trust, options.rest)
    config, engine, dataset = trained.config, trained.engine, trained.dataset
    side = dataset.image_size if preprocesses else config.data.resize
    network = f"{config.model.name} ({trained.weights})"
    print(printable(f"Exporting {network} as {options.format} ..."), file=sys.stderr)
    preprocessing = Preprocessing(engine.preprocess, side) if preprocesses else None
    classifier = Classifier(engine.eval_model, engine.config.tta, preprocessing)
    takes = torch.zeros(2, dataset.in_channels, side, side)
    metadata = _describe_file(trained, preprocesses, side)
    content = pack(options.format, classifier, takes.byte() if preprocesses else takes, metadata)
    checked = _check_logits(options.format, content, trained, preprocesses)
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


def _describe_file(trained: TrainedModel, preprocessing: bool, side: int) -> dict[str, str]:
    """Return what a user of the file must know, as strings."""
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
    is_chosen = trained.weights.startswith("best.pt")  # otherwise the result has other weights
    if type(accuracy) is float and is_chosen == isinstance(run.result.get("best"), dict):
        metadata["test_accuracy"] = json.dumps(accuracy)
    return metadata


def _check_logits(form: str, content: bytes, trained: TrainedModel, preprocessing: bool) -> str:
    """Check that the exported network computes the same logits; return the difference as text.

    Raises:
        ConfigError: the logits differ by more than TOLERANCE.
    """
    images, source = _load_images(trained.dataset)
    difference, largest = differences(form, content, trained.engine, images, not preprocessing)
    if not difference <= TOLERANCE * largest:  # also if it is NaN
        raise ConfigError(
            f"--format {form}: the exported network does not compute what the network does. "
            f"On {source} logits differ by up to {difference:.2g}, more than the allowed "
            f"{TOLERANCE * largest:.2g}. Nothing was written. Try another format."
        )
    found = f"largest difference {difference:.2g}, largest logit {largest:.3g}"
    return f"with {FORMATS[form].runtime} on {source}: {found}"


def _load_images(dataset: Dataset) -> tuple[torch.Tensor, str]:
    """Return images to compare on, uint8 (N, C, H, W), and a description of them.

    They are test images if these are on this machine, otherwise random.
    """
    shape = (NUM_COMPARED, dataset.in_channels, dataset.image_size, dataset.image_size)
    known = catalog.CATALOG.get(dataset.name)
    if known is not None and known.sha256 == dataset.sha256:
        arrays = download.load_local(known)
        if arrays is not None:
            images = torch.from_numpy(arrays.test_images[:NUM_COMPARED].copy())
            return images.view(shape), f"{NUM_COMPARED} test images of {dataset.title}"
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return images, f"{NUM_COMPARED} random images"
