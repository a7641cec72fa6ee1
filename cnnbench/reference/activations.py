"""Activations: functions of one number, applied to every number x of a tensor of any shape; y is as many.

    identity    y = x                                           dy/dx = 1
    sigmoid     y = 1 / (1 + e^-x)           in (0, 1)          dy/dx = y (1 - y)     at most 1/4, at x = 0
    tanh        y = (e^x - e^-x)             in (-1, 1)         dy/dx = 1 - y^2       at most 1, at x = 0
                    / (e^x + e^-x)
    ReLU        y = max(x, 0)                                   dy/dx = 1 if x > 0, else 0
    step        y = 1 if x > 0, else 0                          dy/dx = 0

Backward. One output depends on one input alone, so the chain rule is a product, number by number:

    dX = dY * dy/dx

For all but the step, dy/dx can be told from y: it is the outputs that are saved, not the inputs. With
u = 1 + e^-x, the derivative of the sigmoid 1/u is e^-x / u^2 = (1/u) (u - 1)/u = y (1 - y). That of tanh = s/c, with
s' = c and c' = s, is (c^2 - s^2) / c^2 = 1 - y^2.

ReLU has a kink at 0 and no derivative there; 0 is taken, one of its subgradients. The step is flat everywhere but at
its jump. Its derivative is 0, hence dX = 0 whatever dY is: no weight before a step ever gets a gradient, and nothing
can be learnt through it by descent. That is what the sigmoid, a step made smooth, is for.

Far from 0, e^-x or e^x overflows. No exponent is above 0, and nothing overflows, if the sigmoid is taken as

    1 / (1 + e^-x) if x >= 0, and e^x / (1 + e^x) if x < 0, which in one is e^min(x, 0) / (1 + e^-|x|)

and tanh, with z = e^-2|x| and m = z - 1, as that of |x| with the sign of x:

    (1 - z) / (1 + z) = -m / (2 + m)

where expm1(t) = e^t - 1 gives m with the digits that a subtraction of two numbers near 1 loses.

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
        return inputs.clone()  # what follows may work in place

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
    """y = 1 if x > 0, else 0: the perceptron's activation, through which nothing can be learnt."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs > 0).to(inputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(grad)


class Identity(nn.Identity):
    """Computed by `IdentityMap`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = IdentityMap.apply(inputs)
        return outputs


class Sigmoid(nn.Sigmoid):
    """Computed by `Logistic`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = Logistic.apply(inputs)
        return outputs


class Tanh(nn.Tanh):
    """Computed by `HyperbolicTangent`."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = HyperbolicTangent.apply(inputs)
        return outputs


class ReLU(nn.ReLU):
    """Computed by `Rectifier`; with `inplace` the inputs become the outputs, as a network may rely on."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = Rectifier.apply(inputs)
        return inputs.copy_(outputs) if self.inplace else outputs
