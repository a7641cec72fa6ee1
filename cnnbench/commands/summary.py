"""`cnnbench summary`: the layers of a network, what they cost, and the memory that training it takes."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.format import align, format_bytes
from cnnbench.analysis.layers import Layer, measure_layers, sum_layers, vary_convolution
from cnnbench.analysis.memory import TrainingMemory, compute_dtype, estimate_memory
from cnnbench.analysis.meta_shapes import ShapeRules, check_training_forward
from cnnbench.config import Config
from cnnbench.data import datasets
from cnnbench.errors import ConfigError, did_you_mean
from cnnbench.reference.checking import record_input_shapes
from cnnbench.training.build import on_meta

__all__ = ["run"]

COSTS = ("parameters", "multiplications", "additions", "multiply_adds")
LONG = 60  # rows from which on folding is offered


def run(
    config: Config, depth: int | None = None, layer: str | None = None, as_json: bool = False
) -> None:
    """Print the table of layers, folded at `depth`; with `layer`, the arithmetic of that convolution.

    Raises:
        ConfigError: the network cannot be built as configured, or has no such convolution.
    """
    dataset = datasets.dataset_info(config.data)
    network, images = on_meta(config, dataset, config.train.batch_size)
    if layer is not None:
        _print_convolution(network, images[:1], layer, as_json)
        return
    layers = measure_layers(network, images[:1], depth)
    dtype = compute_dtype(config.device.precision)
    check_training_forward(config.model.name, network, images)
    memory = estimate_memory(network, images, config.optimizer, dtype)
    dtype_name = str(dtype).removeprefix("torch.")
    if as_json:
        _print_json(config, layers, memory, dtype_name)
        return
    size = _by(images.shape[1:])
    print(f"{config.model.name} on {dataset.title}, {size}, {len(dataset.classes)} classes")
    if config.model.name in models.REGISTRY:
        print(models.REGISTRY[config.model.name].source)
    print()
    _print_layers(layers, foldable=depth is None)
    sizes = asdict(memory).items()
    parts = ", ".join(f"{name.replace('_', ' ')} {format_bytes(number)}" for name, number in sizes)
    print(
        f"training at batch {config.train.batch_size} with {config.optimizer.name}, {dtype_name}: "
        f"about {format_bytes(memory.total)}\n({parts})"
    )


def _print_layers(layers: list[Layer], foldable: bool) -> None:
    whole = sum_layers(layers)
    rows = [("layer", "kind", "output", "parameters", "", "multiply-adds", "")]
    rows += [
        (
            layer.name or "(network)",
            layer.kind,
            "(not called in evaluation)" if layer.output_shape is None else _by(layer.output_shape),
            *_with_share(layer.parameters, whole.parameters),
            *_with_share(layer.multiplications, whole.multiplications),
        )
        for layer in layers
    ]
    rows.append(("total", "", "", f"{whole.parameters:,}", "", f"{whole.multiplications:,}", ""))
    print(align(rows, right=range(3, 7)))
    if foldable and len(rows) > LONG:
        print("(shorter: --depth 2)")
    arithmetic = f"{whole.multiplications:,} multiplications, {whole.additions:,} additions"
    print(f"\nconvolutions and linear layers, one image: {arithmetic}")


def _with_share(number: int, whole: int) -> tuple[str, str]:
    return (f"{number:,}", f"{100 * number / whole:.1f} %") if number else ("", "")


def _print_json(
    config: Config, layers: list[Layer], memory: TrainingMemory, dtype_name: str
) -> None:
    whole = sum_layers(layers)
    report = {
        "model": config.model.name,
        "data": config.data.name,
        "image_size": config.data.resize,
        "layers": [
            {
                **_plain(layer),
                "parameters_share": layer.parameters / max(1, whole.parameters),
                "multiply_adds_share": layer.multiplications / max(1, whole.multiplications),
            }
            for layer in layers
        ],
        "total": {key: _plain(whole)[key] for key in COSTS},
        "training_memory": {
            "batch_size": config.train.batch_size,
            "optimizer": config.optimizer.name,
            "dtype": dtype_name,
            **{f"{name}_bytes": number for name, number in asdict(memory).items()},
            "total_bytes": memory.total,
        },
    }
    print(json.dumps(report, indent=2))


def _plain(layer: Layer) -> dict[str, Any]:
    return {**asdict(layer), "multiply_adds": layer.multiplications}


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _print_convolution(network: nn.Module, image: torch.Tensor, name: str, as_json: bool) -> None:
    """Print the arithmetic of one convolution by its formula, and what changing it changes."""
    with ShapeRules():
        shapes = record_input_shapes(network, image)
    layers = {seen: network.get_submodule(seen) for seen in shapes}
    convolutions = {seen: layer for seen, layer in layers.items() if isinstance(layer, nn.Conv2d)}
    if name not in convolutions:
        choices = did_you_mean(name, convolutions) if convolutions else "It has none."
        raise ConfigError(f"--layer {name} is not a Conv2d that the network calls. {choices}")
    layer, size = convolutions[name], shapes[name][1:]
    outcomes = vary_convolution(layer, size[1:])
    if as_json:
        report = {change: _plain(outcome) for change, outcome in outcomes.items()}
        print(json.dumps(report, indent=2))
        return
    now = outcomes["as it is"]
    terms = _by((layer.in_channels // layer.groups, *layer.kernel_size))
    numbers = _by(now.output_shape or ())
    fewer = "" if layer.bias is not None else " - 1"
    print(f"{name}: {layer}\non maps of {_by(size)}\n")
    print(f"multiplications  {numbers} x ({terms}) = {now.multiplications:,}")
    print(f"additions        {numbers} x ({terms}{fewer}) = {now.additions:,}")
    print(f"                 sums of {terms} products" + ("" if fewer else ", and the bias") + "\n")
    rows = [("", "output", "parameters", "multiplications", "", "additions", "")]
    rows += [
        (
            change,
            _by(outcome.output_shape or ()),
            f"{outcome.parameters:,}",
            f"{outcome.multiplications:,}",
            f"x {outcome.multiplications / now.multiplications:.2f}",
            f"{outcome.additions:,}",
            f"x {outcome.additions / now.additions:.2f}" if now.additions else "",
        )
        for change, outcome in outcomes.items()
    ]
    print(align(rows, right=range(2, 7)))
