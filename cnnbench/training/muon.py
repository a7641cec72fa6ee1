"""Muon: momentum whose every step is orthogonalised, for the weights that are matrices.

Jordan et al.: Muon, an optimizer for hidden layers in neural networks, 2024, kellerjordan.github.io/posts/muon.
A convolution's weight (C', C, kh, kw) is the matrix (C', C kh kw), as in the author's airbench.

Why not torch.optim.Muon: it refuses convolutions, and reads the learning rate on the host, so that a CUDA graph would
replay the first one for ever.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from cnnbench.config import AdamConfig, AdamWConfig, MuonConfig, NesterovConfig, SgdConfig

__all__ = ["Muon", "fallback_config", "orthogonalize", "split_parameters"]

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # of x, x^3 and x^5: steepest at zero, and near 1 after five steps
NEWTON_SCHULZ_STEPS = 5
EPS = 1e-7


class Muon(Optimizer):
    """Muon for weights of two or more dimensions, in groups of equal shape that are orthogonalised together.

    Equal to torch.optim.Muon with adjust_lr_fn="original", its default: an update of R rows and C columns is scaled by
    sqrt(max(1, R / C)). The momentum is Nesterov's, weight decay is apart from the gradient.

    A step never waits for the host. `lr` may be a 0-dimensional tensor on the device of the weights, which is then read
    when the step runs: each replay of a CUDA graph takes what the tensor holds.

    Raises:
        ValueError: a weight of fewer than two dimensions, or none at all.
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
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            if weight.ndim < 2:
                raise ValueError(
                    f"Muon is for weights of two or more dimensions, not of shape {tuple(weight.shape)}."
                )
            # here, not in the first step: a CUDA graph that captured this would start from zero in every replay
            self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update the weights that have a gradient; returns what `closure`, which computes them, returns."""
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
        """Update weights of one shape, all with a gradient. Nothing here may make a Python number of `lr`."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        averages = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = torch.stack(
            torch._foreach_lerp(gradients, averages, momentum)
        )  # (B, C', C, kh, kw)
        matrices = ahead.flatten(2)  # (B, C', C kh kw)
        rows, columns = matrices.shape[1:]
        updates = orthogonalize(matrices) * (lr * max(1.0, rows / columns) ** 0.5)
        if weight_decay > 0:
            for weight in weights:
                weight.mul_(1 - lr * weight_decay)
        torch._foreach_sub_(weights, updates.view(ahead.shape).unbind())


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Replace the singular values of each matrix in (B, R, C) by numbers from 0.68 to 1.21.

    Those below a five-hundredth of the matrix's norm end in proportion to what they were; zeros stay.
    Newton-Schulz iteration, in bfloat16 on CUDA and in float32 elsewhere: without units for it, bfloat16 is slow.
    """
    upright = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if upright else matrices  # the smaller of the two products with itself
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(
        min=EPS
    )  # so no singular value is above 1
    x = x.to(_working_dtype(x.device))
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if upright else x).to(matrices.dtype)


def _working_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights for Muon, and the rest: biases, normalisation, and the weights of classifiers.

    A classifier's rows belong to classes, which are not to be learnt at one common pace, as orthogonalising has it.
    It is the last weight of the network; and, for auxiliary classifiers, each linear layer that is the last one of its
    module and gives as many numbers. Either list may be empty: a single linear layer has no weight for Muon.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    classifiers: set[torch.Tensor] = set(matrices[-1:])
    for module in model.modules():
        linear = [layer for layer in module.children() if isinstance(layer, nn.Linear)]
        if linear and linear[-1].out_features == len(matrices[-1]):
            classifiers.add(linear[-1].weight)
    for_muon = [matrix for matrix in matrices if matrix not in classifiers]
    taken = set(for_muon)
    return for_muon, [parameter for parameter in model.parameters() if parameter not in taken]


def fallback_config(config: MuonConfig) -> AdamConfig | SgdConfig:
    """The optimizer of the parameters that Muon is not for, with the numbers that its author gives it."""
    if config.fallback == "adamw":
        return AdamWConfig(
            lr=config.fallback_lr, betas=[0.9, 0.95], eps=1e-10, weight_decay=config.weight_decay
        )
    return NesterovConfig(lr=config.fallback_lr, momentum=0.85, weight_decay=config.weight_decay)
