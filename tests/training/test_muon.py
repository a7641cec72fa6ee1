"""Steps of Muon, against PyTorch's Muon and against the algorithm on one matrix at a time."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.training import muon
from cnnbench.training.muon import Muon, orthogonalize

# As matrices these are wide, square and tall.
CONVOLUTIONS = [(8, 4, 3, 3), (8, 4, 3, 3), (4, 8, 1, 1), (16, 1, 3, 3), (8, 4, 3, 3)]
LINEAR = [(12, 20), (20, 12), (12, 20), (6, 6)]


def make_weights(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def set_gradients(weights: list[nn.Parameter], step: int) -> None:
    """Set random gradients that depend only on `step`, in the memory format of the weights."""
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        gradient = torch.empty_like(weight)
        weight.grad = gradient.copy_(torch.randn(weight.shape, generator=generator))


def train(
    optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], num_steps: int = 4
) -> list[torch.Tensor]:
    """Take some steps; return the weights."""
    for step in range(num_steps):
        set_gradients(weights, step)
        optimizer.step()
    return [weight.detach() for weight in weights]


def orthogonalize_by_svd(matrix: torch.Tensor) -> torch.Tensor:
    """Apply the quintic polynomial of Muon's author to the singular values of one matrix."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / matrix.norm()  # makes them at most 1
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vh


def train_one_by_one(
    shapes: list[tuple[int, ...]], lr: float, momentum: float, weight_decay: float
) -> list[torch.Tensor]:
    """Train as `train` does, one weight at a time, with the momentum as Muon's author writes it."""
    weights = make_weights(shapes)
    buffers = [torch.zeros(shape) for shape in shapes]
    with torch.no_grad():
        for step in range(4):
            set_gradients(weights, step)
            for weight, buffer in zip(weights, buffers, strict=True):
                assert weight.grad is not None
                buffer.mul_(momentum).add_(weight.grad)
                matrix = (weight.grad + momentum * buffer).reshape(len(weight), -1)
                scale = math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))
                update = orthogonalize_by_svd(matrix).reshape(weight.shape)
                weight.mul_(1 - lr * weight_decay).sub_(lr * scale * update)
    return [weight.detach() for weight in weights]


@pytest.fixture
def pytorch_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make PyTorch's Muon compute in float32, as cnnbench's does on a CPU."""
    # PyTorch's version decides which of these Muon converts with.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    monkeypatch.setattr(torch, "bfloat16", torch.float32)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_linear_weights_equal_those_of_pytorch(
    weight_decay: float, pytorch_in_float32: None
) -> None:
    ours, theirs = make_weights(LINEAR), make_weights(LINEAR)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": weight_decay}
    trained = train(Muon(ours, **settings), ours)
    expected = train(torch.optim.Muon(theirs, **settings), theirs)
    torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-4)


def test_default_momentum_is_that_of_pytorch(
    pytorch_in_float32: None,
) -> None:
    ours, theirs = make_weights(LINEAR), make_weights(LINEAR)
    expected = train(torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0), theirs)
    torch.testing.assert_close(train(Muon(ours, 0.1), ours), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_convolutions_equal_the_algorithm_on_each_matrix(weight_decay: float) -> None:
    weights = make_weights(CONVOLUTIONS)
    trained = train(Muon(weights, 0.1, momentum=0.9, weight_decay=weight_decay), weights)
    expected = train_one_by_one(CONVOLUTIONS, 0.1, 0.9, weight_decay)
    torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-4)


def test_batched_weights_equal_one_optimizer_per_weight() -> None:
    batched, single = make_weights(CONVOLUTIONS), make_weights(CONVOLUTIONS)
    optimizers = [Muon([weight], 0.1) for weight in single]
    for step in range(4):
        set_gradients(single, step)
        for optimizer in optimizers:
            optimizer.step()
    expected = [weight.detach() for weight in single]
    torch.testing.assert_close(train(Muon(batched, 0.1), batched), expected, rtol=1e-5, atol=1e-5)


def test_channels_last_weights_equal_contiguous_ones() -> None:
    contiguous = make_weights(CONVOLUTIONS)
    channels_last = [
        nn.Parameter(weight.detach().to(memory_format=torch.channels_last)) for weight in contiguous
    ]
    assert not channels_last[0].is_contiguous()
    trained = train(Muon(channels_last, 0.1), channels_last)
    torch.testing.assert_close(trained, train(Muon(contiguous, 0.1), contiguous))


def test_lr_in_a_tensor_is_read_at_every_step() -> None:
    lr_tensor = torch.zeros(())
    weights, expected = make_weights(CONVOLUTIONS), make_weights(CONVOLUTIONS)
    with_tensor = Muon(weights, lr_tensor, weight_decay=0.1)
    with_number = Muon(expected, 0.0, weight_decay=0.1)
    for step, lr in enumerate([0.1, 0.05, 0.2]):
        lr_tensor.fill_(lr)
        with_number.param_groups[0]["lr"] = lr
        set_gradients(weights, step)
        with_tensor.step()
        set_gradients(expected, step)
        with_number.step()
    torch.testing.assert_close(weights, expected)


class RecordOperations(TorchDispatchMode):
    """Records the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_step_with_lr_in_a_tensor_does_not_synchronize() -> None:
    weights = make_weights(CONVOLUTIONS)
    optimizer = Muon(weights, torch.tensor(0.1), weight_decay=0.1)
    set_gradients(weights, 0)
    with RecordOperations() as operations:
        optimizer.step()
    assert "aten::bmm" in operations.names
    assert "aten::_local_scalar_dense" not in operations.names


