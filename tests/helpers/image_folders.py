"""Small folders of images for the folder dataset."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

__all__ = ["draw_shapes", "fill", "make_picture", "put_images"]


def make_picture(number: int, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> Image.Image:
    """Return a picture that is different for each number."""
    shape = (size[1], size[0], 3)
    random = np.random.default_rng(number)
    pixels: npt.NDArray[np.uint8] = random.integers(0, 256, shape, np.uint8)
    return Image.fromarray(pixels).convert(mode)


def put_images(folder: Path, names: Sequence[str], mode: str = "RGB") -> None:
    """Save a picture for each name, such as cats/1.png. The picture depends on the name alone."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        form = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        make_picture(zlib.crc32(name.encode()), mode).save(path, form)


def fill(folder: Path, per_class: Mapping[str, int], mode: str = "RGB") -> Path:
    """Save the given number of PNG files for each class, and return the folder."""
    for name, number in per_class.items():
        put_images(folder, [f"{name}/{i:03d}.png" for i in range(number)], mode)
    return folder


def draw_shapes(folder: Path, number: int, seed: int, side: int = 32) -> None:
    """Draw `number` PNG files for each of disc, cross and stripes.

    Place, size and both colors are random and pixels are noisy, so that mean colors do not
    distinguish the classes.
    """
    random = np.random.default_rng(seed)
    for name in ("disc", "cross", "stripes"):
        (folder / name).mkdir(parents=True)
        for i in range(number):
            colors = random.integers(0, 256, (2, 3))
            colors[1] = (colors[0] + random.integers(80, 176, 3)) % 256
            background, color = (tuple(map(int, channels)) for channels in colors)
            image = Image.new("RGB", (side, side), background)
            pen = ImageDraw.Draw(image)
            x, y = random.integers(side // 3, side - side // 3, 2).tolist()
            reach = int(random.integers(side // 5, side // 3))
            if name == "disc":
                pen.ellipse((x - reach, y - reach, x + reach, y + reach), color)
            elif name == "cross":
                pen.line((x - reach, y, x + reach, y), color, side // 8)
                pen.line((x, y - reach, x, y + reach), color, side // 8)
            else:
                for height in range(y % 8, side, 8):
                    pen.line((0, height, side, height), color, side // 10)
            noisy = np.asarray(image) + random.normal(0, 20, (side, side, 3))
            path = folder / name / f"{i:03d}.png"
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
