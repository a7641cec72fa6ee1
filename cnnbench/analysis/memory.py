"""Estimate the memory of training before it starts."""

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
    """The bytes of each kind of tensor.

    Activations are the tensors that the forward pass keeps for the backward pass.
    """

    weights: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def total(self) -> int:
        """Return the sum of all kinds, an upper bound of the bytes at one time."""
        return self.weights + self.gradients + self.optimizer_state + self.activations

    @property
    def least(self) -> int:
        """Return a lower bound of the peak.

        Gradients are freed before the forward pass fills the activations.
        """
        return self.weights + self.optimizer_state + max(self.gradients, self.activations)


def compute_dtype(precision: str) -> torch.dtype:
    """Return the dtype in which the network computes, for a value of device.precision."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
    return dtypes.get(precision, torch.float32)


def estimate_fixed_memory(network: nn.Module, optimizer: OptimizerConfig) -> TrainingMemory:
    """Return the memory that does not depend on the batch: all but the activations."""
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return TrainingMemory(weights, weights, weights * _count_state_tensors(optimizer), 0)


def estimate_memory(
    network: nn.Module, images: torch.Tensor, optimizer: OptimizerConfig, dtype: torch.dtype
) -> TrainingMemory:
    """Return the memory of a training step on `images` (N, C, H, W).

    `network` and `images` are on the meta device. The network is converted to `dtype`. The
    activations are the tensors that autograd saves, each storage once. A 16-bit `dtype` stands for
    autocast: the weights have 32 bits, and their 16-bit copies are activations. Dropout counts as
    on the CPU, which keeps a number for each element. A GPU keeps a byte.

    Raises:
        ConfigError: the number of bytes overflows.
    """
    weight_dtype = torch.promote_types(dtype, torch.float32)
    memory = estimate_fixed_memory(network.to(weight_dtype), optimizer)
    permanent = list(network.to(dtype).buffers())
    if dtype == weight_dtype:
        permanent += network.parameters()
    known = {tensor.untyped_storage()._cdata for tensor in permanent}
    saved: dict[int, torch.UntypedStorage] = {}
    placeholder = torch.empty(0, device="meta")

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage
        return placeholder  # returning the tensor would leave a reference cycle in the graph

    try:
        with ShapeRules(), torch.autograd.graph.saved_tensors_hooks(count, lambda packed: packed):
            network.train()(images.to(dtype))
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise ConfigError(
            f"The memory of a batch is too large to compute: {error}. "
            "Lower train.batch_size or data.resize."
        ) from error
    activations = sum(storage.nbytes() for storage in saved.values())
    return replace(memory, activations=activations)


def _count_state_tensors(optimizer: OptimizerConfig) -> int:
    """Return how many numbers the optimizer keeps for each weight."""
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
            # The fallback AdamW keeps 2 for the classifier: few weights, except in a perceptron.
            return 1
