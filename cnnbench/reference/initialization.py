"""The initial weights: random, with a variance that keeps the size of signals in every layer.

The weight of an affine layer is (M, D), of a convolution (M, C, kh, kw). Each output is a sum over
fan_in inputs, and in the backward pass the gradient of each input is a sum over fan_out outputs
(away from the border, with stride 1):

    fan_in = D      or C kh kw
    fan_out = M     or M kh kw

Let the weights have mean 0 and be independent of each other and of the inputs. Then the variance of
a sum is the sum of the variances, and E[x^2] is the mean square of an input:

    forward     y = sum of w x       Var[y] = fan_in Var[w] E[x^2]
    backward    dx = sum of w dy     Var[dx] = fan_out Var[w] Var[dy]

Xavier (Glorot and Bengio 2010). Near 0, tanh is the identity and its outputs have mean 0, so E[x^2]
is Var[x]. The variance stays the same forward if fan_in Var[w] = 1, and backward if
fan_out Var[w] = 1. Both hold only where the fans are equal. A compromise is

    Var[w] = 2 / (fan_in + fan_out)

He (He et al. 2015). ReLU, x = max(0, y), zeroes half of the values of a symmetric y, and so halves
the mean square: E[x^2] = Var[y] / 2 with y of the layer before. The variance stays the same forward
if fan_in Var[w] / 2 = 1:

    Var[w] = 2 / fan_in

Backward, the variance changes by fan_out / fan_in in each layer. Where the outputs of one layer are
the inputs of the next, these quotients cancel up to the last fan_out over the first fan_in. With
Xavier's variance and equal fans each ReLU halves the variance. After thirty layers a billionth of
it is left.

A normal distribution takes its standard deviation std. A uniform one between -a and a has the
variance

    integral of w^2 / (2 a) from -a to a = a^2 / 3,     so that a = sqrt(3) std.

X. Glorot and Y. Bengio: Understanding the difficulty of training deep feedforward neural networks.
AISTATS 2010.
K. He, X. Zhang, S. Ren and J. Sun: Delving deep into rectifiers. ICCV 2015.
"""

import math

import torch

__all__ = ["compute_fans", "he_normal_", "he_uniform_", "xavier_normal_", "xavier_uniform_"]


def compute_fans(weight: torch.Tensor) -> tuple[int, int]:
    """Return fan_in and fan_out of a weight (M, D) or (M, C, kh, kw)."""
    outputs, inputs, *kernel = weight.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


@torch.no_grad()
def xavier_uniform_(weight: torch.Tensor) -> torch.Tensor:
    """Fill `weight` in place with the numbers that torch.nn.init.xavier_uniform_ draws."""
    bound = math.sqrt(3.0) * _compute_xavier_std(weight)
    return weight.uniform_(-bound, bound)


@torch.no_grad()
def xavier_normal_(weight: torch.Tensor) -> torch.Tensor:
    """Fill `weight` in place with the numbers that torch.nn.init.xavier_normal_ draws."""
    return weight.normal_(0.0, _compute_xavier_std(weight))


@torch.no_grad()
def he_uniform_(weight: torch.Tensor) -> torch.Tensor:
    """Fill `weight` in place with the numbers torch.nn.init.kaiming_uniform_ draws for ReLU."""
    bound = math.sqrt(3.0) * _compute_he_std(weight)
    return weight.uniform_(-bound, bound)


@torch.no_grad()
def he_normal_(weight: torch.Tensor) -> torch.Tensor:
    """Fill `weight` in place with the numbers torch.nn.init.kaiming_normal_ draws for ReLU."""
    return weight.normal_(0.0, _compute_he_std(weight))


def _compute_xavier_std(weight: torch.Tensor) -> float:
    fan_in, fan_out = compute_fans(weight)
    return math.sqrt(2.0 / (fan_in + fan_out))


def _compute_he_std(weight: torch.Tensor) -> float:
    fan_in, _ = compute_fans(weight)
    return math.sqrt(2.0) / math.sqrt(fan_in)
