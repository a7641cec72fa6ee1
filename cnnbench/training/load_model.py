"""Load the trained network of a run directory, which may be untrusted."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from msgspec.structs import replace
from torch import nn

from cnnbench import config as configuration
from cnnbench.analysis.format import format_count, printable, truncate
from cnnbench.config import INFERENCE_OVERRIDES, Config
from cnnbench.data.catalog import Dataset
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.runs.directory import DATASET
from cnnbench.runs.reading import check_is_run, check_training_run, read_json
from cnnbench.runs.torchrun_env import processes
from cnnbench.training import checkpoint
from cnnbench.training.build import build_engine, on_meta
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import State

__all__ = ["TrainedModel", "load_trained_model", "read_dataset"]

MAX_SIDE = 4096  # pixels of a training image; data.resize has the same limit
MAX_REASON = 300  # characters of an error of PyTorch


@dataclass(frozen=True)
class TrainedModel:
    """A network on a device, with the weights of a checkpoint.

    `config` is the configuration of the run with `overrides` applied. `dataset` is what the network
    was trained on: its classes are the outputs. `weights` names the checkpoint and its epoch, such
    as "best.pt, epoch 5".
    """

    directory: Path
    config: Config
    dataset: Dataset
    engine: EagerEngine
    weights: str
    overrides: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.dataset.classes)

    @property
    def model(self) -> nn.Module:
        """The network in evaluation mode: images (N, C, S, S) to logits (N, K).

        Its images are those that `preprocess` returns.
        """
        return self.engine.eval_model

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """Return normalized images (N, C, S, S) for uint8 images (N, C, H, W).

        S is `config.data.resize`. Both are on the device of the network.
        """
        return self.engine.inputs(images)

    def __call__(self, images: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of uint8 images (N, C, H, W), a tensor or an array.

        They are computed as in training: in the precision of the device, and with train.tta.

        Raises:
            ConfigError: the images are of another type or shape.
        """
        pixels = torch.as_tensor(images, device=self.engine.device.torch_device)
        channels = self.dataset.in_channels
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != channels:
            given = f"{str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}"
            raise ConfigError(f"The images are {given}. They must be uint8 (N, {channels}, H, W).")
        return self.engine.classify(pixels)

    def __repr__(self) -> str:
        place, name = os.path.relpath(self.directory), self.config.model.name
        figures = f"model={name!r}, classes={len(self.classes)}, weights={self.weights!r}"
        return f"TrainedModel({place!r}, {figures})"


def load_trained_model(
    directory: Path,
    overrides: Sequence[str],
    conf: Path,
    command: str,
    allow_custom_model: bool = False,
    rest: Sequence[str] | None = None,
) -> TrainedModel:
    """Load the network that the run in `directory` has trained.

    If the run had a validation set, the weights of its best epoch are used; otherwise the last
    weights. `overrides` may change the data, the device and how the network is measured; `conf` is
    the folder of the YAMLs that they choose from. The network and its input size stay. `rest` is
    what the user has typed after `command`, beside the directory; None for a call from Python.

    Raises:
        ConfigError: it holds no such run, leads out of itself, or the overrides are wrong.
        CheckpointError: it has no checkpoint, or a damaged or refused one.
    """
    if processes().several:
        raise ConfigError(f"cnnbench {command} works in one process. Start it without torchrun.")
    check_is_run(directory, "evaluate" if rest is None else command)
    check_training_run(directory)
    refusal = f"by {command}: the network is as it was trained"
    changes = configuration.parse_changes(overrides, INFERENCE_OVERRIDES, refusal)
    state, name = _load_checkpoint(directory)
    place = directory / "checkpoints" / name
    values = state.get("config")
    if not isinstance(values, dict):
        raise CheckpointError(f"{place} does not say how its network is built.")
    recorded = configuration.load(values)
    dataset = read_dataset(directory)
    locked = _lock_input_settings(configuration.expand_groups(changes, conf), recorded)
    config = configuration.apply_overrides(values, locked)
    confirmed = {(key, str(value)) for key, value in changes.items()}
    confirmed.add(("data.path", str(config.data.path)))  # images are read, and nothing is written
    words = [] if rest is None else ["cnnbench", command, str(directory)]
    trusts = allow_custom_model
    configuration.check_trust(directory, config, confirmed, trusts, words, rest or ())
    # Compiling and capturing pay off in training alone.
    eager = replace(config, device=replace(config.device, cuda_graphs=False, compile=False))
    weights: Any = state.get("model") if state.get("average") is None else state["average"]
    network, _ = on_meta(eager, dataset, 1)
    try:
        network.load_state_dict(weights, assign=True)  # before untrusted values take memory
        epoch, step = int(state["epoch"]), int(state.get("step", 0))
    except Exception as error:  # values in an untrusted file may raise anything
        reason = truncate(str(error) or type(error).__name__, MAX_REASON)
        raise CheckpointError(f"{place} does not fit {config.model.name}: {reason}") from error
    engine = build_engine(eager, dataset)
    engine.eval_model.load_state_dict(weights)
    engine.eval_model.eval()
    steps = f" and {format_count(step, 'step')}" if step else ""
    name = f"{name}, epoch {epoch:,}{steps}"
    return TrainedModel(directory, config, dataset, engine, name, changes)


def _load_checkpoint(directory: Path) -> tuple[State, str]:
    """Return the checkpoint to use and its name: best.pt if there is one, otherwise the last."""
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
        text = f"cnnbench: {problem.rstrip('.')}. The checkpoint before it is used."
        print(printable(text), file=sys.stderr)
    return state, "previous.pt" if problems else "last.pt"


def read_dataset(directory: Path) -> Dataset:
    """Read what the network was trained on from an untrusted run directory.

    Raises:
        CheckpointError: the record is missing or damaged.
        OSError: the record cannot be read.
    """
    path = directory / DATASET
    try:
        dataset = Dataset.from_record(read_json(path))
        if dataset.image_size > MAX_SIDE:
            raise ValueError(f"its images have {dataset.image_size:,} pixels a side")
        return dataset
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is gone: it held the names of the classes.") from error
    except ValueError as error:
        reason = str(error).removeprefix(f"{path} ").rstrip(".")
        raise CheckpointError(f"{path} is damaged: {reason}.") from error


def _lock_input_settings(changes: Mapping[str, Any], recorded: Config) -> dict[str, Any]:
    """Return the changes with the input as it was in training: its size and normalization."""
    size = recorded.data.resize
    allowed = (size, "${model.recipe.resize}", "${data.image_size}")
    wanted = changes.get("data.resize", size)
    if wanted not in allowed:
        raise ConfigError(
            f"data.resize={wanted}: the network was built for images of {size} pixels."
        )
    if recorded.data.normalize and not changes.get("data.normalize", True):
        reason = "the network was trained on images that were normalized"
        raise ConfigError(f"data.normalize=false: {reason}.")
    return {**changes, "data.resize": size, "data.normalize": recorded.data.normalize}
