"""Initialize the weights of Linear and Conv2d layers. Biases keep PyTorch's initialization."""

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["initialize"]

NORMAL_STD = 0.01

_METHODS: dict[str, Callable[[torch.Tensor], object]] = {
    # Glorot and Bengio 2010, for sigmoid and tanh.
    "xavier_uniform": nn.init.xavier_uniform_,
    # He et al. 2015.
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "normal": lambda weight: nn.init.normal_(weight, std=NORMAL_STD),
    "default": lambda weight: None,
}


def initialize(model: nn.Module, method: str) -> None:
    """Initialize the weights of every Linear and Conv2d in place; `method` is train.init."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            _METHODS[method](module.weight)
