"""Locality and translation invariance: if an image is shifted, its feature map shifts along.

    python examples/translation.py

A convolution computes the same sum of a small window at every place. So the map of a shifted image
is the shifted map (equivariance). One pixel changes only the features whose windows contain it
(locality). The largest feature stays the same (invariance). A fully connected layer has none of
this. All numbers are integers, so sums have no rounding errors and equal means equal to the bit.
"""

import torch

from cnnbench.data import catalog, download
from cnnbench.reference.convolution import cross_correlate_loops
from cnnbench.reference.linear import Affine
from cnnbench.reference.padding import pad

DOWN, RIGHT = 2, 3  # pixels
MARGIN = 8  # black pixels around the image, so that nothing reaches the border
KERNEL = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]])
WEIGHTS = torch.randint(1, 10, (10, 44 * 44), generator=torch.Generator().manual_seed(0)).float()


def compute_map(image: torch.Tensor) -> torch.Tensor:
    """Return the feature map (42, 42) of an image (44, 44)."""
    return cross_correlate_loops(image[None, None], KERNEL[None, None])[0, 0]


def compute_outputs(image: torch.Tensor) -> torch.Tensor:
    """Return the outputs (10) of a fully connected layer for an image (44, 44)."""
    outputs: torch.Tensor = Affine.apply(image.reshape(1, -1), WEIGHTS, None)
    return outputs[0]


def shift(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.roll((DOWN, RIGHT), dims=(0, 1))


def main() -> None:
    _, arrays = download.load_public_dataset(catalog.get("sample"))
    pixels = torch.tensor(arrays.test_images[:1], dtype=torch.float32)[None]
    image = pad(pixels, (MARGIN, MARGIN, MARGIN, MARGIN))[0, 0]
    changed = image.clone()
    changed[20, 20] += 1
    features, shifted = compute_map(image), compute_map(shift(image))
    for name, matrix in (("before", features), ("after", shifted)):
        row, column = divmod(int(matrix.argmax()), matrix.shape[1])
        print(f"{name:6} the shift: largest feature {matrix.max():g} in row {row}, column {column}")

    outputs = compute_outputs(image)
    print(f"of {features.numel()} features and of 10 outputs of a fully connected layer")
    moved = (shifted != shift(features)).sum(), (compute_outputs(shift(image)) != outputs).sum()
    print("    are not those of the image, shifted: {:4} {:4}".format(*moved))
    local = (compute_map(changed) != features).sum(), (compute_outputs(changed) != outputs).sum()
    print("    are changed by one pixel:            {:4} {:4}".format(*local))


if __name__ == "__main__":
    main()
