"""Muon: momentum with orthogonalized updates, for weights that are matrices.

Jordan et al.: Muon, an optimizer for hidden layers in neural networks, 2024,
kellerjordan.github.io/posts/muon. A convolution's weight (C', C, kh, kw) is the matrix
(C', C kh kw), as in the author's airbench.

torch.optim.Muon is not used for two reasons. It refuses convolutions. It also reads the learning
rate on the host, so a CUDA graph would replay the first learning rate in every step.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cnnbench.config import AdamConfig, AdamWConfig, MuonConfig, NesterovConfig, SgdConfig

__all__ = ["Muon", "fallback_config", "orthogonalize", "split_parameters"]

# Coefficients of x, x^3 and x^5, with a steep slope at zero. Five steps lead to values near 1.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
EPS = 1e-7


class Muon(Optimizer):
    """Muon for weights of two or more dimensions. Weights of equal shape are updated together.

    It equals torch.optim.Muon with its default adjust_lr_fn="original": an update of R rows and C
    columns is scaled by sqrt(max(1, R / C)). The momentum is Nesterov's, and weight decay is
    decoupled from the gradient.

    A step never waits for the host. `lr` may be a 0-dimensional tensor on the device of the
    weights. Each replay of a CUDA graph then uses the current value of the tensor.

    Raises:
        ValueError: a weight has fewer than two dimensions, or there are no weights.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        # The wrapper of PyTorch's method imports its compiler, which takes a second.
        inspect.unwrap(Optimizer.add_param_group)(self, param_group)
        for weight in self.param_groups[-1]["params"]:
            if weight.ndim < 2:
                raise ValueError(
                    "Muon is for weights of two or more dimensions, not of shape "
                    f"{tuple(weight.shape)}."
                )
            # Not in the first step: a CUDA graph would capture it, and reset it in every replay.
            self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update the weights that have a gradient.

        Return the result of `closure`, which is called first to compute the gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for weights in by_shape.values():
                self._update(weights, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(
        self,
        weights: list[torch.Tensor],
        lr: float | torch.Tensor,
        momentum: float,
        weight_decay: float,
    ) -> None:
        """Update weights of one shape, all with a gradient.

        `lr` must not become a Python number here, as a CUDA graph would capture the number.
        """
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        averages = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, averages, momentum)
        stacked = torch.stack(nesterov)  # (B, C', C, kh, kw)
        matrices = stacked.flatten(2)  # (B, C', C kh kw)
        rows, columns = matrices.shape[1:]
        updates = orthogonalize(matrices) * (lr * max(1.0, rows / columns) ** 0.5)
        if weight_decay > 0:
            for weight in weights:
                weight.mul_(1 - lr * weight_decay)
        torch._foreach_sub_(weights, updates.view(stacked.shape).unbind())


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Replace the singular values of each matrix in (B, R, C) by values from 0.68 to 1.21.

    Singular values below 1/500 of the matrix's norm only grow by a constant factor; zeros stay.
    The Newton-Schulz iteration runs in bfloat16 on CUDA and in float32 elsewhere, where bfloat16 is
    slow without hardware support.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices  # makes the product of x and x.mT the smaller one
    norms = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / norms.clamp(min=EPS)  # no singular value is above 1 now
    x = x.to(_working_dtype(x.device))
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


def _working_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the weights for Muon, and the other parameters of the network.

    The others are biases, parameters of normalization, and weights of classifiers. The rows of a
    classifier belong to classes, which orthogonalization would force to learn at the same rate. The
    last weight of the network is a classifier. So is each linear layer that is the last one of its
    module and has as many outputs: an auxiliary classifier. Either list may be empty: a single
    linear layer has no weight for Muon.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    classifiers: set[torch.Tensor] = set(matrices[-1:])
    for module in model.modules():
        linear = [layer for layer in module.children() if isinstance(layer, nn.Linear)]
        if linear and linear[-1].out_features == len(matrices[-1]):
            classifiers.add(linear[-1].weight)
    weights = [matrix for matrix in matrices if matrix not in classifiers]
    chosen = set(weights)
    return weights, [parameter for parameter in model.parameters() if parameter not in chosen]


def fallback_config(config: MuonConfig) -> AdamConfig | SgdConfig:
    """Return the optimizer of the parameters not for Muon, with the values of Muon's author."""
    if config.fallback == "adamw":
        return AdamWConfig(
            lr=config.fallback_lr, betas=[0.9, 0.95], eps=1e-10, weight_decay=config.weight_decay
        )
    return NesterovConfig(lr=config.fallback_lr, momentum=0.85, weight_decay=config.weight_decay)
