"""A network that was trained, as a run directory holds it, for the verbs that use one."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

from cnnbench import config as configuration
from cnnbench.analysis.format import printable
from cnnbench.config import INFERENCE_OVERRIDES, Config
from cnnbench.data import catalog
from cnnbench.data.catalog import Dataset
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.runs.directory import DATASET
from cnnbench.runs.processes import processes
from cnnbench.runs.reading import find_runs, read_json, read_status, refuse_ways_out
from cnnbench.training import checkpoint
from cnnbench.training.build import build_engine, on_meta
from cnnbench.training.engine import EagerEngine

__all__ = ["Trained", "open_run", "read_dataset"]

MAX_SIDE = 4096  # pixels of a training image, as of data.resize


@dataclass(frozen=True)
class Trained:
    """A network on a device, with the weights of a checkpoint.

    `config` is the run's with what was overridden; `dataset` what it was trained on, whose classes are its outputs.
    `weights` say in words which they are, such as "best.pt, epoch 5".
    """

    directory: Path
    config: Config
    dataset: Dataset
    engine: EagerEngine
    weights: str
    overridden: Mapping[str, Any]


def open_run(directory: Path, overrides: list[str], conf: Path, verb: str, allow_custom_model: bool = False) -> Trained:
    """The network that the run in `directory`, which may be anyone's, has trained, of the best epoch if one was chosen.

    `overrides` may change the data, the device and how it is measured; `conf` is the folder of the YAMLs that they
    choose from. The network itself and the size of its input stay.

    Raises:
        ConfigError: it holds no such run, leads out of itself, or the overrides are wrong or ask for what is not here.
        CheckpointError: it has no checkpoint, or a damaged or refused one.
    """
    if processes().several:
        raise ConfigError(f"cnnbench {verb} works in one process. Start it without torchrun.")
    _require_run(directory)
    changes = configuration.parse_changes(
        overrides, INFERENCE_OVERRIDES, f"by {verb}: the network is as it was trained"
    )
    state, name = _load(directory)
    values = state.get("config")
    if not isinstance(values, dict) or "${" in repr(values):
        raise CheckpointError(f"{directory / 'checkpoints' / name} does not say how its network is built.")
    recorded = configuration.load(values)
    dataset = read_dataset(directory, recorded)
    settings = configuration.apply_overrides(
        values, _kept_fixed(configuration.expand_groups(changes, conf), recorded, dataset)
    )
    _require_consent(directory, settings, changes, verb, allow_custom_model)
    eager = replace(
        settings, device=replace(settings.device, cuda_graphs=False, compile=False)
    )  # worth it in training alone
    weights: Any = state.get("model") if state.get("average") is None else state["average"]
    place = directory / "checkpoints" / name
    _require_fitting(
        place, replace(eager, device=recorded.device), dataset, weights
    )  # before a stranger's configuration takes any memory
    engine = build_engine(eager, dataset)
    try:
        engine.evaluated.load_state_dict(weights)
        reached = _in_words(int(state["epoch"]), int(state.get("step", 0)))
    except Exception as error:  # whatever the values of a stranger's file lead to
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{place} does not fit {settings.model.name}: {reason}") from error
    engine.evaluated.eval()
    return Trained(directory, settings, dataset, engine, f"{name}, {reached}", changes)


def _require_run(directory: Path) -> None:
    runs = find_runs(directory)
    if runs != [directory]:
        raise ConfigError(
            f"{directory} is no run but holds {len(runs):,}. Give one of them, such as {runs[0]}. "
            f"cnnbench report {shlex.quote(str(directory))} compares them."
        )
    refuse_ways_out(directory)
    status = read_status(directory)
    if status.get("verb", "train") != "train":
        raise ConfigError(f"{directory} holds no training run but what cnnbench {status['verb']} left.")


def _load(directory: Path) -> tuple[checkpoint.State, str]:
    """The checkpoint to use, and its name: best.pt, which only a run that chooses an epoch has, else the last."""
    folder = directory / "checkpoints"
    if (folder / "best.pt").exists():
        return checkpoint.load(folder / "best.pt"), "best.pt"
    state, problems = checkpoint.load_newest(folder)
    if state is None:
        raise CheckpointError(
            f"{directory} has no checkpoint: its run had not come to the first, or they were deleted. "
            "Train it, or give another run."
        )
    for problem in problems:
        print(printable(f"cnnbench: {problem.rstrip('.')}. The checkpoint before it is used."), file=sys.stderr)
    return state, "previous.pt" if problems else "last.pt"


def read_dataset(directory: Path, recorded: Config) -> Dataset:
    """What the network was trained on, by a run directory that may be anyone's.

    Raises:
        CheckpointError: it does not say so, or is damaged.
        OSError: it cannot be read.
    """
    try:
        dataset = Dataset.from_record(read_json(directory / DATASET))
        if dataset.image_size > MAX_SIDE:
            raise ValueError(f"its images have {dataset.image_size:,} pixels a side")
        return dataset
    except FileNotFoundError as error:
        if recorded.data.name not in catalog.CATALOG:
            raise CheckpointError(f"{directory / DATASET} is gone: it held the names of the classes.") from error
        return catalog.get(recorded.data.name)  # a run of an earlier version
    except ValueError as error:
        reason = str(error).removeprefix(f"{directory / DATASET} ").rstrip(".")
        raise CheckpointError(f"{directory / DATASET} is damaged: {reason}.") from error


def _require_fitting(place: Path, config: Config, dataset: Dataset, weights: Any) -> None:
    """Check that the weights are those of the network that the configuration describes, which takes no memory.

    Raises:
        CheckpointError: they are of another.
        ConfigError: there is no such network.
    """
    network, _ = on_meta(config, dataset, 1)
    if config.device.precision == "fp64":
        network.double()
    wanted, given = _kinds(network.state_dict()), _kinds(weights if isinstance(weights, dict) else {})
    for name in {**wanted, **given}:
        if wanted.get(name) != given.get(name):
            raise CheckpointError(
                f"{place} does not fit {config.model.name}: {name} is {given.get(name, 'missing')} there, "
                f"and {wanted.get(name, 'missing')} in the network."
            )


def _kinds(weights: Mapping[str, Any]) -> dict[str, str]:
    """Of each of the weights, by name, what it is but for its values."""
    return {
        str(name): f"{each.dtype} of shape {tuple(each.shape)}" if isinstance(each, torch.Tensor) else "a plain value"
        for name, each in weights.items()
    }


def _in_words(epoch: int, step: int) -> str:
    return f"epoch {epoch:,}" + (f" and {step:,} step{'s' * (step > 1)}" if step else "")


def _kept_fixed(changes: Mapping[str, Any], recorded: Config, dataset: Dataset) -> dict[str, Any]:
    """The changes, with the network's input as it was trained: its size, and how its pixels are scaled.

    Raises:
        ConfigError: another one is asked for.
    """
    size = recorded.data.resize
    if changes.get("data.resize", size) not in (size, "${model.recipe.resize}", "${data.image_size}"):
        raise ConfigError(f"data.resize={changes['data.resize']}: the network was built for images of {size} pixels.")
    if recorded.data.normalize and not changes.get("data.normalize", True):
        raise ConfigError("data.normalize=false: the network was trained on images that were normalized.")
    return {**changes, "data.resize": size, "data.normalize": recorded.data.normalize}


def _require_consent(
    directory: Path, settings: Config, changes: Mapping[str, Any], verb: str, allow_custom_model: bool
) -> None:
    """What a run directory of a stranger may not decide by itself: which code runs, where data are written."""
    command = f"cnnbench {verb} {shlex.quote(str(directory))}"
    if ":" in settings.model.name and not allow_custom_model:
        raise ConfigError(
            f"The network of {directory} is {settings.model.name}, code that is not cnnbench's. "
            f"If you trust it: {command} --allow-custom-model"
        )
    if settings.data.root is not None and "data.root" not in changes:
        root = configuration.format_override("data.root", settings.data.root)
        raise ConfigError(
            f"{directory} keeps its data in a folder of its own, data.root={settings.data.root}. "
            f"If that is yours: {command} {shlex.quote(root)}"
        )
