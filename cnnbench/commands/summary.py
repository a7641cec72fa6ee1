"""`cnnbench summary`: list the layers of a network, their cost and the memory of training."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.format import align, format_bytes, printable
from cnnbench.analysis.layers import (
    POOLINGS,
    Layer,
    measure_layers,
    sum_layers,
    vary_convolution,
)
from cnnbench.analysis.memory import TrainingMemory, compute_dtype, estimate_memory
from cnnbench.analysis.meta_shapes import ShapeRules, check_training_forward
from cnnbench.analysis.network_graph import trace_graph
from cnnbench.config import Config
from cnnbench.data import datasets
from cnnbench.data.catalog import Dataset
from cnnbench.errors import ConfigError, did_you_mean, explain_write_error
from cnnbench.reference.checking import record_input_shapes
from cnnbench.reports.diagram import draw_diagram
from cnnbench.training.build import on_meta

__all__ = ["run"]

COSTS = (
    *("parameters", "multiplications", "additions", "multiply_adds"),
    *("pooling_comparisons", "pooling_additions"),
)
MAX_ROWS = 60  # a longer table suggests --depth


def run(
    config: Config,
    depth: int | None = None,
    layer: str | None = None,
    as_json: bool = False,
    diagram: Path | None = None,
) -> None:
    """Print the layers, folded at `depth`, or with `layer` the arithmetic of one layer.

    The network is drawn into the file `diagram` before.

    Raises:
        ConfigError: the network cannot be built as configured, or has no such convolution or
            pooling layer, or the diagram cannot be written.
    """
    dataset = datasets.dataset_info(config.data)
    micro_batch = math.ceil(config.train.batch_size / config.train.accumulate)
    network, images = on_meta(config, dataset, micro_batch)
    if diagram is not None:
        title = f"{config.model.name} on {dataset.title}"
        try:
            draw_diagram(diagram, trace_graph(network, images[:1]), title)
        except OSError as error:
            advice = "Name another place: --diagram FILE."
            raise explain_write_error(diagram, error, advice) from error
    if layer is not None:
        _print_layer(network, images[:1], layer, as_json)
    else:
        _print_network(config, dataset, network, images, depth, as_json)
    if diagram is not None and not as_json:
        print(printable(f"\n{diagram}"))


def _print_network(
    config: Config,
    dataset: Dataset,
    network: nn.Module,
    images: torch.Tensor,
    depth: int | None,
    as_json: bool,
) -> None:
    """Print the layers, their arithmetic and the memory of training."""
    layers = measure_layers(network, images[:1], depth)
    dtype = compute_dtype(config.device.precision)
    check_training_forward(config.model.name, network, images)
    memory = estimate_memory(network, images, config.optimizer, dtype)
    dtype_name = str(dtype).removeprefix("torch.")
    if as_json:
        _print_json(config, layers, memory, dtype_name)
        return
    size = _format_shape(images.shape[1:])
    print(f"{config.model.name} on {dataset.title}, {size}, {len(dataset.classes)} classes")
    if config.model.name in models.REGISTRY:
        print(models.REGISTRY[config.model.name].source)
    print()
    _print_layers(layers, foldable=depth is None)
    split = f" in micro-batches of {len(images)}" if config.train.accumulate > 1 else ""
    sizes = asdict(memory).items()
    parts = ", ".join(f"{name.replace('_', ' ')} {format_bytes(number)}" for name, number in sizes)
    print(
        f"training at batch {config.train.batch_size}{split} with {config.optimizer.name}, "
        f"{dtype_name}: "
        f"about {format_bytes(memory.total)}\n({parts})"
    )


def _print_layers(layers: list[Layer], foldable: bool) -> None:
    whole = sum_layers(layers)
    rows = [("layer", "kind", "output", "parameters", "", "multiply-adds", "", "pooling")]
    for layer in layers:
        output = "(not called in evaluation)"
        if layer.output_shape is not None:
            output = _format_shape(layer.output_shape)
        parameters = _format_share(layer.parameters, whole.parameters)
        multiply_adds = _format_share(layer.multiplications, whole.multiplications)
        name, pooling = layer.name or "(network)", f"{layer.pooling:,}" if layer.pooling else ""
        rows.append((name, layer.kind, output, *parameters, *multiply_adds, pooling))
    totals = (f"{whole.parameters:,}", "", f"{whole.multiplications:,}", "", "")
    rows.append(("total", "", "", *totals))
    columns = 8 if whole.pooling else 7
    print(align([row[:columns] for row in rows], right=range(3, columns)))
    if foldable and len(rows) > MAX_ROWS:
        print("(shorter: --depth 2)")
    arithmetic = f"{whole.multiplications:,} multiplications, {whole.additions:,} additions"
    print(f"\nconvolutions and linear layers, one image: {arithmetic}")
    if whole.pooling:
        print(f"pooling layers, one image: {_describe_pooling(whole)}")


def _describe_pooling(layer: Layer) -> str:
    counts = {"comparisons": layer.pooling_comparisons, "additions": layer.pooling_additions}
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)


def _format_share(number: int, whole: int) -> tuple[str, str]:
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
                **_to_dict(layer),
                "parameters_share": layer.parameters / max(1, whole.parameters),
                "multiply_adds_share": layer.multiplications / max(1, whole.multiplications),
            }
            for layer in layers
        ],
        "total": {key: _to_dict(whole)[key] for key in COSTS},
        "training_memory": {
            "batch_size": config.train.batch_size,
            "optimizer": config.optimizer.name,
            "dtype": dtype_name,
            **{f"{name}_bytes": number for name, number in asdict(memory).items()},
            "total_bytes": memory.total,
        },
    }
    print(json.dumps(report, indent=2))


def _to_dict(layer: Layer) -> dict[str, Any]:
    return {**asdict(layer), "multiply_adds": layer.multiplications}


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _print_layer(network: nn.Module, image: torch.Tensor, name: str, as_json: bool) -> None:
    """Print the arithmetic of a convolution and of variants of it, or that of a pooling layer."""
    with ShapeRules():
        shapes = record_input_shapes(network, image)
    layers = {seen: network.get_submodule(seen) for seen in shapes}
    kinds = (nn.Conv2d, *POOLINGS)
    choices = [seen for seen, layer in layers.items() if isinstance(layer, kinds)]
    if name not in choices:
        advice = did_you_mean(name, choices) if choices else "It has none."
        problem = "is not a Conv2d or a pooling layer that the network calls"
        raise ConfigError(f"--layer {name} {problem}. {advice}")
    layer, size = layers[name], shapes[name][1:]
    if isinstance(layer, nn.Conv2d):
        outcomes = vary_convolution(layer, size[1:])
    else:
        outcomes = {"as it is": measure_layers(layer, torch.empty(1, *size, device="meta"))[0]}
    if as_json:
        report = {change: _to_dict(outcome) for change, outcome in outcomes.items()}
        print(json.dumps(report, indent=2))
        return
    print(f"{name}: {layer}\non maps of {_format_shape(size)}\n")
    if isinstance(layer, nn.Conv2d):
        _print_convolution(layer, outcomes)
    else:
        _print_pooling(layer, outcomes["as it is"], size)


def _print_pooling(layer: nn.Module, counted: Layer, size: Sequence[int]) -> None:
    """Print the formula of a pooling layer of maps of `size` (C, H, W)."""
    shape = counted.output_shape or ()
    kernel = getattr(layer, "kernel_size", None)
    if isinstance(kernel, int):
        kernel = (kernel, kernel)
    if kernel is None and all(side % count == 0 for side, count in zip(size, shape, strict=True)):
        kernel = [side // count for side, count in zip(size[1:], shape[1:], strict=True)]
    if kernel is None:
        print(f"{_describe_pooling(counted)}, in windows of different sizes")
        return
    noun = "comparisons" if counted.pooling_comparisons else "additions"
    formula = f"{_format_shape(shape)} x ({_format_shape(kernel)} - 1)"
    print(f"{noun:15}  {formula} = {counted.pooling:,}")


def _print_convolution(layer: nn.Conv2d, outcomes: Mapping[str, Layer]) -> None:
    """Print the formula of a convolution and a table of its variants."""
    now = outcomes["as it is"]
    terms = _format_shape((layer.in_channels // layer.groups, *layer.kernel_size))
    numbers = _format_shape(now.output_shape or ())
    fewer = "" if layer.bias is not None else " - 1"
    print(f"multiplications  {numbers} x ({terms}) = {now.multiplications:,}")
    print(f"additions        {numbers} x ({terms}{fewer}) = {now.additions:,}")
    print(f"                 sums of {terms} products" + ("" if fewer else ", and the bias") + "\n")
    rows = [("", "output", "parameters", "multiplications", "", "additions", "")]
    for change, outcome in outcomes.items():
        additions_ratio = f"x {outcome.additions / now.additions:.2f}" if now.additions else ""
        rows.append(
            (
                change,
                _format_shape(outcome.output_shape or ()),
                f"{outcome.parameters:,}",
                f"{outcome.multiplications:,}",
                f"x {outcome.multiplications / now.multiplications:.2f}",
                f"{outcome.additions:,}",
                additions_ratio,
            )
        )
    print(align(rows, right=range(2, 7)))
