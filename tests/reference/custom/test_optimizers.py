"""The user's optimizers: their steps, and their state in checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.custom_files import load_solution, write_changed
from torch import nn

from cnnbench.reference.custom.module import CustomCodeError, CustomModule, load_custom
from cnnbench.reference.custom.optimizers import CustomOptimizer
from cnnbench.reference.optimizers import Adam
from cnnbench.training.state import _load_optimizer

SETTINGS = {
    "SGD": (0.1,),
    "Momentum": (0.1, 0.9),
    "AdaGrad": (0.1, 1e-10),
    "Adam": (0.1, 0.9, 0.999, 1e-8),
}


def make(kind: str, custom: CustomModule | None = None, **settings: float) -> CustomOptimizer:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(4))]
    custom = custom or load_solution(kind)
    return CustomOptimizer(weights, custom, kind, SETTINGS[kind], **settings)


def weights_of(optimizer: CustomOptimizer) -> list[nn.Parameter]:
    return list(optimizer.param_groups[0]["params"])


def step(optimizer: CustomOptimizer, times: int) -> None:
    for _ in range(times):
        for weight in weights_of(optimizer):
            weight.grad = weight.detach().sin() if weight.requires_grad else None
        optimizer.step()


def restore(optimizer: CustomOptimizer, state: dict[int, Any], weights: list[Any]) -> None:
    for weight, saved in zip(weights_of(optimizer), weights, strict=True):
        weight.data.copy_(saved)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


@pytest.mark.parametrize("kind", SETTINGS)
def test_restored_optimizer_takes_the_same_steps_to_the_bit(kind: str) -> None:
    whole, first, second = make(kind), make(kind), make(kind)
    step(whole, 5)
    step(first, 2)
    saved = [weight.detach().clone() for weight in weights_of(first)]
    state = first.state_dict()["state"]
    restore(second, state, saved)
    step(first, 3)  # does not change what was saved
    step(second, 3)
    for ours, theirs in zip(weights_of(second), weights_of(whole), strict=True):
        assert torch.equal(ours, theirs)


def test_state_of_a_network_with_a_frozen_weight_is_restored() -> None:
    whole, first, second = make("Adam"), make("Adam"), make("Adam")
    for optimizer, steps in ((whole, 5), (first, 2)):
        weights_of(optimizer)[0].requires_grad_(False)
        step(optimizer, steps)
    saved = [weight.detach().clone() for weight in weights_of(first)]
    initial, state = second.state_dict()["state"], first.state_dict()["state"]
    assert state.keys() == {1}
    weights_of(second)[0].requires_grad_(False)
    restore(second, {**initial, **state}, saved)  # as training/state.py completes a state
    step(second, 3)
    assert torch.equal(weights_of(second)[1], weights_of(whole)[1])
    assert torch.equal(weights_of(second)[0], weights_of(whole)[0])


def test_state_has_arrays_in_the_shapes_of_the_weights_and_numbers() -> None:
    optimizer = make("Adam")
    step(optimizer, 3)
    state = optimizer.state_dict()["state"]
    numbers = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "t": 3.0}
    shapes = {key: tensor.shape for key, tensor in state[1].items()}
    assert shapes == {**dict.fromkeys(numbers, ()), **dict.fromkeys(("m[]", "v[]"), (4,))}
    assert {key: state[0][key].item() for key in numbers} == numbers


@pytest.mark.parametrize("name", ["step", "momentum"])
def test_numbers_that_update_changes_are_restored(tmp_path: Path, name: str) -> None:
    settings = "self.lr, self.momentum"
    write_changed(
        tmp_path,
        "Momentum",
        f"{settings} = lr, momentum",
        f"{settings} = lr, momentum\n        self.step = 0",
    )
    path = tmp_path / "changed.py"
    loop = "        for key in params:"
    path.write_text(path.read_text().replace(loop, f"        self.{name} += 0.01\n{loop}"))
    custom = load_custom(str(path))
    whole, first, second = (make("Momentum", custom) for _ in range(3))
    step(whole, 5)
    step(first, 2)
    for weight, saved in zip(weights_of(second), weights_of(first), strict=True):
        weight.data.copy_(saved)
    _load_optimizer(second, first.state_dict()["state"])  # as a checkpoint is loaded
    step(second, 3)
    for ours, theirs in zip(weights_of(second), weights_of(whole), strict=True):
        assert torch.equal(ours, theirs)
    assert getattr(second.instance, name) == getattr(whole.instance, name)


def test_state_of_another_optimizer_is_refused() -> None:
    custom, reference = make("Adam"), Adam(weights_of(make("Adam")), 0.1)
    step(custom, 1)
    with pytest.raises(ValueError, match=r"another optimizer has the state beta1, beta2"):
        reference.load_state_dict(custom.state_dict())
    with pytest.raises(ValueError, match="another optimizer has the state exp_avg, exp_avg_sq, st"):
        custom.load_state_dict(reference.state_dict())


def test_learning_rate_of_the_group_is_used() -> None:
    optimizer = make("SGD")
    before = [weight.detach().clone() for weight in weights_of(optimizer)]
    optimizer.param_groups[0]["lr"] = 0.5
    step(optimizer, 1)
    for weight, old in zip(weights_of(optimizer), before, strict=True):
        assert torch.equal(weight, old - 0.5 * old.sin())


def test_weight_decay_is_added_to_the_gradient() -> None:
    optimizer, library = make("SGD", weight_decay=0.3), make("SGD")
    expected = torch.optim.SGD(weights_of(library), 0.1, weight_decay=0.3)
    step(optimizer, 1)
    for weight in weights_of(library):
        weight.grad = weight.detach().sin()
    expected.step()
    for ours, theirs in zip(weights_of(optimizer), weights_of(library), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_weight_without_a_gradient_is_left_alone() -> None:
    optimizer = make("SGD")
    first, second = weights_of(optimizer)
    before, first.grad = second.detach().clone(), torch.ones_like(first)
    optimizer.step()
    assert torch.equal(second, before)


def test_update_may_replace_the_arrays(tmp_path: Path) -> None:
    replacing = "params[key] = params[key] - self.lr"
    custom = write_changed(tmp_path, "SGD", "params[key] -= self.lr", replacing)
    ours, theirs = make("SGD", custom), make("SGD")
    step(ours, 2)
    step(theirs, 2)
    for weight, other in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert torch.equal(weight, other)


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        (
            "SGD",
            "self.lr = lr",
            "self.rate = lr",
            "SGD must keep self.lr, which schedules change.",
        ),
        (
            "SGD",
            "params[key] -= self.lr * grads[key]",
            "params[key] = grads[key][:1]",
            "SGD.update gave params['w0'] the shape (1, 3). It must stay (2, 3).",
        ),
        (
            "Momentum",
            "self.v = None\n\n    def",
            "\n    v = None\n\n    def",
            "Momentum.__init__ must set self.v, to None at first: "
            "what update keeps is saved, so that a run can be resumed.",
        ),
        (
            "SGD",
            "self.lr = lr",
            "self.lr, self.steps = lr, []",
            "SGD: self.steps is a list, which cannot be saved. "
            "Allowed: numbers, None, and dictionaries of arrays as grads.",
        ),
    ],
)
def test_class_that_cannot_be_used_is_an_error(
    tmp_path: Path, kind: str, old: str, new: str, message: str
) -> None:
    custom = write_changed(tmp_path, kind, old, new)
    with pytest.raises(CustomCodeError) as error:
        step(make(kind, custom), 1)
    assert str(error.value) == message
