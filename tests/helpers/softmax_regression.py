"""Softmax regression of 16 pixels, computed without PyTorch's loss and autograd."""

import torch
from torch import nn
from torch.nn import functional

from cnnbench.data.device_data import Examples
from cnnbench.training.engine import EagerEngine, Metrics

__all__ = ["compute_expected", "flatten_pixels", "measure_update"]


def flatten_pixels(examples: Examples) -> torch.Tensor:
    return examples.images.flatten(1).float() / 255


def compute_expected(
    network: nn.Sequential, examples: Examples
) -> tuple[Metrics, torch.Tensor, torch.Tensor]:
    """Return mean loss and accuracy, and the gradients of the weight and the bias."""
    inputs, labels, layer = flatten_pixels(examples).double(), examples.labels, network[1]
    logits = inputs @ layer.weight.detach().double().T + layer.bias.detach().double()
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    loss = -probabilities[torch.arange(len(labels)), labels].log().mean().item()
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    error = (probabilities - functional.one_hot(labels, 4)) / len(labels)
    return Metrics(loss, accuracy), (error.T @ inputs).float(), error.sum(dim=0).float()


def measure_update(
    engine: EagerEngine, examples: Examples, **arguments: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the changes of the weight and the bias in one step on all the examples."""
    weight, bias = engine.model.parameters()
    before = weight.detach().clone(), bias.detach().clone()
    engine.model.train()
    engine.train_step(examples.images, examples.labels, **arguments)
    return weight.detach() - before[0], bias.detach() - before[1]
