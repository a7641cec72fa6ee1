"""Batch normalization over two ranks, which are threads here, against one process."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch
import torch.distributed as dist
from torch import nn

from cnnbench.training.sync_batch_norm import SyncBatchNorm, use_sync_batch_norm

T = TypeVar("T")
RunRanks = Callable[[Callable[[int], T]], list[T]]

NUM_RANKS = 2


@pytest.fixture
def run_ranks(monkeypatch: pytest.MonkeyPatch) -> RunRanks[T]:
    """Run a function of the rank in two threads, whose tensors all_reduce adds."""
    barrier = threading.Barrier(NUM_RANKS, timeout=60)
    local = threading.local()
    terms: dict[int, torch.Tensor] = {}

    def all_reduce(tensor: torch.Tensor) -> None:
        terms[local.rank] = tensor.clone()
        barrier.wait()
        total = terms[0] + terms[1]
        barrier.wait()  # before a rank puts its next term
        tensor.copy_(total)

    def run_all_ranks(function: Callable[[int], T]) -> list[T]:
        def run_rank(rank: int) -> T:
            local.rank = rank
            return function(rank)

        with ThreadPoolExecutor(NUM_RANKS) as executor:
            return list(executor.map(run_rank, range(NUM_RANKS)))

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    return run_all_ranks


def make_layer(inputs: torch.Tensor) -> nn.Module:
    layer = nn.BatchNorm2d(3) if inputs.ndim == 4 else nn.BatchNorm1d(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    return layer


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 2, 2)])
def test_ranks_match_batch_norm_of_the_whole_batch(
    shape: tuple[int, ...], run_ranks: RunRanks[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    inputs, gradient = torch.randn(shape), torch.randn(shape)
    expected_layer = make_layer(inputs)
    layers = [copy.deepcopy(expected_layer) for _ in range(NUM_RANKS)]
    whole = inputs.clone().requires_grad_()
    expected = expected_layer(whole)
    expected.backward(gradient)
    for layer in layers:
        use_sync_batch_norm(layer)

    def run_rank(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = inputs[rank::NUM_RANKS].clone().requires_grad_()
        outputs = layers[rank](part)
        outputs.backward(gradient[rank::NUM_RANKS])
        assert part.grad is not None
        return outputs.detach(), part.grad

    results = run_ranks(run_rank)
    assert whole.grad is not None
    for rank, (outputs, input_gradient) in enumerate(results):
        torch.testing.assert_close(outputs, expected[rank::NUM_RANKS].detach())
        torch.testing.assert_close(input_gradient, whole.grad[rank::NUM_RANKS])
        torch.testing.assert_close(layers[rank].state_dict(), expected_layer.state_dict())


def test_inputs_of_a_rank_without_share_do_not_count(run_ranks: RunRanks[torch.Tensor]) -> None:
    inputs = torch.randn(5, 3)
    expected_layer = make_layer(inputs)
    layers = [copy.deepcopy(expected_layer) for _ in range(NUM_RANKS)]
    expected = expected_layer(inputs).detach()
    for rank, layer in enumerate(layers):
        for module in use_sync_batch_norm(layer):
            module.is_counted = rank == 0
    outputs, _ = run_ranks(lambda rank: layers[rank](inputs + 100 * rank).detach())
    torch.testing.assert_close(outputs, expected)
    for layer in layers:
        torch.testing.assert_close(layer.state_dict(), expected_layer.state_dict())


def test_evaluation_uses_running_statistics_without_communication(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(tensor: torch.Tensor) -> None:
        raise AssertionError("evaluation must not wait for other ranks")

    inputs = torch.randn(4, 3)
    layer = make_layer(inputs)
    layer(inputs)
    expected = layer.eval()(inputs)
    monkeypatch.setattr(dist, "all_reduce", fail)
    use_sync_batch_norm(layer)
    assert torch.equal(layer(inputs), expected)


def test_only_batch_norm_is_replaced_and_keeps_its_parameters() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm1d(3))
    parameters = dict(network.named_parameters())
    replaced = use_sync_batch_norm(network)
    assert [id(module) for module in replaced] == [id(network[1]), id(network[3])]
    assert all(isinstance(module, SyncBatchNorm) for module in replaced)
    assert type(network[0]) is nn.Conv2d
    assert all(parameter is parameters[name] for name, parameter in network.named_parameters())
