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
from cnnbench.runs.reading import (
    OUTPUTS,
    check_is_run,
    check_training_run,
    list_runs,
    read_json,
)
from cnnbench.runs.torchrun_env import processes
from cnnbench.training import checkpoint
from cnnbench.training.build import build_engine, on_meta
from cnnbench.training.engine import EagerEngine
from cnnbench.training.state import State

__all__ = [
    "TrainedModel",
    "describe_checkpoint",
    "load_best_or_last",
    "load_trained_model",
    "read_dataset",
    "weights_to_use",
]

MAX_SIDE = 4096  # pixels of a training image; data.resize has the same limit
MAX_REASON = 300  # characters of a PyTorch error message


@dataclass(frozen=True)
class TrainedModel:
    """A network on a device, with the weights of a checkpoint.

    `config` is the configuration of the run with `overrides` applied. `dataset` describes the
    training data, whose classes are the outputs of the network. `weights` names the checkpoint and
    its epoch, such as "best.pt, epoch 5".
    """

    directory: Path
    config: Config
    dataset: Dataset
    engine: EagerEngine
    weights: str
    overrides: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the K classes, in the order of the logits."""
        return tuple(self.dataset.classes)

    @property
    def model(self) -> nn.Module:
        """The network in evaluation mode.

        It computes logits (N, K) from the images (N, C, S, S) that `preprocess` returns.
        """
        return self.engine.eval_model

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """Resize and normalize uint8 images (N, C, H, W); return images (N, C, S, S).

        S is `config.data.resize`. Both tensors are on the device of the network.
        """
        return self.engine.inputs(images)

    def __call__(self, images: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of uint8 images (N, C, H, W), a tensor or an array.

        They are computed as in the evaluations during training: in the precision of the device, and
        with train.tta.

        Raises:
            ConfigError: the images have another type or shape.
        """
        pixels = torch.as_tensor(images, device=self.engine.device.torch_device)
        channels = self.dataset.in_channels
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != channels:
            actual = f"{str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}"
            raise ConfigError(f"The images are {actual}. They must be uint8 (N, {channels}, H, W).")
        return self.engine.classify(pixels)

    def __repr__(self) -> str:
        directory, name = os.path.relpath(self.directory), self.config.model.name
        values = f"model={name!r}, classes={len(self.classes)}, weights={self.weights!r}"
        return f"TrainedModel({directory!r}, {values})"


def load_trained_model(
    directory: Path,
    overrides: Sequence[str],
    conf: Path,
    command: str,
    allow_custom_model: bool = False,
    rest: Sequence[str] | None = None,
) -> TrainedModel:
    """Load the trained network of the run in `directory`, which may be untrusted.

    If the run had a validation set, the weights of its best epoch are used; otherwise the last
    weights.

    Args:
        directory: a training run.
        overrides: changes of the data, the device and the evaluation. The network and its input
            size cannot be changed.
        conf: the folder of the YAML files that the overrides choose from.
        command: the command's first word, for messages.
        allow_custom_model: whether the Python file of a custom model may be run.
        rest: the words of the command line after `command`, without the directory. None for a
            call from Python.

    Raises:
        ConfigError: `directory` is not a training run, has links to outside, or the overrides are
            wrong.
        CheckpointError: the checkpoint is missing, damaged or refused.
    """
    if processes().several:
        raise ConfigError(f"cnnbench {command} works in one process. Start it without torchrun.")
    check_is_run(directory, "evaluate" if rest is None else command)
    check_training_run(directory)
    refusal = f"by {command}: the network is as it was trained"
    changes = configuration.parse_changes(overrides, INFERENCE_OVERRIDES, refusal)
    state, name = load_best_or_last(directory)
    path = directory / "checkpoints" / name
    values = state.get("config")
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} does not say how its network is built.")
    recorded = configuration.load_config(values)
    dataset = read_dataset(directory)
    locked = _lock_input_settings(configuration.expand_groups(changes, conf), recorded)
    config = configuration.apply_overrides(values, locked)
    confirmed = {(key, str(value)) for key, value in changes.items()}
    confirmed.add(("data.path", str(config.data.path)))  # a folder that is only read
    confirmed.add(("model.weights", str(config.model.weights)))  # not read
    words = [] if rest is None else ["cnnbench", command, str(directory)]
    trusts = allow_custom_model
    configuration.check_trust(directory, config, confirmed, trusts, words, rest or ())
    # Compiling and capturing pay off only in training.
    eager = replace(config, device=replace(config.device, cuda_graphs=False, compile=False))
    # On the meta device, so that the untrusted configuration cannot take memory.
    network, _ = on_meta(eager, dataset, 1)
    label = _describe_fitting(state, path, network, config.model.name)
    engine = build_engine(eager, dataset)
    engine.eval_model.load_state_dict(weights_to_use(state))
    engine.eval_model.eval()
    return TrainedModel(directory, config, dataset, engine, label, changes)


def _describe_fitting(state: State, path: Path, network: nn.Module, model: str) -> str:
    """Return the description of an untrusted checkpoint whose weights fit the network.

    Raises:
        CheckpointError: they do not fit, or its values are invalid.
    """
    try:
        network.load_state_dict(weights_to_use(state), assign=True)
        return describe_checkpoint(state, path.name)
    except Exception as error:  # values in an untrusted file may raise anything
        reason = truncate(str(error) or type(error).__name__, MAX_REASON)
        raise CheckpointError(f"{path} does not fit {model}: {reason}") from error


def weights_to_use(state: State) -> Any:
    """Return the weights of a checkpoint to evaluate: with train.ema_decay the average."""
    return state.get("model") if state.get("average") is None else state["average"]


def describe_checkpoint(state: State, name: str) -> str:
    """Return the file name of a checkpoint and its epoch, such as "best.pt, epoch 5"."""
    epoch, step = int(state["epoch"]), int(state.get("step", 0))
    steps = f" and {format_count(step, 'step')}" if step else ""
    return f"{name}, epoch {epoch:,}{steps}"


def load_best_or_last(directory: Path) -> tuple[State, str]:
    """Return the checkpoint to use and its file name: best.pt if it exists, otherwise the last.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or refused.
    """
    folder = directory / "checkpoints"
    if (folder / "best.pt").exists():
        return checkpoint.load_checkpoint(folder / "best.pt"), "best.pt"
    state, problems = checkpoint.load_newest(folder)
    if state is None:
        others = [run for run in list_runs(OUTPUTS) if any(run.glob("checkpoints/*.pt"))]
        newest = f" The newest run with one is {others[-1]}." if others else ""
        raise CheckpointError(
            f"{directory} has no checkpoint: the run ended before the first one, or they were "
            f"deleted. Train it, or give another run.{newest}"
        )
    for problem in problems:
        text = f"cnnbench: {problem.rstrip('.')}. The checkpoint before it is used."
        print(printable(text), file=sys.stderr)
    return state, "previous.pt" if problems else "last.pt"


def read_dataset(directory: Path) -> Dataset:
    """Read the record of the training data in an untrusted run directory.

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
    """Return the changes with the input size and normalization of training.

    Raises:
        ConfigError: the changes ask for another size, or for no normalization.
    """
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
