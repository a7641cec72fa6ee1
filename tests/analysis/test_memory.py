"""The estimate of the memory that training takes."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.memory import TrainingMemory, estimate_fixed_memory, estimate_memory
from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    MomentumConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.errors import ConfigError
from cnnbench.training.muon import Muon, fallback_config, split_parameters
from cnnbench.training.optimizers import make_optimizer

SGD = SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
OPTIMIZERS: list[OptimizerConfig] = [
    SGD,
    MomentumConfig(lr=0.1, momentum=0.9, weight_decay=0.0),
    AdagradConfig(lr=0.1, eps=1e-8, weight_decay=0.0),
    AdamConfig(lr=0.1, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
    AdamWConfig(lr=0.1, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0),
    RMSpropConfig(lr=0.1, alpha=0.9, eps=1e-8, momentum=0.0, weight_decay=0.0),
    RMSpropConfig(lr=0.1, alpha=0.9, eps=1e-8, momentum=0.9, weight_decay=0.0),
]


def estimate_of(
    network: nn.Module,
    shape: tuple[int, ...],
    optimizer: OptimizerConfig = SGD,
    dtype: torch.dtype = torch.float32,
) -> TrainingMemory:
    return estimate_memory(network.to("meta"), torch.empty(shape, device="meta"), optimizer, dtype)


@pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=lambda config: f"{config.name} {getattr(config, 'momentum', '')}"
)
def test_optimizer_state_matches_optimizer(optimizer: OptimizerConfig) -> None:
    network = nn.Linear(64, 32)
    made = make_optimizer(optimizer, network.parameters(), torch.device("cpu"))
    network(torch.ones(2, 64)).sum().backward()
    made.step()
    values = [value for state in made.state.values() for value in state.values()]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    num_bytes = sum(tensor.nbytes for tensor in tensors if tensor.ndim > 0)  # without step counts
    assert estimate_of(nn.Linear(64, 32), (2, 64), optimizer).optimizer_state == num_bytes


def test_state_of_muon_matches_muon_and_its_fallback() -> None:
    config = MuonConfig(lr=0.1, momentum=0.9, weight_decay=0.0, fallback="sgd", fallback_lr=0.1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 8))
    for_muon, rest = split_parameters(network)
    fallback = make_optimizer(fallback_config(config), rest, torch.device("cpu"))
    states = [*Muon(for_muon, 0.1).state.values(), *fallback.state.values()]
    num_bytes = sum(tensor.nbytes for state in states for tensor in state.values())
    assert estimate_of(network, (2, 1, 6, 6), config).optimizer_state == num_bytes


def test_weights_and_gradients_take_four_bytes() -> None:
    memory = estimate_of(nn.Linear(64, 32), (2, 64))
    assert (memory.weights, memory.gradients) == (4 * (64 * 32 + 32), 4 * (64 * 32 + 32))


def test_activations_of_small_network_match_formula() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 5)
    )
    images = 4 * 1 * 8 * 8  # saved by the convolution
    relu = 4 * 2 * 6 * 6  # saved by ReLU and by the pooling, as one storage
    pooled = 4 * 2 * 3 * 3  # saved by the linear layer; the pooling saves their indices in 8 bytes
    expected = 4 * (images + relu + pooled) + 8 * pooled
    assert estimate_of(network, (4, 1, 8, 8)).activations == expected


def test_shared_activations_count_once() -> None:
    one = estimate_of(nn.Sequential(nn.Sigmoid()), (4, 1, 8, 8))
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid(), nn.Conv2d(1, 1, 1))
    assert one.activations == 0  # autograd saves nothing without parameters
    assert estimate_of(network, (4, 1, 8, 8)).activations == 4 * (4 * 64) * 2


def test_activations_scale_with_batch_and_weights_do_not() -> None:
    small, large = (estimate_of(models.build("lenet"), (batch, 1, 28, 28)) for batch in (1, 64))
    assert (large.weights, large.activations) == (small.weights, 64 * small.activations)


def test_half_precision_halves_activations_and_copies_weights() -> None:
    networks = [models.build("vgg11", image_size=32, width=0.25) for _ in range(2)]
    full = estimate_of(networks[0], (8, 1, 32, 32))
    half = estimate_of(networks[1], (8, 1, 32, 32), dtype=torch.bfloat16)
    assert half.weights == full.weights
    assert half.activations == pytest.approx(full.activations / 2 + full.weights / 2, rel=0.05)


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("lenet", 28, {}),
        ("bn_lenet", 28, {}),
        ("residual_net", 28, {}),
        ("resnet20", 32, {}),
        ("densenet40", 32, {}),
        ("googlenet", 65, {"auxiliary": True}),
        ("vgg11", 32, {"width": 0.1, "batch_norm": True, "dropout": 0.0}),
    ],
)
def test_estimated_activations_match_tensors_saved_on_cpu(
    name: str, size: int, arguments: dict[str, Any]
) -> None:
    network = models.build(name, image_size=size, **arguments).train()
    permanent = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in permanent:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, record):
        outputs = network(torch.zeros(4, 1, size, size))
    num_bytes = sum(storage.nbytes() for storage in saved.values())
    assert outputs is not None
    estimate = estimate_of(models.build(name, image_size=size, **arguments), (4, 1, size, size))
    assert estimate.activations == num_bytes


def test_overflowing_estimate_raises() -> None:
    with pytest.raises(ConfigError, match=r"too large to compute: .*Lower train\.batch_size"):
        estimate_of(nn.Conv2d(1, 100, 1), (2**40, 1, 2**10, 2**10))


def test_fixed_memory_is_estimate_without_activations() -> None:
    network = nn.Linear(64, 32)
    fixed = estimate_fixed_memory(network, OPTIMIZERS[3])
    estimate = estimate_of(network, (2, 64), OPTIMIZERS[3])
    assert fixed == dataclasses.replace(estimate, activations=0)


@pytest.mark.parametrize(("activations", "least"), [(0, 15), (2, 15), (100, 111)])
def test_least_counts_larger_of_gradients_and_activations(activations: int, least: int) -> None:
    memory = TrainingMemory(weights=4, gradients=4, optimizer_state=7, activations=activations)
    assert memory.least == least


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 96), ("densenet_bc100", 32), ("preact_resnet164", 32)]
)
def test_estimate_matches_gpu_memory_after_forward_pass(name: str, size: int) -> None:
    memory = estimate_of(models.build(name, image_size=size), (64, 1, size, size))
    before = torch.cuda.memory_allocated()
    network = models.build(name, image_size=size).cuda().train()
    outputs = network(torch.zeros(64, 1, size, size, device="cuda"))
    allocated = torch.cuda.memory_allocated() - before
    assert outputs is not None
    assert memory.weights + memory.activations == pytest.approx(allocated, rel=0.05)
