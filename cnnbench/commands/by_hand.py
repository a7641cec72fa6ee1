"""Where a configuration asks for the reference, what is taken from there in place of torch's."""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer

from cnnbench.config import AdagradConfig, AdamConfig, Config, DeviceConfig, OptimizerConfig, SgdConfig, TrainConfig
from cnnbench.training.losses import Losses, make_losses
from cnnbench.training.optimizers import make_optimizer

__all__ = ["device_config", "losses_of", "optimizer_by_hand"]


def device_config(config: Config) -> DeviceConfig:
    """Where `auto` would suit the library's layers alone, what suits those of the reference."""
    device = config.device
    if config.train.layers == "reference" and device.precision == "auto":
        device = replace(device, precision="fp32")
    if config.train.layers == "reference" and device.channels_last == "auto":
        device = replace(device, channels_last=False)
    return device


def losses_of(config: TrainConfig) -> Losses:
    """The losses of a configuration, by torch or by hand."""
    if config.loss_implementation == "torch":
        return make_losses(config)
    from cnnbench.reference import losses, penalties

    def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return losses.cross_entropy(logits, targets, config.label_smoothing)

    loss = {"cross_entropy": cross_entropy, "nll": losses.nll, "mse": losses.mse}[config.loss]
    return Losses(loss, penalties.l1_penalty)


def optimizer_by_hand(config: OptimizerConfig, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
    """As `make_optimizer`, from the reference if the configuration says so."""
    if config.implementation == "torch":
        return make_optimizer(config, parameters, device)
    from cnnbench.reference.optimizers import SGD, AdaGrad, Adam, Momentum

    lr, weight_decay = config.lr, config.weight_decay
    match config:
        case SgdConfig(momentum=0.0):
            return SGD(parameters, lr=lr, weight_decay=weight_decay)
        case SgdConfig():
            return Momentum(parameters, lr=lr, momentum=config.momentum, weight_decay=weight_decay)
        case AdagradConfig():
            return AdaGrad(parameters, lr=lr, eps=config.eps, weight_decay=weight_decay)
        case AdamConfig():
            betas = cast("tuple[float, float]", tuple(config.betas))
            return Adam(parameters, lr=lr, betas=betas, eps=config.eps, weight_decay=weight_decay)
    raise AssertionError(config.name)  # the configuration was checked
