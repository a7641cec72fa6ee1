"""Small folders of images, as users have them."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["fill", "picture", "put_images"]


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> Image.Image:
    """A picture that no other number has."""
    pixels: npt.NDArray[np.uint8] = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def put_images(folder: Path, names: Sequence[str], mode: str = "RGB") -> None:
    """A picture for each name, such as cats/1.png; the name says which."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(zlib.crc32(name.encode()), mode).save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG")


def fill(folder: Path, per_class: Mapping[str, int], mode: str = "RGB") -> Path:
    """So many PNG files for each class; returns the folder."""
    put_images(folder, [f"{name}/{i:03d}.png" for name, number in per_class.items() for i in range(number)], mode)
    return folder
