"""A 1 x 1 convolution in front of a 5 x 5 convolution saves nine tenths of the multiplications.

    python examples/bottleneck.py

Both ways lead from 192 maps of 28 x 28 to 32. The bottleneck reduces them to 16 first, as in the
Inception block 3a of GoogLeNet. Counted as `cnnbench summary` counts. The course notes print
12,433,648 for the second way; the sum of its two layers is 12,443,648.
"""

import torch
from torch import nn

from cnnbench.analysis.layers import Layer, measure_layers, sum_layers

WAYS = {
    "5 x 5 directly": [nn.Conv2d(192, 32, 5, padding=2, device="meta")],
    "1 x 1, then 5 x 5": [
        nn.Conv2d(192, 16, 1, device="meta"),
        nn.Conv2d(16, 32, 5, padding=2, device="meta"),
    ],
}


def count(layers: list[nn.Conv2d]) -> Layer:
    """Print the multiplications of each layer and return their sum."""
    measured = measure_layers(nn.Sequential(*layers), torch.empty(1, 192, 28, 28, device="meta"))
    for convolution, layer in zip(layers, measured, strict=True):
        maps, rows, columns = layer.output_shape or (0, 0, 0)
        channels, side = convolution.in_channels, convolution.kernel_size[0]
        terms = f"{maps} x {rows} x {columns} outputs x {channels} x {side} x {side}"
        print(f"    {terms:36} {layer.multiplications:13,}")
    return sum_layers(measured)


def main() -> None:
    totals = {}
    for name, layers in WAYS.items():
        print(name)
        totals[name] = count(layers)
        parameters = f"{totals[name].parameters:,} parameters"
        print(f"    {parameters:36} {totals[name].multiplications:13,} multiplications")
    direct, bottleneck = totals.values()
    print(f"{direct.multiplications / bottleneck.multiplications:.1f} times fewer multiplications")


if __name__ == "__main__":
    main()
