"""Create the optimizers of the configuration: PyTorch's, Muon, or the reference implementation."""

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
from cnnbench.reference.custom.module import CustomModule
from cnnbench.training.muon import Muon, fallback_config, split_parameters

__all__ = ["make_optimizer", "make_optimizers", "set_lr"]


def make_optimizers(
    config: OptimizerConfig,
    model: nn.Module,
    device: torch.device,
    reference: bool = False,
    custom: CustomModule | None = None,
) -> list[Optimizer]:
    """Return the optimizer of the configuration, and for Muon also that of its other parameters.

    With `reference` it is the reference implementation, or the class in the user's file.
    """
    parts = [(config, list(model.parameters()))]
    if isinstance(config, MuonConfig):
        matrices, rest = split_parameters(model)
        parts = [(config, matrices), (fallback_config(config), rest)]
    optimizers = [
        make_optimizer(part, parameters, device, reference, custom)
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
    custom: CustomModule | None = None,
) -> Optimizer:
    """Return the optimizer of `config`, fused if PyTorch has a fused one for the device.

    With `reference` it is the reference implementation, or the class in the user's file.
    """
    parameters = list(parameters)
    if reference and custom is not None:
        from cnnbench.reference.custom.optimizers import make_custom_optimizer

        if (made := make_custom_optimizer(config, parameters, custom)) is not None:
            return made
    if reference:
        return _make_reference_optimizer(config, parameters)
    fused = device.type in ("cpu", "cuda")
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    match config:
        case SgdConfig():
            nesterov = config.name == "nesterov"
            settings |= {"momentum": config.momentum, "nesterov": nesterov, "fused": fused}
            optimizer = _without_compiler_wrappers(SGD)(parameters, **settings)
            if config.momentum > 0:
                # Fused SGD of PyTorch 2.14 does not initialize the momentum if the first gradients
                # overflow, as they do in fp16. With zeros, the first step has the same bits.
                for parameter in parameters:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return optimizer
        case AdagradConfig():
            settings |= {"eps": config.eps, "fused": device.type == "cpu" or None}
            return _without_compiler_wrappers(Adagrad)(parameters, **settings)
        case AdamConfig():
            adam = Adam if config.name == "adam" else AdamW
            settings |= {"betas": tuple(config.betas), "eps": config.eps, "fused": fused}
            return _without_compiler_wrappers(adam)(parameters, **settings)
        case RMSpropConfig():
            settings |= {"alpha": config.alpha, "eps": config.eps, "momentum": config.momentum}
            return _without_compiler_wrappers(RMSprop)(parameters, **settings)
        case MuonConfig():
            return _without_compiler_wrappers(Muon)(
                parameters, momentum=config.momentum, **settings
            )


def _make_reference_optimizer(config: OptimizerConfig, parameters: list[nn.Parameter]) -> Optimizer:
    # Imported here, so that other runs need not wait for it.
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
    raise AssertionError(config.name)  # validation refuses the other optimizers


T = TypeVar("T", bound=Optimizer)


def _without_compiler_wrappers(optimizer_class: type[T]) -> type[T]:
    """Return a subclass whose methods are not wrapped to keep torch.compile away.

    The wrappers import the compiler when first called, which takes 1.5 s before the first step.
    They change nothing outside of compiled functions. If a release of PyTorch wraps methods without
    `__wrapped__`, training only starts more slowly.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(optimizer_class, name)) for name in names}
    # The wrapper of `step` disables gradients, unless the optimizer is differentiable.
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer_class.step))
    return cast("type[T]", type(optimizer_class.__name__, (optimizer_class,), methods))


def set_lr(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set each learning rate to `factor` times the configured one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
