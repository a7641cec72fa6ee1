"""A class with one mistake gets the sentence of this mistake and no other."""

from pathlib import Path

import pytest
from helpers.custom_files import SOLVED, load_solution, write_changed

from cnnbench.reference.custom.known_mistakes import NO_STRIDE, ONE_SIDE, list_loss_mistakes
from cnnbench.reference.custom.mistakes import PROBES, explain

WEIGHT = "self.W[:, :, u, v])"
SHIFTED = "np.pad(x, ((0, 0), (0, 0), (2 * pad, 0), (2 * pad, 0)))"
PADDED = "np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))"
TRANSPOSED = "the kernel is transposed: its rows and columns are exchanged."
TURNED = (
    "the kernel is turned by 180 degrees: that is true convolution, "
    "and networks compute cross-correlation."
)
NOT_CONSTANT = "taken as constant: it depends on every x of the channel."

MISTAKES = [
    ("Conv2d", WEIGHT, "self.W[:, :, v, u])", f"forward: {TRANSPOSED}"),
    ("Conv2d", WEIGHT, "self.W[:, :, -1 - u, -1 - v])", f"forward: {TURNED}"),
    ("Conv2d", "self.b[:, None, None]", "0", "forward: the bias is not added."),
    ("Conv2d", PADDED, SHIFTED, f"forward: {ONE_SIDE}."),
    (
        "Conv2d",
        PADDED,
        "np.pad(x, ((0, 0), (0, 0), (0, 2 * pad), (0, 2 * pad)))",
        f"forward: {ONE_SIDE}.",
    ),
    (
        "Conv2d",
        PADDED,
        PADDED.replace(")))", ")), mode='edge')"),
        "forward: the padding repeats the border: it must be zeros.",
    ),
    (
        "Conv2d",
        "u : u + stride * rows : stride, v : v + stride * cols : stride",
        "u : u + rows, v : v + cols",
        f"forward: {NO_STRIDE}.",
    ),
    (
        "Conv2d",
        "self.dW[:, :, u, v] =",
        "self.dW[:, :, v, u] =",
        "backward, dW: it is transposed.",
    ),
    (
        "Conv2d",
        "dout, self.W[:, :, u, v])\n        return",
        "dout, self.W[:, :, -1 - u, -1 - v])\n        return",
        f"backward, dx: {TURNED}",
    ),
    ("Linear", "+ self.b", "", "forward: the bias is not added."),
    (
        "Linear",
        "x @ self.W.T",
        "(x @ self.W if self.W.shape[0] == self.W.shape[1] else x @ self.W.T)",
        "forward: W is transposed: W is (outputs, inputs), so that y = x W^T + b.",
    ),
    ("MaxPool2d", ".max(axis=(4, 5))", ".mean(axis=(4, 5))", "forward: it computes the mean."),
    ("MaxPool2d", ".max(axis=(4, 5))", ".min(axis=(4, 5))", "forward: it computes the minimum."),
    (
        "MaxPool2d",
        "constant_values=-np.inf",
        "constant_values=0",
        "forward: the padding is 0: it must be -infinity, or it hides negative numbers.",
    ),
    ("AvgPool2d", ".mean(axis=(4, 5))", ".max(axis=(4, 5))", "forward: it computes the maximum."),
    ("AvgPool2d", PADDED, SHIFTED, f"forward: {ONE_SIDE}."),
    (
        "AvgPool2d",
        "return find_windows(padded, self.size, self.stride)",
        "ones = np.pad(np.ones_like(x), ((0, 0), (0, 0), (pad, pad), (pad, pad)))\n"
        "        share = find_windows(ones, self.size, self.stride).mean(axis=(4, 5))\n"
        "        return 1 / share * find_windows(padded, self.size, self.stride)",
        "forward: the padding is left out of the count: a mean is the sum divided by size^2.",
    ),
    (
        "BatchNorm2d",
        "x.var(axis=AXES)",
        "x.var(axis=AXES, ddof=1)",
        "forward: the variance is divided by M - 1: it must be M.",
    ),
    (
        "BatchNorm2d",
        "np.sqrt(var + self.eps)",
        "np.sqrt(var) + self.eps",
        "forward: epsilon is added to the root: add it below.",
    ),
    (
        "BatchNorm2d",
        "(x - spread(mean)) / spread(self.std)",
        "(x - x.mean((2, 3), keepdims=True))\n"
        "        self.normalized /= np.sqrt(x.var((2, 3), keepdims=True) + self.eps)",
        "forward: each example is normalized by itself: mean and variance are over the batch, too.",
    ),
    (
        "BatchNorm2d",
        "(x - spread(mean)) / spread(self.std)",
        "(x - x.mean(0)) / np.sqrt(x.var(0) + self.eps)",
        "forward: each place is normalized by itself: mean and variance are over the places, too.",
    ),
    (
        "BatchNorm2d",
        "spread(self.gamma) * self.normalized",
        "self.normalized",
        "forward: gamma is not multiplied.",
    ),
    ("BatchNorm2d", " + spread(self.beta)", "", "forward: beta is not added."),
    (
        "BatchNorm2d",
        "(centered - along)",
        "centered",
        f"backward, dx: the variance is {NOT_CONSTANT}",
    ),
    (
        "BatchNorm2d",
        "(centered - along)",
        "dout",
        "backward, dx: mean and variance are taken as constants: "
        "they depend on every x of the channel.",
    ),
    ("ReLU", "x * self.is_positive", "x", "forward: negative numbers are passed on, too."),
    (
        "ReLU",
        "x * self.is_positive",
        "abs(x)",
        "forward: negative numbers get their absolute value.",
    ),
    ("ReLU", "x > 0", "x < 0", "forward: it is min(x, 0), not max(x, 0)."),
    (
        "ReLU",
        "dout * self.is_positive",
        "dout",
        "backward, dx: negative numbers are passed on, too.",
    ),
    (
        "Sigmoid",
        "np.exp(-x)",
        "np.exp(x)",
        "forward: the sign of the exponent is wrong: it is e^-x.",
    ),
    (
        "Sigmoid",
        "1 / (1 + np.exp(-x))",
        "1 / 1 + np.exp(-x)",
        "forward: the brackets are missing: it is 1 / (1 + e^-x).",
    ),
    ("Sigmoid", " * (1 - self.y)", "", "backward, dx: the factor (1 - y) is missing."),
    ("Sigmoid", " * self.y *", " *", "backward, dx: the factor y is missing."),
    (
        "Sigmoid",
        "dout * self.y",
        "self.y",
        "backward, dx: it is not multiplied by dout: the chain rule is missing.",
    ),
    (
        "Sigmoid",
        "self.y = 1 / (1 + np.exp(-x))\n        return self.y",
        "self.y = x\n        return 1 / (1 + np.exp(-x))",
        "backward, dx: x is taken for y: the derivative is y (1 - y).",
    ),
    ("Tanh", "np.tanh(x)", "np.tanh(-x)", "forward: the sign of the exponents is wrong."),
    ("Tanh", " * (1 - self.y**2)", "", "backward, dx: the derivative 1 - y^2 is missing."),
    ("Tanh", "self.y**2", "self.y", "backward, dx: y is not squared: the derivative is 1 - y^2."),
    (
        "Tanh",
        "self.y = np.tanh(x)\n        return self.y",
        "self.y = x\n        return np.tanh(x)",
        "backward, dx: x is taken for y: the derivative is 1 - y^2.",
    ),
    (
        "CrossEntropyLoss",
        "shifted = x - x.max(axis=1, keepdims=True)\n"
        "        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))",
        "log_p = x - np.log(np.exp(x).sum(axis=0, keepdims=True))",
        "forward: the softmax is taken over the examples: take it over the classes, axis 1.",
    ),
    (
        "CrossEntropyLoss",
        "        shifted = x",
        "        x = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)\n        shifted = x",
        "forward: the softmax is taken twice.",
    ),
    (
        "CrossEntropyLoss",
        "(t * log_p)",
        "(t * np.log(self.p + 1e-7))",
        "forward: 1e-7 is added to the probabilities: "
        "compute log-softmax, which needs nothing added.",
    ),
    (
        "CrossEntropyLoss",
        "(self.p - self.t)",
        "self.p",
        "backward: t is not subtracted from the probabilities.",
    ),
]


@pytest.mark.parametrize(("kind", "old", "new", "sentence"), MISTAKES)
def test_mistake_gets_its_sentence_alone(
    tmp_path: Path, kind: str, old: str, new: str, sentence: str
) -> None:
    assert explain(write_changed(tmp_path, kind, old, new), kind) == [f"{kind}.{sentence}"]


@pytest.mark.parametrize("kind", SOLVED)
def test_right_class_gets_no_sentence(kind: str) -> None:
    assert explain(load_solution(kind), kind) == []


def test_every_sentence_of_the_list_is_tested() -> None:
    from cnnbench.reference.custom.known_mistakes import list_layer_mistakes

    layers = [probe.layer for probes in PROBES.values() for probe in probes]
    known = [text for layer in layers for text, _ in list_layer_mistakes(layer)]
    known += [text for text, _ in list_loss_mistakes()]
    tested = " ".join(sentence for *_, sentence in MISTAKES)
    assert [text for text in known if f"{text}." not in tested] == []
