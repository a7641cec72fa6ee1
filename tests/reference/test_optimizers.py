"""The reference optimizers, compared with PyTorch's and with steps computed from the formulas."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import Optimizer
from torch.testing import assert_close

from cnnbench.reference.optimizers import SGD, AdaGrad, Adam, Momentum

Make = Callable[..., Optimizer]

RATE = st.floats(1e-4, 0.5)
BETA = st.sampled_from([0.0, 0.5, 0.9, 0.999])
OPTIONS: dict[Make, dict[str, Any]] = {
    SGD: {},
    Momentum: {"momentum": BETA},
    AdaGrad: {"eps": st.sampled_from([1e-10, 1e-3])},
    # beta2 is not 0: then a step changes sharply near a gradient of 0, and rounding with it.
    Adam: {
        "betas": st.tuples(BETA, st.sampled_from([0.9, 0.999])),
        "eps": st.sampled_from([1e-8, 1e-3]),
    },
}
LIBRARY: dict[Make, Make] = {
    SGD: torch.optim.SGD,
    Momentum: torch.optim.SGD,
    AdaGrad: torch.optim.Adagrad,
    Adam: torch.optim.Adam,
}
DEFAULTS: dict[Make, dict[str, Any]] = {
    SGD: {},
    Momentum: {"momentum": 0.9},
    AdaGrad: {"eps": 1e-10},
    Adam: {"betas": (0.9, 0.999), "eps": 1e-8},
}
EVERY_OPTIMIZER = pytest.mark.parametrize("kind", list(OPTIONS), ids=lambda kind: kind.__name__)


def take_step(optimizer: Optimizer, weights: torch.Tensor) -> None:
    """Take one step down a surface with hills and valleys: the gradient depends on the weights."""
    slope = torch.linspace(-0.5, 1, weights.numel()).to(weights).view_as(weights)
    weights.grad = weights.detach().sin() + slope
    optimizer.step()


def descend(make: Make, start: torch.Tensor, lrs: Sequence[float], **options: Any) -> torch.Tensor:
    """Return the weights after each step from `start`: one step for each learning rate."""
    weights = nn.Parameter(start.detach().clone())
    optimizer = make([weights], lr=lrs[0], **options)
    points = []
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        take_step(optimizer, weights)
        points.append(weights.detach().clone())
    return torch.stack(points)


@EVERY_OPTIMIZER
@CASES
@given(
    data=st.data(),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    lrs=st.lists(RATE, min_size=20, max_size=20),
    weight_decay=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_twenty_steps_match_torch(
    kind: Make, data: st.DataObject, shape: list[int], lrs: list[float], weight_decay: float
) -> None:
    options = {name: data.draw(values) for name, values in OPTIONS[kind].items()}
    options["weight_decay"] = weight_decay
    start = random_tensor(*shape)
    expected = descend(LIBRARY[kind], start, lrs, **options)
    assert_close(descend(kind, start, lrs, **options), expected, **EXACTLY)


@EVERY_OPTIMIZER
def test_default_hyperparameters_match_torch(kind: Make) -> None:
    options = {"momentum": 0.9} if kind is Momentum else {}  # The default of torch is 0.
    start, lrs = random_tensor(3, 2), [0.1] * 20
    expected = descend(LIBRARY[kind], start, lrs, **options)
    assert_close(descend(kind, start, lrs), expected, **EXACTLY)


@EVERY_OPTIMIZER
def test_float32_steps_match_torch(kind: Make) -> None:
    start, lrs = random_tensor(3, 4).float(), [0.1, 0.2, 0.05] * 3
    expected = descend(LIBRARY[kind], start, lrs, **DEFAULTS[kind])
    assert_close(descend(kind, start, lrs), expected, rtol=0, atol=1e-6)


@EVERY_OPTIMIZER
def test_channels_last_weights_get_the_same_steps(kind: Make) -> None:
    start = random_tensor(2, 3, 4, 4).detach()
    expected = descend(kind, start, [0.1] * 5)
    channels_last = start.to(memory_format=torch.channels_last)
    assert_close(descend(kind, channels_last, [0.1] * 5), expected, **EXACTLY)


@EVERY_OPTIMIZER
def test_learning_rate_tensor_is_read_when_the_step_runs(kind: Make) -> None:
    lrs = [0.1, 0.3, 0.02]
    weights = nn.Parameter(random_tensor(2, 3).detach().clone())
    lr = torch.zeros((), dtype=torch.float64)
    optimizer = kind([weights], lr=lr)
    for value in lrs:
        lr.fill_(value)
        take_step(optimizer, weights)
    assert_close(weights.detach(), descend(kind, random_tensor(2, 3), lrs)[-1], **EXACTLY)


@EVERY_OPTIMIZER
def test_groups_have_separate_hyperparameters_and_weights_without_gradient_stay(
    kind: Make,
) -> None:
    first, second, idle = (nn.Parameter(random_tensor(3).detach().clone()) for _ in range(3))
    optimizer = kind(
        [{"params": [first, idle]}, {"params": [second], "lr": 0.3, "weight_decay": 0.5}], lr=0.1
    )
    for weights in (first, second):
        weights.grad = torch.ones_like(weights)
    optimizer.step()
    for weights, options in ((first, {"lr": 0.1}), (second, {"lr": 0.3, "weight_decay": 0.5})):
        alone = nn.Parameter(random_tensor(3).detach().clone())
        alone.grad = torch.ones_like(alone)
        kind([alone], **options).step()
        assert torch.equal(weights, alone)
    assert torch.equal(idle, random_tensor(3))


def test_textbook_velocity_gives_the_same_path_at_constant_learning_rate() -> None:
    w, lr, momentum = random_tensor(4).detach().clone(), 0.1, 0.9
    v, points = torch.zeros(4, dtype=torch.float64), []
    for _ in range(20):
        gradient = w.sin() + torch.linspace(-0.5, 1, 4, dtype=torch.float64)
        v = momentum * v - lr * gradient
        w = w + v
        points.append(w)
    path = descend(Momentum, random_tensor(4), [lr] * 20, momentum=momentum)
    assert_close(path, torch.stack(points), **EXACTLY)


@pytest.mark.parametrize("rescaled", [True, False])
def test_momentum_rescales_velocity_when_learning_rate_changes_unlike_textbooks(
    rescaled: bool,
) -> None:
    lrs, momentum = [0.1, 0.1, 0.01], 0.9
    w, v, before = 0.0, 0.0, lrs[0]
    for lr in lrs:
        if rescaled:
            v *= lr / before
        v = momentum * v - lr * 1.0  # The gradient is 1.
        w, before = w + v, lr
    weights = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = Momentum([weights], lr=0.1, momentum=momentum)
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        weights.grad = torch.ones_like(weights)
        optimizer.step()
    # u is 1, 1.9, 2.71, so w is -0.1, -0.29 and -0.3171. The textbooks' last v is -0.181.
    assert weights.item() == pytest.approx(-0.3171, abs=1e-12)
    assert w == pytest.approx(-0.3171 if rescaled else -0.471, abs=1e-12)


@pytest.mark.parametrize("gradient", [1e-3, -7.0, 1e5])
@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (SGD, lambda t, g: 0.1 * abs(g)),
        (Momentum, lambda t, g: 0.1 * abs(g) * (1 - 0.9**t) / 0.1),
        (AdaGrad, lambda t, g: 0.1 / t**0.5),
        (Adam, lambda t, g: 0.1),
    ],
    ids=["SGD", "Momentum", "AdaGrad", "Adam"],
)
def test_step_lengths_under_constant_gradient(
    kind: Make, length: Callable[[int, float], float], gradient: float
) -> None:
    weights = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = kind([weights], lr=0.1)
    sign = math.copysign(1.0, gradient)
    for t in range(1, 30):
        before = weights.detach().clone()
        weights.grad = torch.full_like(weights, gradient)
        optimizer.step()
        moved = (before - weights.detach()).tolist()
        assert moved == pytest.approx([sign * length(t, gradient)] * 2, rel=2e-5)


def test_adam_with_zero_betas_steps_by_the_learning_rate_against_each_sign() -> None:
    weights = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = Adam([weights], lr=0.1, betas=(0.0, 0.0))
    for gradient in ([3.0, -2.0], [0.5, 8.0]):
        weights.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    assert weights.tolist() == pytest.approx([-0.2, 0.0], abs=1e-8)


def test_first_step_of_adam_is_precise_in_float32() -> None:
    weights = nn.Parameter(torch.zeros(1))
    weights.grad = torch.ones(1)
    Adam([weights], lr=1.0).step()
    assert weights.item() == pytest.approx(-1.0, abs=3e-7)


@EVERY_OPTIMIZER
def test_weight_decay_acts_as_a_gradient(kind: Make) -> None:
    options = {"lr": 0.1, "weight_decay": 0.25}
    decayed, pulled = (
        nn.Parameter(torch.tensor([4.0, -2.0], dtype=torch.float64)) for _ in range(2)
    )
    decayed.grad = torch.zeros(2, dtype=torch.float64)
    pulled.grad = torch.tensor([1.0, -0.5], dtype=torch.float64)
    kind([decayed], **options).step()
    kind([pulled], lr=0.1).step()
    assert torch.equal(decayed, pulled)


@EVERY_OPTIMIZER
def test_state_is_the_same_after_saving_and_loading(kind: Make) -> None:
    whole = descend(kind, random_tensor(2, 3), [0.1] * 6)[-1]
    weights = nn.Parameter(random_tensor(2, 3).detach().clone())
    first = kind([weights], lr=0.1)
    for _ in range(3):
        take_step(first, weights)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = kind([weights], lr=0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        take_step(second, weights)
    assert torch.equal(weights, whole)


@EVERY_OPTIMIZER
def test_state_of_torch_optimizer_can_be_loaded(kind: Make) -> None:
    weights = nn.Parameter(random_tensor(2, 3).detach().clone())
    theirs = LIBRARY[kind]([weights], lr=0.1, **DEFAULTS[kind])
    for _ in range(3):
        take_step(theirs, weights)
    ours = kind([weights], lr=0.1)
    ours.load_state_dict({**ours.state_dict(), "state": theirs.state_dict()["state"]})
    for _ in range(3):
        take_step(ours, weights)
    assert_close(weights.detach(), descend(kind, random_tensor(2, 3), [0.1] * 6)[-1], **EXACTLY)


def test_loading_moves_the_step_count_to_the_device_of_the_weights() -> None:
    on_cpu = nn.Parameter(random_tensor(2).detach())
    on_meta = nn.Parameter(torch.empty(2, device="meta"))
    saved, loaded = Adam([on_cpu], lr=0.1), Adam([on_meta], lr=0.1)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.state[on_meta]["step"].device == on_meta.device


@EVERY_OPTIMIZER
def test_state_is_zero_before_the_first_step(kind: Make) -> None:
    weights = nn.Parameter(random_tensor(2, 3).detach())
    optimizer = kind([weights], lr=0.1)
    names = set(optimizer.state[weights])
    assert not any(value.any() for value in optimizer.state[weights].values())
    take_step(optimizer, weights)
    assert set(optimizer.state[weights]) == names


@EVERY_OPTIMIZER
def test_overflowing_gradients_change_neither_weights_nor_state(kind: Make) -> None:
    weights = nn.Parameter(torch.ones(3))
    optimizer = kind([weights], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((weights * torch.inf).sum()).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    assert torch.equal(weights, torch.ones(3))
    assert not any(value.any() for value in optimizer.state[weights].values())


@EVERY_OPTIMIZER
def test_scaled_gradients_are_unscaled_before_the_step(kind: Make) -> None:
    scaled, plain = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimizer, scaler = kind([scaled], lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(scaled.square().sum()).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    plain.square().sum().backward()
    kind([plain], lr=0.1).step()
    assert torch.equal(scaled, plain)


@EVERY_OPTIMIZER
def test_step_calls_the_closure_and_returns_its_loss(kind: Make) -> None:
    weights = nn.Parameter(torch.tensor([3.0]))
    optimizer = kind([weights], lr=0.1)

    def closure() -> float:
        loss = weights.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    assert weights.item() < 3.0
