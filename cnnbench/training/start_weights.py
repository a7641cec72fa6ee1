"""Start from the weights of a trained network: of a run directory or a safetensors file.

Tensors are taken by name and shape, whatever network they come from. A layer is taken whole or not
at all. Both sources may be untrusted: they are read without running code.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnbench.analysis.format import printable, truncate
from cnnbench.config import Config
from cnnbench.data.user_folders import expand_user
from cnnbench.errors import CheckpointError, ConfigError
from cnnbench.runs.directory import STATUS
from cnnbench.runs.reading import check_training_run, list_runs, look_up
from cnnbench.training.checkpoint import digest
from cnnbench.training.engine import EagerEngine
from cnnbench.training.load_model import (
    describe_checkpoint,
    load_best_or_last,
    read_dataset,
    weights_to_use,
)
from cnnbench.training.muon import split_parameters

__all__ = ["Source", "StartWeights", "match_weights", "read_weights"]

MAX_NAMES = 6  # names of tensors in a message
MAX_TEXT = 300  # characters of an untrusted text in a message

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Source:
    """The tensors of a trained network by name, and the names of its classes, if known.

    `title` is such as "RUN (lenet, best.pt, epoch 5)".
    """

    title: str
    tensors: Tensors
    classes: Sequence[str] | None


@dataclass(frozen=True)
class StartWeights:
    """The tensors that a network takes from a source.

    `new` has the other tensors of the network, each with a reason. `unused` names the other tensors
    of the source, and `frozen` the tensors not to train.
    """

    title: str
    taken: Tensors
    new: Mapping[str, str]
    unused: Sequence[str]
    frozen: Sequence[str]

    @property
    def summary(self) -> str:
        """The log line on what was taken and what was not."""
        total = len(self.taken) + len(self.new)
        parts = [f"Weights of {self.title}: {len(self.taken)} of {total} tensors taken"]
        if self.new:
            parts.append(f"new: {_join(f'{name} ({why})' for name, why in self.new.items())}")
        if self.unused:
            parts.append(f"not used: {_join(self.unused)}")
        return printable("; ".join(parts)) + "."

    def as_record(self) -> dict[str, Any]:
        """Return the content of weights.json."""
        return {
            "weights": self.title,
            "sha256": digest(dict(self.taken)),
            "taken": list(self.taken),
            "new": dict(self.new),
            "unused": list(self.unused),
            "frozen": list(self.frozen),
        }

    @torch.no_grad()
    def load_into(self, engine: EagerEngine) -> None:
        """Copy the tensors into the network of the engine and its average."""
        for model in (engine.model, engine.eval_model):
            own = model.state_dict()
            for name, tensor in self.taken.items():
                own[name].copy_(tensor)


def read_weights(path: str) -> Source:
    """Read the weights of a run, best.pt if there is one, or of a .safetensors file.

    Raises:
        ConfigError: there is no run or file at `path`, or the run has no checkpoint yet.
        CheckpointError: the checkpoint or the file is damaged or refused.
    """
    place = expand_user(path)
    if (place / STATUS).exists():
        return _read_run(place)
    if place.is_file() and place.suffix == ".safetensors":
        return _read_safetensors(place)
    if place.is_dir():
        runs = list_runs(place)
        newest = f" The newest run in it is model.weights={runs[-1]}." if runs else ""
        raise ConfigError(f"model.weights={path} is no run: there is no {STATUS} in it.{newest}")
    problem = "has another format" if place.exists() else "is not there"
    if path == "latest":
        problem = "would mean another run later"
    raise ConfigError(
        f"model.weights={path} {problem}. Give a run directory, or a .safetensors file as "
        "cnnbench export RUN --format safetensors writes it."
    )


def _read_run(run: Path) -> Source:
    is_running = check_training_run(run)["state"] == "running"
    if is_running and not any(run.glob("checkpoints/*.pt")):
        raise ConfigError(f"model.weights={run} is being trained and has no checkpoint yet.")
    state, name = load_best_or_last(run)
    tensors = weights_to_use(state)
    try:
        parts = [str(look_up(state, "config", "model", "name")), describe_checkpoint(state, name)]
        is_sound = all(isinstance(tensors[key], torch.Tensor) for key in dict(tensors))
    except Exception as error:  # values in an untrusted file may raise anything
        raise _damaged(run / "checkpoints" / name, error) from error
    if not is_sound:
        raise CheckpointError(f"{run / 'checkpoints' / name} has no weights.")
    if is_running:
        parts.append("still being trained")
    return Source(_title(run, parts), tensors, read_dataset(run).classes)


def _read_safetensors(path: Path) -> Source:
    if find_spec("safetensors") is None:
        raise ConfigError(
            f"model.weights={path} needs safetensors: pip install 'cnnbench[onnx]'. "
            "A run directory needs no package."
        )
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # a file is no mapping
            # Copies, as the file could change later.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except Exception as error:  # the library has no base class for all of its errors
        raise _damaged(path, error) from error
    classes: Any = None
    with suppress(ValueError, RecursionError):  # other programs may mean something else by it
        classes = json.loads(metadata.get("classes", "null"))
    is_list = isinstance(classes, list)
    parts = [metadata[key] for key in ("model", "weights") if key in metadata]
    return Source(
        _title(path, parts), tensors, [str(name) for name in classes] if is_list else None
    )


def match_weights(
    config: Config, network: nn.Module, source: Source, classes: Sequence[str]
) -> StartWeights:
    """Choose the tensors of the source that fit the network, which may be on the meta device.

    The last layer is new if the source has other `classes`. With train.freeze=backbone all other
    tensors that were taken are frozen.

    Raises:
        ConfigError: no weight of more than one dimension fits, or a tensor that fits is not finite.
    """
    own = {key: value for key, value in network.state_dict().items() if torch.is_tensor(value)}
    last = _name_last_layer(network)
    has_other_classes = source.classes is not None and list(source.classes) != list(classes)
    reasons = {name: _explain_misfit(source.tensors.get(name), own[name]) for name in own}
    if has_other_classes:
        is_reordered = sorted(source.classes or ()) == sorted(classes)
        why = "the classes have another order" if is_reordered else "other classes"
        reasons |= {name: reasons[name] or why for name in last}
    new_layers = {_layer_of(name) for name, reason in reasons.items() if reason}
    new = {
        name: reason or "its layer is new"
        for name, reason in reasons.items()
        if _layer_of(name) in new_layers
    }
    taken = {name: source.tensors[name] for name in own if name not in new}
    if not any(tensor.ndim > 1 for tensor in taken.values()):
        raise ConfigError(
            f"model.weights={config.model.weights}: none of its weights fits {config.model.name}.\n"
            f"{printable(source.title)} has {_list_shapes(source.tensors)};\n"
            f"{config.model.name} has {_list_shapes(own)}."
        )
    for name, tensor in taken.items():
        if not tensor.float().isfinite().all():
            raise ConfigError(f"model.weights={config.model.weights}: {name} is not finite.")
    frozen = []
    if config.train.freeze == "backbone":
        frozen = [name for name in taken if name not in last]
    unused = [name for name in source.tensors if name not in taken and name not in new]
    return StartWeights(source.title, taken, new, unused, frozen)


def _name_last_layer(network: nn.Module) -> set[str]:
    """Return the names of the parameters of the last layer, and of auxiliary classifiers."""
    _, rest = split_parameters(network)
    weights = {parameter for parameter in rest if parameter.ndim > 1}
    names: set[str] = set()
    for prefix, module in network.named_modules():
        own = dict(module.named_parameters(prefix=prefix, recurse=False))
        if not weights.isdisjoint(own.values()):
            names |= own.keys()
    return names


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0]


def _explain_misfit(tensor: torch.Tensor | None, own: torch.Tensor) -> str:
    """Return why a tensor cannot replace the `own` tensor of the network, or ""."""
    if tensor is None:
        return "not there"
    if tensor.shape != own.shape:
        return f"{_format_shape(tensor)} -> {_format_shape(own)}"
    if tensor.is_floating_point() != own.is_floating_point():
        return f"{tensor.dtype} -> {own.dtype}"
    return ""


def _title(path: Path, parts: Sequence[str]) -> str:
    """Return a path with untrusted facts in parentheses."""
    facts = truncate(", ".join(parts), MAX_TEXT)
    return f"{path} ({facts})" if facts else str(path)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = truncate(str(error) or type(error).__name__, MAX_TEXT)
    return CheckpointError(f"{path} is damaged: {reason}")


def _list_shapes(tensors: Tensors) -> str:
    return _join(f"{name} ({_format_shape(tensor)})" for name, tensor in tensors.items())


def _format_shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _join(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are. The names may be untrusted."""
    listed = [truncate(name, MAX_TEXT) for name in names]
    rest = f" and {len(listed) - MAX_NAMES:,} more" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + rest
