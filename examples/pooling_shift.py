"""Pooling tolerates small shifts: how much features change when the image is shifted.

    python examples/pooling_shift.py

Shifts test images to the right. The features are vertical edges, after ReLU and pooling. Their
change is the length of the difference divided by the length before: 1.41 if nothing is in common.
Pooling helps if the shift is small beside its window; no change becomes 0. Draws pooling_shift.png.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from cnnbench.data import catalog, download
from cnnbench.reference.convolution import CrossCorrelation
from cnnbench.reference.padding import pad
from cnnbench.reference.pooling import MaxPool, MeanPool

PICTURE = Path("pooling_shift.png")
POOLINGS = {
    "none": (MaxPool, 1),
    "average 2 x 2": (MeanPool, 2),
    "maximum 2 x 2": (MaxPool, 2),
    "average 4 x 4": (MeanPool, 4),
    "maximum 4 x 4": (MaxPool, 4),
}
KERNEL = torch.tensor([[1.0, 0.0, -1.0]]).repeat(3, 1)


def extract(images: torch.Tensor, shift: int, pooling: str) -> torch.Tensor:
    """Return the features of images (N, 1, 28, 28): (N, 1, S, S), with S = 40 without pooling."""
    shifted = pad(images, (7 + shift, 7 - shift, 7, 7))  # (N, 1, 42, 42)
    edges = CrossCorrelation.apply(shifted, KERNEL[None, None], None, (1, 1), 1)
    pool, side = POOLINGS[pooling]
    return pool.apply(edges.clamp(min=0), (side, side), (side, side))


def main() -> None:
    _, arrays = download.load_public_dataset(catalog.get("sample"))
    images = torch.tensor(arrays.test_images[:100], dtype=torch.float32)[:, None] / 255
    figure = Figure(figsize=(6.5, 8.5), layout="constrained")
    figure.suptitle("vertical edges of one image; mean change of 100 images")
    print(f"{'change':13}", *(f"{shift} px" for shift in range(4)), sep="   ")
    for pooling, row in zip(POOLINGS, figure.subplots(len(POOLINGS), 4), strict=True):
        before, changes = extract(images, 0, pooling), []
        for shift, axes in zip(range(4), row, strict=True):
            after = extract(images, shift, pooling)
            lengths = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
            changes.append(f"{lengths.mean():.2f}")
            axes.imshow(after[1, 0].numpy(), cmap="gray_r")
            axes.set(xticks=[], yticks=[], title=f"{shift} px: {changes[-1]}")
        row[0].set_ylabel(pooling)
        print(f"{pooling:13}", *changes, sep="   ")
    figure.savefig(PICTURE, dpi=100)
    print(f"Written: {PICTURE}")


if __name__ == "__main__":
    main()
