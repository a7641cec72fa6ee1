"""Images to be classified: image files, folders of them and IDX files, one by one, whatever is wrong with some."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnbench.data.images import read_image
from cnnbench.data.scan_folder import FolderScan, is_image
from cnnbench.errors import DataError

__all__ = ["Given", "looks_inverted", "read_all"]

IDX, GZIP = b"\x00\x00\x08", b"\x1f\x8b"  # how files of unsigned bytes begin, and compressed ones

Pixels = npt.NDArray[np.uint8]

DARK, LIGHT = 1 / 3, 2 / 3  # means of training pixels in [0, 1] below and above which a data set has a background

MAX_PIXELS = 1 << 26  # of an image in an IDX file, whose header may claim anything


@dataclass(frozen=True)
class Given:
    """An image by its name, as uint8 (C, S, S), or why there is none."""

    name: str
    pixels: Pixels | None
    error: str = ""


def read_all(paths: Sequence[Path], in_channels: int, size: int) -> Iterator[Given]:
    """The images of all paths in their order, each read when it is asked for, as uint8 (in_channels, size, size).

    A path is an image file, a folder, whose images and folders are taken in the order of their
    names without those that are hidden or a system's, or an IDX file of images, plain or gzipped:
    image 17 of it is named ``file[17]``.
    """
    for path in paths:
        try:
            if path.is_dir():
                yield from _read_folder(path, in_channels, size)
            elif _is_idx(path):
                yield from _read_idx(path, in_channels, size)
            else:
                yield _read_file(path, in_channels, size)
        except DataError as error:
            yield Given(str(path), None, str(error))
        except OSError as error:
            yield Given(str(path), None, f"{path} cannot be read: {error.strerror}.")


def _read_folder(folder: Path, in_channels: int, size: int) -> Iterator[Given]:
    scan = FolderScan(folder)
    for entry in scan.files(folder):
        if is_image(entry.name):
            yield _read_file(Path(entry), in_channels, size)
    for problem in scan.problems:
        yield Given(str(folder), None, problem)
    if not scan.num_images and not scan.problems:
        raise DataError(f"{folder} holds no image files. Name an IDX file itself.")


def _read_file(path: Path, in_channels: int, size: int) -> Given:
    try:
        if not path.is_file():
            raise DataError(f"{path} is not there." if not path.exists() else f"{path} is neither a file nor a folder.")
        _require_colours(path, in_channels)
        return Given(str(path), read_image(path, in_channels, size))
    except DataError as error:
        return Given(str(path), None, str(error))


def _require_colours(path: Path, in_channels: int) -> None:
    if in_channels not in (1, 3):
        raise DataError(f"{path} has one channel or three, and the network takes {in_channels}.")


def _is_idx(path: Path) -> bool:
    """Whether the file begins as an IDX file of bytes or a gzip file does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(3)
    return start == IDX or start[:2] == GZIP


def _read_idx(path: Path, in_channels: int, size: int) -> Iterator[Given]:
    """The images (N, H, W) or (N, C, H, W) of an IDX file, whose format is said at `idx.parse_idx`.

    Raises:
        DataError: it is none, or ends too early, after all that could be read.
    """
    with path.open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == GZIP else file
        start = _read(path, stream, 4)
        if start[:3] != IDX:
            raise DataError(f"{path} is not an IDX file of unsigned bytes: it does not begin with 00 00 08.")
        if start[3] not in (3, 4):
            raise DataError(
                f"{path} is an IDX file of {start[3]} dimensions. Images have 3, N x H x W, or 4, N x C x H x W."
            )
        count, *shape = struct.unpack(f">{start[3]}I", _read(path, stream, 4 * start[3]))
        channels, height, width = (1, *shape)[-3:]
        if channels not in (1, 3, in_channels) or not 0 < channels * height * width <= MAX_PIXELS:
            raise DataError(
                f"{path} holds images of {' x '.join(map(str, shape))}, which cannot be shown to a network."
            )
        for index in range(count):
            content = _read(path, stream, math.prod(shape), f" It ends in image {index:,} of {count:,}.")
            pixels = np.frombuffer(content, np.uint8).reshape(channels, height, width)
            yield Given(f"{path}[{index}]", _fit(path, pixels, in_channels, size))
        if _read_at_most(path, stream, 1):  # which also checks what was compressed
            raise DataError(f"{path} is longer than it says: {count:,} images.")


def _read(path: Path, stream: BufferedIOBase, count: int, where: str = "") -> bytes:
    content = _read_at_most(path, stream, count)
    if len(content) < count:
        raise DataError(f"{path} is shorter than it says.{where}")
    return content


def _read_at_most(path: Path, stream: BufferedIOBase, count: int) -> bytes:
    try:
        return stream.read(count)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}.") from error


def _fit(path: Path, pixels: Pixels, in_channels: int, size: int) -> Pixels:
    """Pixels (C, H, W) as `read_image` gives those of a file."""
    if pixels.shape == (in_channels, size, size):
        return pixels
    _require_colours(path, in_channels)
    from PIL import Image  # as in `read_image`

    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image = image.convert("L" if in_channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    fitted: Pixels = np.asarray(image).reshape(size, size, in_channels).transpose(2, 0, 1)
    return fitted


def looks_inverted(images: Pixels, mean: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which of uint8 images (N, C, S, S) have a light border where the training images are dark, or the reverse.

    `mean` of the training pixels in [0, 1], one for each channel. Below a third, as in MNIST, their background is taken
    to be dark, above two thirds light. Then an image looks inverted if the mean of its outermost pixels is on the other
    side of 1/2. Between those, and in colour, where backgrounds are of all kinds, none does.

    Of the 70,000 images of Fashion-MNIST none looks inverted, and all do that are (benchmarks/NOTES.md).
    """
    if len(mean) > 1 or DARK <= mean[0] <= LIGHT:
        return np.zeros(len(images), np.bool_)
    border = np.ones(images.shape[-2:], np.bool_)
    border[1:-1, 1:-1] = False
    brightness = images[:, 0, border].mean(axis=1)
    inverted: npt.NDArray[np.bool_] = brightness > 127.5 if mean[0] < DARK else brightness < 127.5
    return inverted
