"""Muon: against PyTorch's, against one matrix at a time, and which parameters it is for."""

import math
from functools import cache
from typing import Any

import pytest
import torch
from helpers.network_names import EVERY_NETWORK, LARGE
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench import config as configuration
from cnnbench import models
from cnnbench.config import (
    AdamConfig,
    AdamWConfig,
    Config,
    MuonConfig,
    NesterovConfig,
    SgdConfig,
    as_dict,
)
from cnnbench.config.fields import allowed_by, fields_of
from cnnbench.errors import ConfigError
from cnnbench.training import muon
from cnnbench.training.muon import Muon, fallback_config, orthogonalize, split_parameters

CONVOLUTIONS = [
    (8, 4, 3, 3),
    (8, 4, 3, 3),
    (4, 8, 1, 1),
    (16, 1, 3, 3),
    (8, 4, 3, 3),
]  # wide, square and tall
LINEAR = [(12, 20), (20, 12), (12, 20), (6, 6)]


def random_weights(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(weights: list[nn.Parameter], step: int) -> None:
    """Random gradients, in the memory format of the weights, that depend on `step` alone."""
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        gradient = torch.empty_like(weight)
        weight.grad = gradient.copy_(torch.randn(weight.shape, generator=generator))


def train(
    optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], num_steps: int = 4
) -> list[torch.Tensor]:
    """The weights after some steps."""
    for step in range(num_steps):
        give_gradients(weights, step)
        optimizer.step()
    return [weight.detach() for weight in weights]


def orthogonalised_by_hand(matrix: torch.Tensor) -> torch.Tensor:
    """The quintic of the author's page, on the singular values of one matrix; these do not exceed its norm."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / matrix.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vh


def trained_by_hand(
    shapes: list[tuple[int, ...]], lr: float, momentum: float, weight_decay: float
) -> Any:
    """What `train` should give, one weight after the other, the momentum as the author writes it."""
    weights = random_weights(shapes)
    buffers = [torch.zeros(shape) for shape in shapes]
    with torch.no_grad():
        for step in range(4):
            give_gradients(weights, step)
            for weight, buffer in zip(weights, buffers, strict=True):
                assert weight.grad is not None
                buffer.mul_(momentum).add_(weight.grad)
                matrix = (weight.grad + momentum * buffer).reshape(len(weight), -1)
                scale = math.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))
                update = orthogonalised_by_hand(matrix).reshape(weight.shape)
                weight.mul_(1 - lr * weight_decay).sub_(lr * scale * update)
    return [weight.detach() for weight in weights]


@pytest.fixture
def pytorch_counts_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Muon does here on a CPU. PyTorch's converts by one or the other of these, by version."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    monkeypatch.setattr(torch, "bfloat16", torch.float32)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_linear_weights_move_as_in_pytorch(
    weight_decay: float, pytorch_counts_in_float32: None
) -> None:
    ours, theirs = random_weights(LINEAR), random_weights(LINEAR)
    moved = train(Muon(ours, 0.1, momentum=0.9, weight_decay=weight_decay), ours)
    expected = train(
        torch.optim.Muon(theirs, lr=0.1, momentum=0.9, weight_decay=weight_decay), theirs
    )
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_the_momentum_is_that_of_pytorch_where_none_is_given(
    pytorch_counts_in_float32: None,
) -> None:
    ours, theirs = random_weights(LINEAR), random_weights(LINEAR)
    expected = train(torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0), theirs)
    torch.testing.assert_close(train(Muon(ours, 0.1), ours), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_convolutions_move_as_their_matrices_one_by_one(weight_decay: float) -> None:
    weights = random_weights(CONVOLUTIONS)
    moved = train(Muon(weights, 0.1, momentum=0.9, weight_decay=weight_decay), weights)
    torch.testing.assert_close(
        moved, trained_by_hand(CONVOLUTIONS, 0.1, 0.9, weight_decay), rtol=1e-4, atol=1e-4
    )


def test_weights_together_move_as_in_optimizers_of_their_own() -> None:
    together, alone = random_weights(CONVOLUTIONS), random_weights(CONVOLUTIONS)
    optimizers = [Muon([weight], 0.1) for weight in alone]
    for step in range(4):
        give_gradients(alone, step)
        for optimizer in optimizers:
            optimizer.step()
    expected = [weight.detach() for weight in alone]
    torch.testing.assert_close(train(Muon(together, 0.1), together), expected, rtol=1e-5, atol=1e-5)


def test_weights_in_channels_last_move_as_contiguous_ones() -> None:
    contiguous = random_weights(CONVOLUTIONS)
    last = [
        nn.Parameter(weight.detach().to(memory_format=torch.channels_last)) for weight in contiguous
    ]
    assert not last[0].is_contiguous()
    torch.testing.assert_close(
        train(Muon(last, 0.1), last), train(Muon(contiguous, 0.1), contiguous)
    )


def test_a_rate_in_a_tensor_is_read_anew_by_every_step() -> None:
    rate = torch.zeros(())
    of_tensor, of_number = random_weights(CONVOLUTIONS), random_weights(CONVOLUTIONS)
    optimizers = Muon(of_tensor, rate, weight_decay=0.1), Muon(of_number, 0.0, weight_decay=0.1)
    for step, lr in enumerate([0.1, 0.05, 0.2]):
        rate.fill_(lr)
        optimizers[1].param_groups[0]["lr"] = lr
        for weights, optimizer in zip((of_tensor, of_number), optimizers, strict=True):
            give_gradients(weights, step)
            optimizer.step()
    torch.testing.assert_close(of_tensor, of_number)


class Operations(TorchDispatchMode):
    """Notes the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_a_step_with_the_rate_in_a_tensor_reads_no_number_from_the_device() -> None:
    weights = random_weights(CONVOLUTIONS)
    optimizer = Muon(weights, torch.tensor(0.1), weight_decay=0.1)
    give_gradients(weights, 0)
    with Operations() as operations:
        optimizer.step()
    assert "aten::bmm" in operations.names
    assert "aten::_local_scalar_dense" not in operations.names


