"""Minimum pooling after ReLU: how many zeros it gives on real images.

    python examples/min_pooling.py

ReLU turns every negative number into 0. The minimum of a window is 0 if one of its numbers is, the
average and the maximum only if all are. The order does not matter: ReLU never swaps two numbers, so
the minimum of the ReLUs is the ReLU of the minimum. The sigmoid gives no zeros, and minimum pooling
loses nothing there: min sigmoid(x) = 1 - max sigmoid(-x), the maximum pooling of the negative map.
"""

import torch

from cnnbench.data import catalog, download
from cnnbench.reference.activations import Logistic, Rectifier
from cnnbench.reference.convolution import CrossCorrelation
from cnnbench.reference.initialization import he_normal_
from cnnbench.reference.pooling import MaxPool, MeanPool, MinPool

POOLINGS = {"none": (MaxPool, 1), "average": (MeanPool, 2), "maximum": (MaxPool, 2)}
POOLINGS |= {"minimum": (MinPool, 2)}


def compute_maps() -> torch.Tensor:
    """Return the maps of 20 random kernels for 100 images of the sample: (100, 20, 24, 24)."""
    _, arrays = download.load_public_dataset(catalog.get("sample"))
    images = torch.tensor(arrays.test_images[:100], dtype=torch.float32)[:, None] / 255
    torch.manual_seed(0)
    kernels = he_normal_(torch.empty(20, 1, 5, 5))
    maps: torch.Tensor = CrossCorrelation.apply(images, kernels, None, (1, 1), 1)
    return maps


def apply_pooling(maps: torch.Tensor, pooling: str) -> torch.Tensor:
    pool, side = POOLINGS[pooling]
    pooled: torch.Tensor = pool.apply(maps, (side, side), (side, side))
    return pooled


def main() -> dict[str, tuple[float, float]]:
    maps = compute_maps()
    shares = {}
    print("share of zeros   after ReLU   after sigmoid")
    for pooling in POOLINGS:
        zeros = [
            (apply_pooling(activation.apply(maps), pooling) == 0).float().mean().item()
            for activation in (Rectifier, Logistic)
        ]
        shares[pooling] = zeros[0], zeros[1]
        print(f"{pooling:14} {zeros[0]:12.1%} {zeros[1]:15.1%}")
    first = apply_pooling(Rectifier.apply(maps), "minimum")
    last = Rectifier.apply(apply_pooling(maps, "minimum"))
    print(f"ReLU then minimum is minimum then ReLU: {torch.equal(first, last)}")
    return shares


if __name__ == "__main__":
    main()
