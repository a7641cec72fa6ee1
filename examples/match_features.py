"""Match features with an image of +1 and -1: the mean of the products of their pixels.

    python examples/match_features.py

A product is 1 where feature and image agree, -1 where they differ. The mean is 1 for a full match,
-1 for the opposite, and 0 if half of the pixels agree: nothing in common. Nine products cannot be
half and half, so the match of a feature of 3 x 3 with nothing in common is 1/9 or -1/9.
"""

import torch

from cnnbench.reference.convolution import cross_correlate_loops

CROSS = """
    .........
    .#.....#.
    ..#...#..
    ...#.#...
    ....#....
    ...#.#...
    ..#...#..
    .#.....#.
    .........
"""
FEATURES = {"falling": "#.. .#. ..#", "cross": "#.# .#. #.#", "rising": "..# .#. #.."}
FALLING = "#. .#"
IMAGES = {"a full match": "#. .#", "its opposite": ".# #.", "nothing in common": "#. #."}


def parse(drawing: str) -> torch.Tensor:
    """Return a drawing as a matrix: +1 for #, -1 for a dot."""
    rows = drawing.split()
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in row] for row in rows])


def match(image: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
    """Return how well the feature matches each window of the image: (H', W') from -1 to 1."""
    products = cross_correlate_loops(image[None, None], feature[None, None])[0, 0]
    return products / feature.numel()


def main() -> None:
    for name, image in IMAGES.items():
        result = match(parse(image), parse(FALLING)).item()
        print(f"{name:18} feature {FALLING}   image {image}   {result:4.1f}")
    print("\nan image", *CROSS.split(), sep="\n    ")
    for name, feature in FEATURES.items():
        print(f"\nfeature {name}", *feature.split(), sep="\n    ")
        print(f"match of {name} with each window")
        for row in match(parse(CROSS), parse(feature)).tolist():
            print("   ", *(f"{number:5.2f}" for number in row))


if __name__ == "__main__":
    main()
