"""How the weights of Linear and Conv2d layers begin. Biases begin as PyTorch makes them."""

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["initialize"]

NORMAL_STD = 0.01

_METHODS: dict[str, Callable[[torch.Tensor], object]] = {
    "xavier_uniform": nn.init.xavier_uniform_,  # Glorot and Bengio 2010: suits sigmoid and tanh
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(
        weight, nonlinearity="relu"
    ),  # He et al. 2015
    "normal": lambda weight: nn.init.normal_(weight, std=NORMAL_STD),
    "default": lambda weight: None,
}


def initialize(model: nn.Module, method: str) -> None:
    """Fill the weights of every Linear and Conv2d in place; `method` is a value of train.init."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            _METHODS[method](module.weight)
