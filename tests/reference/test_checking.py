"""The comparison of the reference implementation with torch finds each kind of mistake."""

import math
from collections.abc import Iterator

import pytest
import torch
from helpers.random_tensors import random_tensor
from torch import nn

from cnnbench.reference import swap
from cnnbench.reference.checking import (
    Differences,
    compare,
    compare_layer,
    compare_network,
    record_input_shapes,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _isolated_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def assert_small(differences: Differences) -> None:
    assert differences.outputs < 1e-12
    assert differences.gradients < 1e-12
    assert differences.numerical < 1e-6


class SineWithWrongGradient(torch.autograd.Function):
    """sin(x), and a gradient that is twice the right one."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * grad * x.cos()


def test_equal_operations_agree() -> None:
    assert_small(compare(torch.sin, torch.sin, random_tensor(3, 4)))


def test_wrong_output_is_reported_as_share_of_the_largest() -> None:
    inputs = torch.tensor([1.0, 4.0], dtype=torch.float64)
    differences = compare(lambda x: 2 * x + 1, lambda x: 2 * x, inputs)
    assert differences.outputs == pytest.approx(1 / 8)
    assert differences.gradients == 0.0


def test_wrong_gradient_differs_from_autograd_and_from_numerical_derivative() -> None:
    differences = compare(SineWithWrongGradient.apply, torch.sin, random_tensor(4))
    assert differences.outputs == 0.0
    assert differences.gradients == pytest.approx(1.0)
    assert differences.numerical > 0.1


def test_nan_gradient_is_reported() -> None:
    inputs = torch.zeros(3, dtype=torch.float64)
    assert math.isnan(compare(lambda x: (0 * x).sqrt(), lambda x: 0 * x, inputs).gradients)


def test_tensors_are_not_changed_by_an_inplace_operation() -> None:
    inputs = random_tensor(3, 4).detach()
    before = inputs.clone()
    assert_small(compare(lambda x: x.mul_(2), lambda x: x.mul(2), inputs))
    assert torch.equal(inputs, before)


def test_unused_tensor_has_gradient_zero_in_both_forms() -> None:
    assert_small(
        compare(lambda x, _: x.sin(), lambda x, _: x.sin(), random_tensor(3), random_tensor(2))
    )


@pytest.mark.parametrize(("max_tensors", "compared"), [(None, 5), (5, 5), (2, 2), (1, 1)])
def test_numerical_derivatives_are_limited_to_max_tensors(
    max_tensors: int | None, compared: int
) -> None:
    calls = 0

    def counted(*tensors: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return torch.stack(tensors).sum(dim=0)

    tensors = [random_tensor(1) for _ in range(5)]
    compare(
        counted, lambda *tensors: torch.stack(tensors).sum(dim=0), *tensors, max_tensors=max_tensors
    )
    assert calls == 1 + 2 * compared  # A central difference takes two calls.


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(3, 2), (4, 3)), (nn.Dropout(0.5), (4, 3)), (nn.BatchNorm2d(2), (4, 2, 3, 3))],
    ids=str,
)
def test_layer_agrees_with_its_twin(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert_small(compare_layer(layer.double(), shape, CPU))


def test_layer_is_not_changed_by_the_comparison() -> None:
    layer = nn.BatchNorm2d(2).double().eval()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    compare_layer(layer, (4, 2, 3, 3), CPU)
    assert type(layer) is nn.BatchNorm2d
    assert not layer.training
    assert all(torch.equal(layer.state_dict()[name], tensor) for name, tensor in before.items())


def test_network_agrees_with_its_reference_implementation() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(18, 3))
    differences, rounding = compare_network(network.double(), random_tensor(2, 1, 5, 5).detach())
    assert_small(differences)
    assert_small(rounding)


def test_network_with_several_outputs_is_compared_by_all_of_them() -> None:
    class TwoOutputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 4)

        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.first(inputs), self.second(inputs)

    differences, _ = compare_network(TwoOutputs().double(), random_tensor(5, 3).detach())
    assert_small(differences)


def test_wrong_twin_is_found_in_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class WrongLinear(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * 1.001

    monkeypatch.setitem(swap.TWINS, nn.Linear, WrongLinear)
    network = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 2)).double()
    differences, rounding = compare_network(network, random_tensor(4, 3).detach())
    assert differences.outputs > 1e-4 > 1e-12 > rounding.outputs


def test_input_shapes_are_recorded_in_the_order_of_calls() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.unused, self.empty = nn.Linear(4, 2), nn.Linear(1, 1), nn.Sequential()
            self.first = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.last(self.empty(self.first(images)))

    network = Network()
    shapes = record_input_shapes(network, torch.zeros(5, 1, 3, 3))
    assert list(shapes.items()) == [
        ("first.0", (5, 1, 3, 3)),
        ("first.1", (5, 1, 2, 2)),
        ("last", (5, 4)),
    ]
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def test_input_shape_of_a_layer_used_twice_is_the_first() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Flatten(), relu)
    assert record_input_shapes(network, torch.zeros(2, 3, 4)) == {"0": (2, 3, 4), "1": (2, 3, 4)}