def test_momentum_is_zero_before_the_first_step() -> None:
    weights = make_weights(CONVOLUTIONS)
    optimizer = Muon(weights, 0.1)
    assert all(not optimizer.state[weight]["momentum_buffer"].any() for weight in weights)


def make_matrices(values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return three random matrices (3, rows, columns) with these singular values."""
    random = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(random, full_matrices=False)
    return u @ torch.diag(values) @ vh


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 64), (64, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_orthogonalized_matrices_have_singular_values_near_one(
    rows: int, columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "_working_dtype", lambda device: dtype)
    matrices = make_matrices(torch.linspace(5, 100, 16), rows, columns)
    orthogonal = orthogonalize(matrices)
    values = torch.linalg.svdvals(orthogonal)
    assert orthogonal.dtype == torch.float32
    assert values.min() > 0.65
    assert values.max() < 1.25


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda", torch.bfloat16), ("cpu", torch.float32), ("mps", torch.float32)]
)
def test_iteration_is_in_bfloat16_only_on_cuda(device: str, dtype: torch.dtype) -> None:
    assert muon._working_dtype(torch.device(device)) is dtype


def test_zero_gradient_leaves_weights_unchanged() -> None:
    (weight,) = make_weights([(8, 4, 3, 3)])
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], 0.1).step()
    assert torch.equal(weight, before)


def test_weight_without_gradient_is_unchanged() -> None:
    weights = make_weights(CONVOLUTIONS)
    before = weights[1].detach().clone()
    optimizer = Muon(weights, 0.1, weight_decay=0.1)
    set_gradients(weights, 0)
    weights[1].grad = None
    optimizer.step()
    assert torch.equal(weights[1], before)


def test_step_without_gradients_leaves_weights_unchanged() -> None:
    weights = make_weights(CONVOLUTIONS)
    Muon(weights, 0.1, weight_decay=0.1).step()
    assert all(map(torch.equal, weights, make_weights(CONVOLUTIONS)))


def test_overflowing_gradients_leave_weights_and_momentum_unchanged() -> None:
    weights = make_weights(CONVOLUTIONS)
    optimizer = Muon(weights, 0.1, weight_decay=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for weight in weights:
        scaler.scale((weight * torch.inf).sum()).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    assert not any(optimizer.state[weight]["momentum_buffer"].any() for weight in weights)
    assert all(map(torch.equal, weights, make_weights(CONVOLUTIONS)))


def test_momentum_is_restored_from_a_state_dict() -> None:
    uninterrupted, resumed = make_weights(CONVOLUTIONS), make_weights(CONVOLUTIONS)
    first, second = Muon(resumed, 0.1), Muon(resumed, 0.1)
    train(first, resumed, num_steps=2)
    second.load_state_dict(first.state_dict())
    for step in (2, 3):
        set_gradients(resumed, step)
        second.step()
    expected = train(Muon(uninterrupted, 0.1), uninterrupted)
    assert all(map(torch.equal, resumed, expected))


def test_step_calls_the_closure_and_returns_its_loss() -> None:
    (weight,) = make_weights([(4, 4)])

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    before = weight.square().sum().item()
    assert Muon([weight], 0.1).step(closure) == before
    assert weight.square().sum().item() < before


def test_bias_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two or more dimensions, not of shape \(7,\)"):
        Muon([nn.Parameter(torch.zeros(7))], 0.1)
