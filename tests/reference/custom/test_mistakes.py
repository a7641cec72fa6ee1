"""Mistakes that any class may have, and those of random and of running values."""

from pathlib import Path

import pytest
from helpers.custom_files import write_changed

from cnnbench.reference.custom.mistakes import explain

MISTAKES = [
    # shapes
    (
        "Conv2d",
        "dout.sum(axis=(0, 2, 3))",
        "dout",
        "Conv2d.backward set db an array (3, 4, 4, 3). It must be (4,): "
        "the gradient is not summed over the batch.",
    ),
    (
        "Linear",
        "dout.sum(axis=0)",
        "dout",
        "Linear.backward set db an array (3, 4). It must be (4,): "
        "the gradient is not summed over the batch.",
    ),
    (
        "Linear",
        "dout.sum(axis=0)",
        "dout.sum(axis=1)",
        "Linear.backward set db an array (3,). It must be (4,): "
        "the gradient is summed over the wrong axes.",
    ),
    (
        "Conv2d",
        "self.stride, self.pad = W, b, stride, pad",
        "self.stride, self.pad = W, b, 1, pad",
        "Conv2d.forward returned an array (3, 4, 7, 6). It must be (3, 4, 4, 3): "
        "the stride is ignored.",
    ),
    (
        "MaxPool2d",
        "self.stride, self.pad = size, stride, pad",
        "self.stride, self.pad = size, 1, pad",
        "MaxPool2d.forward returned an array (3, 2, 5, 3). It must be (3, 2, 3, 2): "
        "the stride is ignored.",
    ),
    (
        "Conv2d",
        "((0, 0), (0, 0), (pad, pad), (pad, pad))",
        "((0, 0), (0, 0), (pad, 0), (pad, 0))",
        "Conv2d.forward returned an array (3, 4, 3, 3). It must be (3, 4, 4, 3): "
        "the padding is on one side only.",
    ),
    (
        "Conv2d",
        "pad, k = self.pad, self.W.shape[2]",
        "pad, k = 0, self.W.shape[2]",
        "Conv2d.forward returned an array (3, 4, 3, 2). It must be (3, 4, 4, 3): "
        "the padding is ignored.",
    ),
    (
        "Conv2d",
        "return dpadded[:, :, pad : dpadded.shape[2] - pad, pad : dpadded.shape[3] - pad]",
        "return dpadded",
        "Conv2d.backward returned an array (3, 2, 9, 8). It must be (3, 2, 7, 6).",
    ),
    # factors
    (
        "Linear",
        "dout.sum(axis=0)",
        "dout.mean(axis=0)",
        "Linear.backward, db: it is divided by N = 3 once too often.",
    ),
    (
        "CrossEntropyLoss",
        " / len(x)",
        "",
        "CrossEntropyLoss.forward: the factor 1/(N) is missing: it is 3 times too large.",
    ),
    (
        "CrossEntropyLoss",
        " / len(self.t)",
        "",
        "CrossEntropyLoss.backward: the factor 1/(N) is missing: it is 3 times too large.",
    ),
    (
        "CrossEntropyLoss",
        "-(t * log_p)",
        "(t * log_p)",
        "CrossEntropyLoss.forward: its sign is wrong.",
    ),
    (
        "AvgPool2d",
        ".mean(axis=(4, 5))",
        ".sum(axis=(4, 5))",
        "AvgPool2d.forward: the factor 1/(size^2) is missing: it is 4 times too large.",
    ),
    (
        "AvgPool2d",
        " / size**2",
        "",
        "AvgPool2d.backward, dx: the factor 1/(size^2) is missing: it is 4 times too large.",
    ),
    # gradients
    (
        "Linear",
        "self.dW = dout.T @ self.x",
        "self.dW = dout[-1:].T @ self.x[-1:]",
        "Linear.backward, dW: only the last example counts: add the gradients of all, with +=.",
    ),
    ("Linear", "dout.T @ self.x", "self.x.T @ dout", "Linear.backward, dW: it is transposed."),
    (
        "Conv2d",
        "dpixels += np",
        "dpixels[...] = np",
        "Conv2d.backward, dx: where windows overlap, the gradients must be added: dx[...] += ...",
    ),
    (
        "MaxPool2d",
        "j * stride + v] +=",
        "j * stride + v] =",
        "MaxPool2d.backward, dx: where windows overlap, the gradients must be added: "
        "dx[...] += ...",
    ),
    (
        "AvgPool2d",
        "cols] +=",
        "cols] =",
        "AvgPool2d.backward, dx: where windows overlap, the gradients must be added: "
        "dx[...] += ...",
    ),
    # numbers that no known mistake gives
    ("ReLU", "x * self.is_positive", "x * 0", "ReLU.forward: it is 0 everywhere."),
    ("Tanh", "np.tanh(x)", "np.log(x - 9)", "Tanh.forward: it has numbers that are nan or inf."),
    ("Linear", "dout @ self.W", "2.5 * dout @ self.W", "Linear.backward, dx: it is 2.5 times"),
    ("Conv2d", "return y", "y[1, 2, 3, 0] = 7\n        return y", "at (1, 2, 3, 0) it is 7, not"),
    # running values
    (
        "BatchNorm2d",
        "* count / (count - 1)",
        "",
        "BatchNorm2d.forward, running_var: it is moved by the variance of the batch: "
        "multiply it by M / (M - 1).",
    ),
    (
        "BatchNorm2d",
        "(1 - share) * self.running_mean + share * mean",
        "share * self.running_mean + (1 - share) * mean",
        "BatchNorm2d.forward, running_mean: the momentum is reversed: "
        "it is the share of the new batch.",
    ),
    (
        "BatchNorm2d",
        "self.running_var = (1 - share) * self.running_var + share * var * count / (count - 1)",
        "pass",
        "BatchNorm2d.forward, running_var: it is not changed in training.",
    ),
    (
        "BatchNorm2d",
        "if training:",
        "mean, var = x.mean(axis=AXES), x.var(axis=AXES)\n        if training:",
        "BatchNorm2d.forward in evaluation: it uses mean and variance of the batch: "
        "use the running ones.",
    ),
    # dropout
    (
        "Dropout",
        "np.random.rand(",
        "np.random.randn(",
        "Dropout.forward keeps 38% of the numbers with p = 0.3: "
        "randn draws from the normal distribution: rand draws from 0 to 1.",
    ),
    (
        "Dropout",
        "> self.p)",
        "< self.p)",
        "Dropout.forward keeps 30% of the numbers with p = 0.3: "
        "p is the share to drop, not the share to keep.",
    ),
    (
        "Dropout",
        "> self.p)",
        "> 0.1)",
        "of the numbers with p = 0.3: each number is dropped with probability p.",
    ),
    (
        "Dropout",
        "(np.random.rand(*x.shape) > self.p) / (1 - self.p)",
        "1.0 * (np.random.rand(*x.shape) > self.p)",
        "Dropout.forward: the numbers that are kept are not divided by 1 - p.",
    ),
    (
        "Dropout",
        "self.mask = (",
        "np.random.seed(0)\n        self.mask = (",
        "Dropout.forward: the mask is the same in each call.",
    ),
    (
        "Dropout",
        "dout * self.mask",
        "dout",
        "Dropout.backward: the mask of forward is not used.",
    ),
    (
        "Dropout",
        "dout * self.mask",
        "dout * (self.mask > 0)",
        "Dropout.backward: it is not divided by 1 - p.",
    ),
    (
        "Dropout",
        "return x\n",
        "return x * (1 - self.p)\n",
        "Dropout.forward in evaluation: it must return x, as training divides by 1 - p.",
    ),
    # overflow
    (
        "CrossEntropyLoss",
        "x - x.max(axis=1, keepdims=True)",
        "x",
        "CrossEntropyLoss.forward: the exponential of logits of 1000 overflows: "
        "subtract the largest logit of each row from the row.",
    ),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of overflow, in NumPy
@pytest.mark.parametrize(("kind", "old", "new", "sentence"), MISTAKES)
def test_mistake_gets_its_sentence_alone(
    tmp_path: Path, kind: str, old: str, new: str, sentence: str
) -> None:
    (found,) = explain(write_changed(tmp_path, kind, old, new), kind)
    assert sentence in found
