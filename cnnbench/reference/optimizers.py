"""Optimizers: how weights w follow the gradients g of the loss. Every operation is for each number by itself.

    SGD         w <- w - lr g                                           Robbins and Monro 1951
    Momentum    u <- momentum u + g                                     Polyak 1964
                w <- w - lr u
    AdaGrad     h <- h + g^2                                            Duchi, Hazan and Singer 2011
                w <- w - lr g / (sqrt(h) + eps)
    Adam        m <- beta1 m + (1 - beta1) g                            Kingma and Ba 2015
                v <- beta2 v + (1 - beta2) g^2
                w <- w - lr m' / (sqrt(v') + eps)   with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t) in step t

u, h, m and v begin with zeros. With weight_decay, L2 regularisation, g is the gradient of the loss plus
weight_decay |w|^2 / 2: weight_decay w is added to that of the loss, before anything else is done.

What each costs per weight, in memory and in operations per step:

                remembered  multiplications  additions  divisions  square roots
    SGD                  0                1          1
    Momentum             1                2          2
    AdaGrad              1                2          3          1             1
    Adam                 2                6          4          3             1
    weight_decay         0                1          1

Of a network in float32 whose weights are 4 n bytes, Adam's memory is 8 n more.
"""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum"]

Tensors = dict[str, torch.Tensor]


class _ByHand(Optimizer):
    """Does `update`, which each optimizer defines, for every tensor of weights that has a gradient.

    `lr` may be a 0-dimensional tensor on the device of the weights, which is read when the step runs.
    """

    def begin(self, weight: torch.Tensor) -> Tensors:
        """What is remembered of `weight` before the first step: zeros. Named as torch.optim names them."""
        return {}

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: Tensors, group: dict[str, Any]
    ) -> None:
        """Change `weight`, and `state` in place, given the gradient, of the same shape, and the hyperparameters."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            self.state[weight].update(self.begin(weight))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update; returns what `closure`, which computes the gradients, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    gradient = weight.grad
                    if group["weight_decay"] > 0:
                        gradient = gradient + group["weight_decay"] * weight
                    self.update(weight, gradient, self.state[weight], group)
        return loss


class SGD(_ByHand):
    """Stochastic gradient descent: stochastic, since each step follows the gradient of some examples alone.

    H. Robbins and S. Monro: A stochastic approximation method. Annals of Mathematical Statistics 22 (1951).
    """

    def __init__(
        self, params: ParamsT, lr: float | torch.Tensor, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: Tensors, group: dict[str, Any]
    ) -> None:
        weight -= group["lr"] * gradient


class Momentum(_ByHand):
    """The heavy ball: each step goes on with `momentum` times the step before.

    B. T. Polyak: Some methods of speeding up the convergence of iteration methods. USSR Computational Mathematics and
    Mathematical Physics 4 (1964).

    Under a constant gradient, u grows from g to g (1 + momentum + momentum^2 + ...) = g / (1 - momentum): tenfold for
    momentum 0.9. Across a valley, where g changes its sign from step to step, its summands cancel.

    Textbooks often write a velocity v in place of u:

        v <- momentum v - lr g
        w <- w + v

    While lr is constant, v is -lr u in every step: both begin with 0, and if it was so before a step, then
    v = momentum (-lr u) - lr g = -lr (momentum u + g) after it. So the weights are the same.
    When lr changes from l to l' they part: the textbooks' v still holds the steps of before at the rate l at which they
    were made, whereas here, as in PyTorch, all of u is multiplied by l'. In terms of v this is

        v <- (l' / l) momentum v - l' g

    so that a learning rate that falls tenfold slows the ball at once, not over some 1 / (1 - momentum) steps.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def begin(self, weight: torch.Tensor) -> Tensors:
        return {"momentum_buffer": torch.zeros_like(weight)}

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: Tensors, group: dict[str, Any]
    ) -> None:
        u = state["momentum_buffer"]
        u *= group["momentum"]
        u += gradient
        weight -= group["lr"] * u


class AdaGrad(_ByHand):
    """Each weight has a learning rate of its own, which falls as its squared gradients add up.

    J. Duchi, E. Hazan and Y. Singer: Adaptive subgradient methods for online learning and stochastic optimization.
    Journal of Machine Learning Research 12 (2011).

    The first step is lr against the sign of g, however large g is. Under a constant gradient step t is lr / sqrt(t).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def begin(self, weight: torch.Tensor) -> Tensors:
        return {"sum": torch.zeros_like(weight)}

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: Tensors, group: dict[str, Any]
    ) -> None:
        h = state["sum"]
        h += gradient * gradient
        weight -= group["lr"] * gradient / (h.sqrt() + group["eps"])


class Adam(_ByHand):
    """The mean of the gradients over the root of the mean of their squares, both means forgetting exponentially.

    D. P. Kingma and J. Ba: Adam: a method for stochastic optimization. ICLR 2015.

    As m and v begin with zeros, they are too small at first. Of a constant gradient, m after t steps is
    g (1 - beta1) (1 + beta1 + ... + beta1^(t - 1)) = g (1 - beta1^t): hence the division by 1 - beta1^t, and likewise
    of v. The first step is lr against the sign of g, as AdaGrad's; under a constant gradient every step is.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        # `capturable` has load_state_dict put t where the weights are: a CUDA graph cannot count on the host.
        super().__init__(params, {**defaults, "capturable": True})

    def begin(self, weight: torch.Tensor) -> Tensors:
        return {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: Tensors, group: dict[str, Any]
    ) -> None:
        beta1, beta2 = group["betas"]
        t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        t += 1
        m *= beta1
        m += (1 - beta1) * gradient
        v *= beta2
        v += (1 - beta2) * gradient * gradient
        mean = m / _one_minus_power(beta1, t.to(weight.dtype))
        mean_square = v / _one_minus_power(beta2, t.to(weight.dtype))
        weight -= group["lr"] * mean / (mean_square.sqrt() + group["eps"])


def _one_minus_power(beta: float, t: torch.Tensor) -> torch.Tensor:
    """1 - beta^t, from t = 1 on, as -(exp(t log beta) - 1).

    In float32 the difference itself would have but four right digits for beta = 0.999 and t = 1.
    """
    return -torch.expm1(t * math.log(beta)) if beta > 0 else torch.ones_like(t)
