"""Padding at the border of an image: a real image in five modes, smoothed and searched for edges.

    python examples/padding_modes.py

Writes padding_modes.png. A kernel of 5 x 5 needs two more pixels on each side to give an image of
the same size. If these are zeros, the image becomes dark at its border, and a kernel that looks for
edges finds a frame that is not in the image.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnbench.data import catalog, download
from cnnbench.reference.convolution import cross_correlate_loops
from cnnbench.reference.padding import pad

PICTURE = Path("padding_modes.png")
PADDING = 8
PULLOVER = 337  # index of the test image in the sample
MODES = {
    "zeros": ("constant", 0.0),
    "constant 0.5": ("constant", 0.5),
    "reflect": ("reflect", 0.0),
    "replicate": ("replicate", 0.0),
    "circular": ("circular", 0.0),
}
SMOOTHING = torch.full((5, 5), 1 / 25)
# The difference of a pixel and the eight around it.
EDGES = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]])


def load_image() -> torch.Tensor:
    """Return the middle of a pullover, which reaches every border: (1, 1, 20, 20) in [0, 1]."""
    _, arrays = download.load_public_dataset(catalog.get("sample"))
    pixels = arrays.test_images[PULLOVER, 5:25, 4:24]
    return torch.from_numpy(pixels / 255).float()[None, None]


def correlate_padded(
    pixels: torch.Tensor, kernel: torch.Tensor, mode: str, value: float
) -> torch.Tensor:
    """Return the cross-correlation of pixels (1, 1, H, W) with padding, in the same shape."""
    side = len(kernel) // 2
    padded = pad(pixels, (side, side, side, side), mode, value)
    return cross_correlate_loops(padded, kernel[None, None])


def border_mean(pixels: torch.Tensor) -> float:
    """Return the mean of the outermost pixels."""
    inside = torch.zeros_like(pixels, dtype=torch.bool)
    inside[..., 1:-1, 1:-1] = True
    return pixels[~inside].mean().item()


def draw(pixels: torch.Tensor) -> Figure:
    """Draw a column for each mode: the image padded, smoothed, and its edges."""
    figure = Figure(figsize=(12, 7.6), layout="constrained")
    axes = figure.subplots(3, len(MODES))
    for (name, (mode, value)), column in zip(MODES.items(), axes.T, strict=True):
        padded = pad(pixels, (PADDING, PADDING, PADDING, PADDING), mode, value)
        smoothed = correlate_padded(pixels, SMOOTHING, mode, value)
        edges = correlate_padded(pixels, EDGES, mode, value).abs()
        for axis, picture, white in zip(column, (padded, smoothed, edges), (1, 1, 3), strict=True):
            axis.imshow(picture[0, 0].numpy(), cmap="gray", vmin=0, vmax=white)
            axis.set(xticks=[], yticks=[])
        column[0].set_title(name, fontsize=16)
        column[0].add_patch(make_frame(*pixels.shape[2:]))
        column[1].set_xlabel(f"border {border_mean(smoothed):.2f}", fontsize=14)
        column[2].set_xlabel(f"border {border_mean(edges):.2f}", fontsize=14)
    labels = (f"padded by {PADDING} pixels", "smoothed, 5 x 5", "edges, 3 x 3")
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=16)
    return figure


def make_frame(height: int, width: int) -> Rectangle:
    """Return a frame around the image without its padding."""
    corner = (PADDING - 0.5, PADDING - 0.5)
    return Rectangle(corner, width, height, fill=False, edgecolor="#d55e00", linewidth=2)


def main() -> None:
    pixels = load_image()
    print(f"mean of the outermost pixels of the image: {border_mean(pixels):.2f}")
    print(f"{'padding':12}  smoothed  edges")
    for name, (mode, value) in MODES.items():
        smoothed = correlate_padded(pixels, SMOOTHING, mode, value)
        edges = correlate_padded(pixels, EDGES, mode, value).abs()
        print(f"{name:12}  {border_mean(smoothed):8.2f}  {border_mean(edges):5.2f}")
    draw(pixels).savefig(PICTURE, dpi=120)
    print(f"Written: {PICTURE}")


if __name__ == "__main__":
    main()
