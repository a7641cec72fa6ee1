"""The optimizers by hand, against torch's and against what can be said of them on paper."""

import io
from collections import Counter
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
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.reference.optimizers import SGD, AdaGrad, Adam, Momentum

Make = Callable[..., Optimizer]

RATE = st.floats(1e-4, 0.5)
BETA = st.sampled_from([0.0, 0.5, 0.9, 0.999])
OWN: dict[Make, dict[str, Any]] = {
    SGD: {},
    Momentum: {"momentum": BETA},
    AdaGrad: {"eps": st.sampled_from([1e-10, 1e-3])},
    # without a memory of squares a step is the sharper the nearer the gradient is to 0, and rounding with it
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
EACH = pytest.mark.parametrize("kind", list(OWN), ids=lambda kind: kind.__name__)


def step(optimizer: Optimizer, weights: torch.Tensor) -> None:
    """One step down a surface with hills and valleys, on which the place decides on the gradient."""
    weights.grad = weights.detach().sin() + torch.linspace(-0.5, 1, weights.numel()).to(
        weights
    ).view_as(weights)
    optimizer.step()


def path(make: Make, start: torch.Tensor, lrs: Sequence[float], **options: Any) -> torch.Tensor:
    """Where `start` is after each of the steps, which have a learning rate each."""
    weights = nn.Parameter(start.detach().clone())
    optimizer = make([weights], lr=lrs[0], **options)
    places = []
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        step(optimizer, weights)
        places.append(weights.detach().clone())
    return torch.stack(places)


@EACH
@CASES
@given(
    data=st.data(),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    lrs=st.lists(RATE, min_size=20, max_size=20),
    weight_decay=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_twenty_steps_are_those_of_torch(
    kind: Make, data: st.DataObject, shape: list[int], lrs: list[float], weight_decay: float
) -> None:
    options = {name: data.draw(values) for name, values in OWN[kind].items()} | {
        "weight_decay": weight_decay
    }
    start = random_tensor(*shape)
    assert_close(
        path(kind, start, lrs, **options), path(LIBRARY[kind], start, lrs, **options), **EXACTLY
    )


@EACH
def test_hyperparameters_not_given_are_those_of_torch(kind: Make) -> None:
    given_by_all = {"momentum": 0.9} if kind is Momentum else {}  # which is 0 in torch
    start, lrs = random_tensor(3, 2), [0.1] * 20
    assert_close(path(kind, start, lrs), path(LIBRARY[kind], start, lrs, **given_by_all), **EXACTLY)


@EACH
def test_single_precision_is_as_precise_as_torchs(kind: Make) -> None:
    start, lrs = random_tensor(3, 4).float(), [0.1, 0.2, 0.05] * 3
    assert_close(
        path(kind, start, lrs), path(LIBRARY[kind], start, lrs, **DEFAULTS[kind]), rtol=0, atol=1e-6
    )


@EACH
def test_weights_with_channels_last_are_updated_alike(kind: Make) -> None:
    start = random_tensor(2, 3, 4, 4).detach()
    assert_close(
        path(kind, start.to(memory_format=torch.channels_last), [0.1] * 5),
        path(kind, start, [0.1] * 5),
        **EXACTLY,
    )


@EACH
def test_a_learning_rate_in_a_tensor_is_read_when_the_step_runs(kind: Make) -> None:
    lrs = [0.1, 0.3, 0.02]
    weights = nn.Parameter(random_tensor(2, 3).detach().clone())
    lr = torch.zeros((), dtype=torch.float64)
    optimizer = kind([weights], lr=lr)
    for value in lrs:
        lr.fill_(value)
        step(optimizer, weights)
    assert_close(weights.detach(), path(kind, random_tensor(2, 3), lrs)[-1], **EXACTLY)


@EACH
def test_groups_have_hyperparameters_of_their_own_and_weights_without_gradient_stay(
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


def test_the_textbooks_velocity_gives_the_same_path_while_the_learning_rate_is_constant() -> None:
    w, lr, momentum = random_tensor(4).detach().clone(), 0.1, 0.9
    v, places = torch.zeros(4, dtype=torch.float64), []
    for _ in range(20):
        gradient = w.sin() + torch.linspace(-0.5, 1, 4, dtype=torch.float64)
        v = momentum * v - lr * gradient
        w = w + v
        places.append(w)
    assert_close(
        path(Momentum, random_tensor(4), [lr] * 20, momentum=momentum),
        torch.stack(places),
        **EXACTLY,
    )


@pytest.mark.parametrize("rescaled", [True, False])
def test_a_change_of_the_learning_rate_rescales_the_velocity_here_and_not_in_textbooks(
    rescaled: bool,
) -> None:
    lrs, momentum = [0.1, 0.1, 0.01], 0.9
    w, v, before = 0.0, 0.0, lrs[0]
    for lr in lrs:
        v = (lr / before if rescaled else 1.0) * momentum * v - lr * 1.0  # under a gradient of 1
        w, before = w + v, lr
    weights = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = Momentum([weights], lr=0.1, momentum=momentum)
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        weights.grad = torch.ones_like(weights)
        optimizer.step()
    # by hand: u is 1, 1.9, 2.71, so that w is -0.1, -0.29 and -0.3171; the textbooks' v is then -0.181
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
def test_the_steps_under_a_constant_gradient_are_those_on_paper(
    kind: Make, length: Callable[[int, float], float], gradient: float
) -> None:
    weights = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = kind([weights], lr=0.1)
    for t in range(1, 30):
        before = weights.detach().clone()
        weights.grad = torch.full_like(weights, gradient)
        optimizer.step()
        moved = (before - weights.detach()).tolist()
        assert moved == pytest.approx(
            [length(t, gradient) * (1 if gradient > 0 else -1)] * 2, rel=2e-5
        )


def test_adam_without_memory_steps_by_the_learning_rate_against_each_sign() -> None:
    weights = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = Adam([weights], lr=0.1, betas=(0.0, 0.0))
    for gradient in ([3.0, -2.0], [0.5, 8.0]):
        weights.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    assert weights.tolist() == pytest.approx([-0.2, 0.0], abs=1e-8)


def test_the_first_step_of_adam_is_right_to_the_last_digits_of_single_precision() -> None:
    weights = nn.Parameter(torch.zeros(1))
    weights.grad = torch.ones(1)
    Adam([weights], lr=1.0).step()
    assert weights.item() == pytest.approx(-1.0, abs=3e-7)


@EACH
def test_a_weights_decay_is_a_gradient_of_its_own(kind: Make) -> None:
    options = {"lr": 0.1, "weight_decay": 0.25}
    decayed, pulled = (
        nn.Parameter(torch.tensor([4.0, -2.0], dtype=torch.float64)) for _ in range(2)
    )
    decayed.grad = torch.zeros(2, dtype=torch.float64)
    pulled.grad = torch.tensor([1.0, -0.5], dtype=torch.float64)
    kind([decayed], **options).step()
    kind([pulled], lr=0.1).step()
    assert torch.equal(decayed, pulled)


@EACH
def test_what_is_remembered_survives_a_file_bit_for_bit(kind: Make) -> None:
    whole = path(kind, random_tensor(2, 3), [0.1] * 6)[-1]
    weights = nn.Parameter(random_tensor(2, 3).detach().clone())
    first = kind([weights], lr=0.1)
    for _ in range(3):
        step(first, weights)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = kind([weights], lr=0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        step(second, weights)
    assert torch.equal(weights, whole)


@EACH
def test_what_torchs_optimizer_remembers_can_be_gone_on_with(kind: Make) -> None:
    weights = nn.Parameter(random_tensor(2, 3).detach().clone())
    theirs = LIBRARY[kind]([weights], lr=0.1, **DEFAULTS[kind])
    for _ in range(3):
        step(theirs, weights)
    ours = kind([weights], lr=0.1)
    ours.load_state_dict({**ours.state_dict(), "state": theirs.state_dict()["state"]})
    for _ in range(3):
        step(ours, weights)
    assert_close(weights.detach(), path(kind, random_tensor(2, 3), [0.1] * 6)[-1], **EXACTLY)


def test_a_count_of_steps_that_was_read_onto_the_host_goes_where_the_weights_are() -> None:
    on_host, elsewhere = (
        nn.Parameter(random_tensor(2).detach()),
        nn.Parameter(torch.empty(2, device="meta")),
    )
    saved, loaded = Adam([on_host], lr=0.1), Adam([elsewhere], lr=0.1)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.state[elsewhere]["step"].device == elsewhere.device


@EACH
def test_the_memory_begins_with_zeros_before_the_first_step(kind: Make) -> None:
    weights = nn.Parameter(random_tensor(2, 3).detach())
    optimizer = kind([weights], lr=0.1)
    names = set(optimizer.state[weights])
    assert not any(value.any() for value in optimizer.state[weights].values())
    step(optimizer, weights)
    assert set(optimizer.state[weights]) == names


@EACH
def test_gradients_that_overflow_leave_weights_and_memory_as_they_are(kind: Make) -> None:
    weights = nn.Parameter(torch.ones(3))
    optimizer = kind([weights], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((weights * torch.inf).sum()).backward()  # type: ignore[no-untyped-call]  # so in torch
    scaler.step(optimizer)
    assert torch.equal(weights, torch.ones(3))
    assert not any(value.any() for value in optimizer.state[weights].values())


@EACH
def test_scaled_gradients_are_unscaled_before_the_step(kind: Make) -> None:
    scaled, plain = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimizer, scaler = kind([scaled], lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(scaled.square().sum()).backward()  # type: ignore[no-untyped-call]  # so in torch
    scaler.step(optimizer)
    plain.square().sum().backward()
    kind([plain], lr=0.1).step()
    assert torch.equal(scaled, plain)


@EACH
def test_a_closure_computes_the_gradients_and_its_loss_is_returned(kind: Make) -> None:
    weights = nn.Parameter(torch.tensor([3.0]))
    optimizer = kind([weights], lr=0.1)

    def closure() -> float:
        loss = weights.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 9.0
    assert weights.item() < 3.0


OPERATIONS = {
    "mul": "multiplications",
    "add": "additions",
    "sub": "additions",
    "div": "divisions",
    "sqrt": "square roots",
}


class Counted(TorchDispatchMode):
    """Counts the operations whose results are tensors of a shape: one for each number there."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if isinstance(outputs, torch.Tensor) and outputs.shape == self.shape:
            self.counts[OPERATIONS[func.overloadpacket.__name__.rstrip("_")]] += 1
        return outputs


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("kind", "remembered", "expected"),
    [
        (SGD, 0, {"multiplications": 1, "additions": 1}),
        (Momentum, 1, {"multiplications": 2, "additions": 2}),
        (AdaGrad, 1, {"multiplications": 2, "additions": 3, "divisions": 1, "square roots": 1}),
        (Adam, 2, {"multiplications": 6, "additions": 4, "divisions": 3, "square roots": 1}),
    ],
    ids=["SGD", "Momentum", "AdaGrad", "Adam"],
)
def test_a_step_costs_what_the_chapter_says(
    kind: Make, remembered: int, expected: dict[str, int], weight_decay: float
) -> None:
    weights = nn.Parameter(random_tensor(3, 2).detach())
    weights.grad = torch.ones_like(weights)
    optimizer = kind([weights], lr=0.1, weight_decay=weight_decay)
    with Counted(weights.shape) as counted:
        optimizer.step()
    of_decay = Counter({"multiplications": 1, "additions": 1} if weight_decay else {})
    assert counted.counts == Counter(expected) + of_decay
    assert (
        sum(value.shape == weights.shape for value in optimizer.state[weights].values())
        == remembered
    )
