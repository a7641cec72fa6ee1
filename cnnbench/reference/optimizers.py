"""Optimizers: how weights w follow the gradients g of the loss. Every operation is elementwise.

    SGD         w <- w - lr g                                       Robbins and Monro 1951
    Momentum    u <- momentum u + g                                 Polyak 1964
                w <- w - lr u
    AdaGrad     h <- h + g^2                                        Duchi, Hazan and Singer 2011
                w <- w - lr g / (sqrt(h) + eps)
    Adam        m <- beta1 m + (1 - beta1) g                        Kingma and Ba 2015
                v <- beta2 v + (1 - beta2) g^2
                w <- w - lr m' / (sqrt(v') + eps)
                in step t with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t)

u, h, m and v begin with zeros. weight_decay is L2 regularization: it adds weight_decay |w|^2 / 2 to
the loss, so g is the gradient of the loss plus weight_decay w, before anything else is computed.

Cost of each optimizer per weight: numbers of state, and operations per step.

                     state  multiplications  additions  divisions  square roots
    SGD                  0                1          1
    Momentum             1                2          2
    AdaGrad              1                2          3          1             1
    Adam                 2                6          4          3             1
    weight_decay         0                1          1

If the weights of a network in float32 take 4 n bytes, the state of Adam takes 8 n more.
"""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

__all__ = ["SGD", "AdaGrad", "Adam", "Momentum"]

State = dict[str, torch.Tensor]


class _ReferenceOptimizer(Optimizer):
    """Base class of the reference optimizers, which define `update` and `init_state`.

    A step calls `update` for every weight tensor that has a gradient. `lr` may be a 0-dimensional
    tensor on the device of the weights, which is read when the step runs.
    """

    def init_state(self, weight: torch.Tensor) -> State:
        """Return the state of `weight` before the first step: zeros, under torch.optim's names."""
        return {}

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Change `weight` and `state` in place.

        Args:
            weight: a tensor of weights.
            gradient: of the same shape, with weight decay.
            state: from `init_state`.
            group: the hyperparameters.
        """
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            self.state[weight].update(self.init_state(weight))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, as in PyTorch.

        Raises:
            ValueError: it is the state of another optimizer, perhaps of a user's class.
        """
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for index, state in state_dict["state"].items():
            if self.state[weights[index]].keys() - state.keys():
                raise ValueError(f"another optimizer has the state {', '.join(state)}")
        super().load_state_dict(state_dict)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all weights, and return the loss that `closure` returns.

        `closure` computes the gradients and the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient = weight.grad
                if group["weight_decay"] > 0:
                    gradient = gradient + group["weight_decay"] * weight
                self.update(weight, gradient, self.state[weight], group)
        return loss


class SGD(_ReferenceOptimizer):
    """Stochastic gradient descent: each step uses the gradient of only some examples.

    H. Robbins and S. Monro: A stochastic approximation method. Annals of Mathematical Statistics 22
    (1951).
    """

    def __init__(
        self, params: ParamsT, lr: float | torch.Tensor, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: State, group: dict[str, Any]
    ) -> None:
        weight -= group["lr"] * gradient


class Momentum(_ReferenceOptimizer):
    """The heavy ball: each step includes `momentum` times the step before.

    B. T. Polyak: Some methods of speeding up the convergence of iteration methods. USSR
    Computational Mathematics and Mathematical Physics 4 (1964).

    Under a constant gradient, u grows from g to
    g (1 + momentum + momentum^2 + ...) = g / (1 - momentum): tenfold for momentum 0.9. Across a
    valley, where g changes its sign from step to step, the terms of the sum cancel.

    Textbooks often write a velocity v in place of u:

        v <- momentum v - lr g
        w <- w + v

    While lr is constant, v is -lr u in every step: both begin with 0, and if v = -lr u before a
    step, then v = momentum (-lr u) - lr g = -lr (momentum u + g) after it. The weights are equal.

    They differ when lr changes from l to l'. The textbooks' v still holds the earlier steps at the
    rate l at which they were made. Here, as in PyTorch, all of u is multiplied by l'. In terms of v
    this is

        v <- (l' / l) momentum v - l' g

    so a learning rate that falls tenfold slows the ball at once, and not over about
    1 / (1 - momentum) steps.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def init_state(self, weight: torch.Tensor) -> State:
        return {"momentum_buffer": torch.zeros_like(weight)}

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: State, group: dict[str, Any]
    ) -> None:
        u = state["momentum_buffer"]
        u *= group["momentum"]
        u += gradient
        weight -= group["lr"] * u


class AdaGrad(_ReferenceOptimizer):
    """A separate learning rate for each weight, which falls as its squared gradients add up.

    J. Duchi, E. Hazan and Y. Singer: Adaptive subgradient methods for online learning and
    stochastic optimization. Journal of Machine Learning Research 12 (2011).

    The first step has length lr against the sign of g, for any size of g. Under a constant gradient
    step t has length lr / sqrt(t).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def init_state(self, weight: torch.Tensor) -> State:
        return {"sum": torch.zeros_like(weight)}

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: State, group: dict[str, Any]
    ) -> None:
        h = state["sum"]
        h += gradient * gradient
        weight -= group["lr"] * gradient / (h.sqrt() + group["eps"])


class Adam(_ReferenceOptimizer):
    """The moving average of the gradients over the root of the moving average of their squares.

    D. P. Kingma and J. Ba: Adam: a method for stochastic optimization. ICLR 2015.

    As m and v begin with zeros, they are too small at first. Under a constant gradient, m after t
    steps is g (1 - beta1) (1 + beta1 + ... + beta1^(t - 1)) = g (1 - beta1^t). Division by
    1 - beta1^t corrects m, and division by 1 - beta2^t corrects v. The first step has length lr
    against the sign of g, as in AdaGrad. Under a constant gradient every step has this length.
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
        # `capturable` makes load_state_dict put t on the device of the weights, because a CUDA
        # graph cannot count steps on the host.
        super().__init__(params, {**defaults, "capturable": True})

    def init_state(self, weight: torch.Tensor) -> State:
        return {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }

    def update(
        self, weight: torch.Tensor, gradient: torch.Tensor, state: State, group: dict[str, Any]
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
    """Return 1 - beta^t for t >= 1, as -(exp(t log beta) - 1).

    In float32 the difference 1 - beta^t has only four right digits for beta = 0.999 and t = 1.
    """
    return -torch.expm1(t * math.log(beta)) if beta > 0 else torch.ones_like(t)
