"""Activations: functions of one number, applied to every number x of a tensor of any shape.

    identity  y = x                                  dy/dx = 1
    sigmoid   y = 1 / (1 + e^-x)         in (0, 1)   dy/dx = y (1 - y)   at most 1/4, at x = 0
    tanh      y = (e^x - e^-x)           in (-1, 1)  dy/dx = 1 - y^2     at most 1, at x = 0
                  / (e^x + e^-x)
    ReLU      y = max(x, 0)                          dy/dx = 1 if x > 0, else 0
    step      y = 1 if x > 0, else 0                 dy/dx = 0

Backward. Each output depends on one input only, so the chain rule is an elementwise product:

    dX = dY * dy/dx

For every activation but the step, dy/dx is a function of y, so the outputs are saved and not the
inputs. With u = 1 + e^-x, the derivative of the sigmoid 1/u is
e^-x / u^2 = (1/u) (u - 1)/u = y (1 - y). The derivative of tanh = s/c, with s' = c and c' = s, is
(c^2 - s^2) / c^2 = 1 - y^2.

ReLU has a kink at 0 and no derivative there. We take 0, which is one of its subgradients. The step
is flat everywhere except at its jump. Its derivative is 0, so dX = 0 for every dY: the weights
before a step never get a gradient, and gradient descent learns nothing through it. The sigmoid is
a smooth step that solves this problem.

Far from 0, e^-x or e^x overflows. Nothing overflows if no exponent is above 0. For the sigmoid:

    1 / (1 + e^-x) if x >= 0, and e^x / (1 + e^x) if x < 0

Both cases in one formula are e^min(x, 0) / (1 + e^-|x|). For tanh, take the value at |x| and copy
the sign of x. With z = e^-2|x| and m = z - 1:

    (1 - z) / (1 + z) = -m / (2 + m)

The function expm1(t) = e^t - 1 computes m without the digits that are lost when two numbers near 1
are subtracted.

Cost for each number, M multiplications or divisions, A additions or subtractions:

                forward                                         backward
    identity    nothing                                         nothing
    sigmoid     2 exponentials, 1 M, 1 A                        2 M, 1 A
    tanh        1 exponential, 2 M, 1 A                         2 M, 1 A
    ReLU        1 comparison                                    1 comparison, 1 M
    step        1 comparison                                    nothing
"""

from typing import Any

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = [
    *("HyperbolicTangent", "IdentityMap", "Logistic", "Rectifier", "Step"),
    *("Identity", "ReLU", "Sigmoid", "Tanh"),
]


class IdentityMap(Function):
    """y = x."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clone()  # The next layer may change its inputs in place.

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class Logistic(Function):
    """The sigmoid y = 1 / (1 + e^-x)."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        outputs = inputs.clamp(max=0).exp() / (1 + torch.exp(-inputs.abs()))
        ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = ctx.saved_tensors[0]
        return grad * outputs * (1 - outputs)


class HyperbolicTangent(Function):
    """tanh: y = (e^x - e^-x) / (e^x + e^-x)."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        m = torch.expm1(-2 * inputs.abs())
        outputs = torch.copysign(-m / (2 + m), inputs)
        ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = ctx.saved_tensors[0]
        return grad * (1 - outputs * outputs)


class Rectifier(Function):
    """ReLU: y = max(x, 0)."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        outputs = inputs.clamp(min=0)
        ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = ctx.saved_tensors[0]
        return grad * (outputs > 0)


class Step(Function):
    """y = 1 if x > 0, else 0: the perceptron's activation, which passes no gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs > 0).to(inputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(grad)


class Identity(nn.Identity):
    """The identity layer of PyTorch, computed by `IdentityMap`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = IdentityMap.apply(inputs)
        return outputs


class Sigmoid(nn.Sigmoid):
    """The sigmoid layer of PyTorch, computed by `Logistic`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = Logistic.apply(inputs)
        return outputs


class Tanh(nn.Tanh):
    """The tanh layer of PyTorch, computed by `HyperbolicTangent`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = HyperbolicTangent.apply(inputs)
        return outputs


class ReLU(nn.ReLU):
    """The ReLU layer of PyTorch, computed by `Rectifier`.

    With `inplace` the outputs overwrite the inputs, because a network may rely on that.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = Rectifier.apply(inputs)
        return inputs.copy_(outputs) if self.inplace else outputs