def test_the_momentum_is_there_before_the_first_step() -> None:
    weights = random_weights(CONVOLUTIONS)
    optimizer = Muon(weights, 0.1)
    assert all(not optimizer.state[weight]["momentum_buffer"].any() for weight in weights)


def matrices_with_singular_values(values: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Three random matrices (3, rows, columns)."""
    random = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(random, full_matrices=False)
    return u @ torch.diag(values) @ vh


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 64), (64, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_singular_values_come_near_one(
    rows: int, columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "_working_dtype", lambda device: dtype)
    orthogonal = orthogonalize(
        matrices_with_singular_values(torch.linspace(5, 100, 16), rows, columns)
    )
    values = torch.linalg.svdvals(orthogonal)
    assert orthogonal.dtype == torch.float32
    assert values.min() > 0.65
    assert values.max() < 1.25


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda", torch.bfloat16), ("cpu", torch.float32), ("mps", torch.float32)]
)
def test_the_iteration_is_in_bfloat16_on_cuda_alone(device: str, dtype: torch.dtype) -> None:
    assert muon._working_dtype(torch.device(device)) is dtype


def test_a_gradient_of_zeros_moves_nothing() -> None:
    (weight,) = random_weights([(8, 4, 3, 3)])
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], 0.1).step()
    assert torch.equal(weight, before)


def test_a_weight_without_a_gradient_stays() -> None:
    weights = random_weights(CONVOLUTIONS)
    before = weights[1].detach().clone()
    optimizer = Muon(weights, 0.1, weight_decay=0.1)
    give_gradients(weights, 0)
    weights[1].grad = None
    optimizer.step()
    assert torch.equal(weights[1], before)


def test_a_step_without_any_gradient_moves_nothing() -> None:
    weights = random_weights(CONVOLUTIONS)
    Muon(weights, 0.1, weight_decay=0.1).step()
    assert all(map(torch.equal, weights, random_weights(CONVOLUTIONS)))


def test_gradients_that_overflow_leave_weights_and_momentum() -> None:
    weights = random_weights(CONVOLUTIONS)
    optimizer = Muon(weights, 0.1, weight_decay=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for weight in weights:
        scaler.scale((weight * torch.inf).sum()).backward()  # type: ignore[no-untyped-call]  # so in torch
    scaler.step(optimizer)
    assert not any(optimizer.state[weight]["momentum_buffer"].any() for weight in weights)
    assert all(map(torch.equal, weights, random_weights(CONVOLUTIONS)))


def test_momentum_goes_on_from_a_saved_state() -> None:
    straight, resumed = random_weights(CONVOLUTIONS), random_weights(CONVOLUTIONS)
    first, second = Muon(resumed, 0.1), Muon(resumed, 0.1)
    train(first, resumed, num_steps=2)
    second.load_state_dict(first.state_dict())
    for step in (2, 3):
        give_gradients(resumed, step)
        second.step()
    assert all(map(torch.equal, resumed, train(Muon(straight, 0.1), straight)))


def test_a_closure_computes_the_gradients_and_its_loss_is_returned() -> None:
    (weight,) = random_weights([(4, 4)])

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # so in torch
        return loss.item()

    before = weight.square().sum().item()
    assert Muon([weight], 0.1).step(closure) == before
    assert weight.square().sum().item() < before


def test_a_bias_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two or more dimensions, not of shape \(7,\)"):
        Muon([nn.Parameter(torch.zeros(7))], 0.1)


@cache
def on_meta(name: str, num_classes: int, size: int = 96, **arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, 1, num_classes, size, **arguments)


def names_of_rest_matrices(network: nn.Module) -> list[str]:
    _, rest = split_parameters(network)
    return [
        name
        for name, parameter in network.named_parameters()
        if parameter in set(rest) and parameter.ndim > 1
    ]


def names_with_a_row_per_class(name: str, **arguments: Any) -> list[str]:
    """The matrices whose number of rows is the number of classes, whatever that is."""
    ten, eleven = (
        dict(on_meta(name, classes, **arguments).named_parameters()) for classes in (10, 11)
    )
    return [name for name in ten if ten[name].ndim > 1 and len(ten[name]) != len(eleven[name])]


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_parameter_is_on_one_side(name: str) -> None:
    network = on_meta(name, 10)
    for_muon, rest = split_parameters(network)
    assert len(for_muon) + len(rest) == len(list(network.parameters()))
    assert {*for_muon, *rest} == set(network.parameters())


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_muon_gets_matrices_alone(name: str) -> None:
    for_muon, _ = split_parameters(on_meta(name, 10))
    assert for_muon != []
    assert all(parameter.ndim > 1 for parameter in for_muon)


@pytest.mark.parametrize("name", [name for name in models.names() if name not in {*LARGE, "nin"}])
def test_the_rest_has_the_classifier_and_no_other_matrix(name: str) -> None:
    assert names_of_rest_matrices(on_meta(name, 10)) == names_with_a_row_per_class(name)


@pytest.mark.parametrize("num_classes", [12, 84, 120, 1024])  # that are widths of other layers too
@pytest.mark.parametrize("name", ["lenet", "densenet40", "googlenet"])
def test_a_layer_as_wide_as_the_classifier_is_for_muon(name: str, num_classes: int) -> None:
    assert names_of_rest_matrices(on_meta(name, num_classes)) == names_with_a_row_per_class(name)


def test_of_the_three_convolutions_that_end_nin_the_last_is_the_classifier() -> None:
    assert names_of_rest_matrices(on_meta("nin", 10)) == ["classifier.0.4.weight"]


def test_auxiliary_classifiers_belong_to_the_rest() -> None:
    found = names_of_rest_matrices(on_meta("googlenet", 10, auxiliary=True))
    assert found == names_with_a_row_per_class("googlenet", auxiliary=True)
    assert len(found) == 3


def test_a_network_of_one_matrix_leaves_none_for_muon() -> None:
    for_muon, rest = split_parameters(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    assert (len(for_muon), len(rest)) == (0, 2)


def test_linear_layers_within_a_network_are_for_muon() -> None:
    gate = nn.Sequential(
        nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8)
    )  # as of squeeze and excitation
    network = nn.Sequential(nn.Conv2d(1, 8, 3), gate, nn.Sequential(nn.Linear(8, 3)))
    assert names_of_rest_matrices(network) == ["2.0.weight"]


FALLBACKS = [
    ("adamw", AdamWConfig(lr=0.003, betas=[0.9, 0.95], eps=1e-10, weight_decay=0.01)),
    ("sgd", NesterovConfig(lr=0.003, momentum=0.85, weight_decay=0.01)),
]


@pytest.mark.parametrize(("rest", "expected"), FALLBACKS)
def test_the_rest_gets_the_optimizer_of_its_name(
    rest: str, expected: AdamConfig | SgdConfig
) -> None:
    assert (
        fallback_config(
            MuonConfig(lr=0.02, momentum=0.95, weight_decay=0.01, fallback=rest, fallback_lr=0.003)
        )
        == expected
    )


def test_every_name_for_the_rest_is_tried_here() -> None:
    assert {rest for rest, _ in FALLBACKS} == set(
        allowed_by(fields_of(MuonConfig)["fallback"]).choices
    )


MUON = {
    "name": "muon",
    "lr": 0.02,
    "momentum": 0.95,
    "weight_decay": 0.0,
    "fallback": "adamw",
    "fallback_lr": 0.001,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, r"optimizer\.lr=0\.0 is out of range.*above 0"),
        ({"momentum": 1.5}, r"optimizer\.momentum=1\.5 is out of range.*at most 1"),
        ({"weight_decay": -0.1}, r"optimizer\.weight_decay=-0\.1 is out of range.*at least 0"),
        ({"fallback_lr": 0.0}, r"optimizer\.fallback_lr=0\.0 is out of range.*above 0"),
        (
            {"fallback": "adam"},
            r"optimizer\.fallback=adam is not known\. Did you mean 'adamw'\? Allowed: adamw, sgd",
        ),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_told_with_what_can(
    change: dict[str, Any], message: str, config: Config
) -> None:
    with pytest.raises(ConfigError, match=message):
        configuration.load({**as_dict(config), "optimizer": {**MUON, **change}})
