"""The user's optimizers compared with PyTorch's, and the sentences on their mistakes."""

from pathlib import Path

import pytest
from helpers.custom_files import load_solution, write_changed

from cnnbench.reference.custom.mistakes import explain
from cnnbench.reference.custom.optimizer_mistakes import compare_optimizer

MISTAKES = [
    ("SGD", "-= self.lr", "+= self.lr", ", change of the weights: its sign is wrong."),
    (
        "SGD",
        "-= self.lr",
        "-= 2 * self.lr",
        ", change of the weights: it is 2 times the right one.",
    ),
    (
        "Momentum",
        "self.momentum * self.v[key] + ",
        "",
        ": the velocity is not kept from step to step.",
    ),
    (
        "Momentum",
        "+ grads[key]",
        "+ (1 - self.momentum) * grads[key]",
        ": the gradient is multiplied by 1 - momentum: it counts in full.",
    ),
    ("AdaGrad", "np.sqrt(self.h[key])", "self.h[key]", ": the root of h is missing."),
    ("AdaGrad", "self.h[key] += ", "self.h[key] = ", ": h is not kept from step to step."),
    (
        "Adam",
        "m = self.m[key] / (1 - self.beta1**self.t)",
        "m = self.m[key]",
        ": m is not corrected: divide it by 1 - beta1^t.",
    ),
    (
        "Adam",
        "v = self.v[key] / (1 - self.beta2**self.t)",
        "v = self.v[key]",
        ": v is not corrected: divide it by 1 - beta2^t.",
    ),
    (
        "Adam",
        "m = self.m[key] / (1 - self.beta1**self.t)\n"
        "            v = self.v[key] / (1 - self.beta2**self.t)",
        "m, v = self.m[key], self.v[key]",
        ": the bias correction is missing: divide m by 1 - beta1^t and v by 1 - beta2^t.",
    ),
    (
        "Adam",
        "if self.m is None:",
        "self.t = 0\n        if True:",
        ": m and v are not kept from step to step.",
    ),
]


@pytest.mark.parametrize(("kind", "old", "new", "sentence"), MISTAKES)
def test_mistake_gets_its_sentence_alone(
    tmp_path: Path, kind: str, old: str, new: str, sentence: str
) -> None:
    custom = write_changed(tmp_path, kind, old, new)
    assert explain(custom, kind) == [f"{kind}.update{sentence}"]
    assert compare_optimizer(custom, kind)[0] > 1e-4


@pytest.mark.parametrize("kind", ["SGD", "Momentum", "AdaGrad", "Adam"])
def test_right_optimizer_has_the_weights_of_pytorch(kind: str) -> None:
    difference, sentence = compare_optimizer(load_solution(kind), kind)
    assert difference < 1e-12
    assert sentence is None


def test_momentum_of_the_book_is_right_at_a_constant_rate(tmp_path: Path) -> None:
    custom = write_changed(
        tmp_path,
        "Momentum",
        "self.v[key] + grads[key]\n            params[key] -= self.lr * self.v[key]",
        "self.v[key] - self.lr * grads[key]\n            params[key] += self.v[key]",
    )
    assert explain(custom, "Momentum") == []


def test_epsilon_of_the_book_is_within_the_tolerance(tmp_path: Path) -> None:
    """Allow the form lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + 1e-7)."""
    custom = write_changed(
        tmp_path,
        "Adam",
        "params[key] -= self.lr * m / (np.sqrt(v) + self.eps)",
        "rate = self.lr * np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)\n"
        "            params[key] -= rate * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)",
    )
    difference, sentence = compare_optimizer(custom, "Adam")
    assert 1e-9 < difference < 2e-5
    assert sentence is None
