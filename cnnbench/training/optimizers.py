"""The optimizers: torch.optim's, Muon, and where the configuration asks for it the reference."""

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from cnnbench.config import (
    AdagradConfig,
    AdamConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    SgdConfig,
)
from cnnbench.training.muon import Muon, fallback_config, split_parameters

__all__ = ["make_optimizer", "make_optimizers", "set_lr"]


def make_optimizers(
    config: OptimizerConfig, model: nn.Module, device: torch.device, reference: bool = False
) -> list[Optimizer]:
    """Return the optimizer of the configuration, and for Muon the one of the other parameters.

    With `reference` it is the one of cnnbench/reference.
    """
    parts = [(config, list(model.parameters()))]
    if isinstance(config, MuonConfig):
        matrices, rest = split_parameters(model)
        parts = [(config, matrices), (fallback_config(config), rest)]
    optimizers = [
        make_optimizer(part, parameters, device, reference)
        for part, parameters in parts
        if parameters
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def make_optimizer(
    config: OptimizerConfig,
    parameters: Iterable[nn.Parameter],
    device: torch.device,
    reference: bool = False,
) -> Optimizer:
    """Return the optimizer of `config`, in its fused form where PyTorch has one for the device.

    With `reference` it is the one of cnnbench/reference.
    """
    parameters = list(parameters)
    if reference:
        return _make_reference_optimizer(config, parameters)
    fused = device.type in ("cpu", "cuda")
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    match config:
        case SgdConfig():
            nesterov = config.name == "nesterov"
            settings |= {"momentum": config.momentum, "nesterov": nesterov, "fused": fused}
            optimizer = _eager(SGD)(parameters, **settings)
            if config.momentum > 0:
                # Left to itself, fused SGD takes what is in memory for the momentum if the very first gradients
                # overflow, as they do in fp16 (PyTorch 2.14). From zero, the first step is the same to the bit.
                for parameter in parameters:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return optimizer
        case AdagradConfig():
            return _eager(Adagrad)(
                parameters, eps=config.eps, fused=device.type == "cpu" or None, **settings
            )
        case AdamConfig():
            kind = _eager(Adam if config.name == "adam" else AdamW)
            settings |= {"betas": tuple(config.betas), "eps": config.eps, "fused": fused}
            return kind(parameters, **settings)
        case RMSpropConfig():
            settings |= {"alpha": config.alpha, "eps": config.eps, "momentum": config.momentum}
            return _eager(RMSprop)(parameters, **settings)
        case MuonConfig():
            return Muon(parameters, momentum=config.momentum, **settings)


def _make_reference_optimizer(config: OptimizerConfig, parameters: list[nn.Parameter]) -> Optimizer:
    # imported here: other runs need not wait for it
    from cnnbench.reference.optimizers import SGD, AdaGrad, Adam, Momentum

    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    match config:
        case SgdConfig(momentum=0.0):
            return SGD(parameters, **settings)
        case SgdConfig():
            return Momentum(parameters, momentum=config.momentum, **settings)
        case AdagradConfig():
            return AdaGrad(parameters, eps=config.eps, **settings)
        case AdamConfig():
            settings |= {"betas": tuple(config.betas), "eps": config.eps}
            return Adam(parameters, **settings)
    raise AssertionError(config.name)  # validation allows the reference for these alone


T = TypeVar("T", bound=Optimizer)


def _eager(kind: type[T]) -> type[T]:
    """The optimizer `kind` without what keeps torch.compile away from its methods.

    PyTorch wraps them in functions that import its compiler when first called, 1.5 s before the first step, and
    change nothing outside of a compiled function. A release that wraps them without `__wrapped__` is slower to start.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(
        inspect.unwrap(kind.step)
    )  # as its wrapper does unless `differentiable`
    return cast("type[T]", type(kind.__name__, (kind,), methods))


def set_lr(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Let each learning rate be `factor` times the one that was configured."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
