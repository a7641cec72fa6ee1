"""The memory that training takes, worked out before it is taken."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from cnnbench.analysis.meta_shapes import ShapeRules
from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.errors import ConfigError

__all__ = ["TrainingMemory", "compute_dtype", "estimate_fixed_memory", "estimate_memory"]


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes. Activations are what the forward pass keeps for the backward pass."""

    weights: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def total(self) -> int:
        """As if all were there at once: the most that there can be of these tensors."""
        return self.weights + self.gradients + self.optimizer_state + self.activations

    @property
    def least(self) -> int:
        """What is certainly there at once: gradients are freed before the forward pass fills the activations."""
        return self.weights + self.optimizer_state + max(self.gradients, self.activations)


def compute_dtype(precision: str) -> torch.dtype:
    """What the network computes in, of a value of device.precision."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}.get(
        precision, torch.float32
    )


def estimate_fixed_memory(network: nn.Module, optimizer: OptimizerConfig) -> TrainingMemory:
    """What training takes whatever the batch is."""
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return TrainingMemory(weights, weights, weights * _state_tensors(optimizer), 0)


def estimate_memory(
    network: nn.Module, images: torch.Tensor, optimizer: OptimizerConfig, dtype: torch.dtype
) -> TrainingMemory:
    """What a step of training on `images` (N, C, H, W) takes; both are on the meta device.

    The tensors that autograd saves are counted, each storage once. The network is converted to `dtype`. One of 16 bits
    is that of autocast: the weights then have 32, and their copies in 16 are activations.
    Dropout counts as on the CPU, which keeps a number for each; a GPU keeps a byte.

    Raises:
        ConfigError: it is more than a computer can count.
    """
    own = torch.promote_types(dtype, torch.float32)
    memory = estimate_fixed_memory(network.to(own), optimizer)
    lasting = list(network.to(dtype).buffers())
    if dtype == own:
        lasting += network.parameters()
    known = {tensor.untyped_storage()._cdata for tensor in lasting}
    saved: dict[int, torch.UntypedStorage] = {}

    nothing = torch.empty(0, device="meta")

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage
        return nothing  # a graph that is given its own tensors holds itself, for ever

    try:
        with ShapeRules(), torch.autograd.graph.saved_tensors_hooks(count, lambda packed: packed):
            network.train()(images.to(dtype))
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise ConfigError(
            f"The memory that a batch takes is beyond counting: {error}. Lower train.batch_size or data.resize."
        ) from error
    activations = sum(storage.nbytes() for storage in saved.values())
    return replace(memory, activations=activations)


def _state_tensors(optimizer: OptimizerConfig) -> int:
    """How many numbers the optimizer keeps for each weight."""
    match optimizer:
        case SgdConfig():
            return int(optimizer.momentum > 0)
        case RMSpropConfig():
            return 1 + int(optimizer.momentum > 0)
        case AdamConfig():
            return 2
        case AdagradConfig():
            return 1
        case MuonConfig():
            return 1  # AdamW keeps 2 for the rest, which is little but for the classifier of a perceptron
