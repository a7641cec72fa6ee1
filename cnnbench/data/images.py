"""Decode image files, as training data and as inputs of `predict`."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cnnbench.data.idx import is_idx, read_idx
from cnnbench.data.scan_folder import (
    FORMAT_OF_SUFFIX,
    FORMATS,
    FolderScan,
    ImageFile,
    escape_name,
    is_image,
)
from cnnbench.errors import DataError, format_count

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["InputImage", "are_gray", "looks_inverted", "read_image", "read_images", "read_inputs"]

ALLOWED_FORMATS = tuple(dict.fromkeys(FORMAT_OF_SUFFIX.values()))
GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")
COLOR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# First bytes of other files that often have the suffix of an image, and what to do with them.
OTHER_FILES = (
    (rb"\s*<(!doctype html|html|head)", "is a web page: it was not downloaded as an image"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*-->\s*)?<svg", "is an SVG drawing: convert it to PNG"),
    (rb"version https://git-lfs", "is a pointer of Git LFS: fetch the image with git lfs pull"),
    (rb".{4}ftyp(hei|hev|mif|msf)", "is a HEIC image: convert it to JPEG or PNG"),
    (rb".{4}ftypavi", "is an AVIF image: convert it to JPEG or PNG"),
    (rb"\xff\x0a|.{4}JXL ", "is a JPEG XL image: convert it to JPEG or PNG"),
    (rb".{4}jP  ", "is a JPEG 2000 image: convert it to JPEG or PNG"),
    (rb"8BPS", "is a Photoshop drawing: convert it to PNG"),
    (rb"%PDF", "is a PDF document: convert it to PNG"),
    (rb"PK\x03\x04", "is a ZIP archive: unpack it"),
    (rb"\Z", "is empty"),
)
CHUNK = 64  # files that a thread reads at a time
BAR_DELAY_S = 1
MAX_DARK, MIN_LIGHT = 1 / 3, 2 / 3  # means of training images with dark and light backgrounds

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class InputImage:
    """An image with its name: pixels uint8 (C, S, S), or None and the error."""

    name: str
    pixels: Pixels | None
    error: str = ""


def read_image(path: Path, in_channels: int, size: int) -> Pixels:
    """Read an image file as uint8 (in_channels, size, size): gray for one channel, else RGB.

    If a file has several images, the first is read. The image is rotated by its EXIF orientation.
    Transparent pixels become white. Color is converted to gray by luma (ITU-R 601-2). Both sides
    are resized to `size`, bilinear with antialiasing, so the aspect ratio may change.

    Raises:
        DataError: the file cannot be read, is not an image, is damaged or is absurdly large.
    """
    with _handle_pillow_warnings():
        pixels, _ = _read(path, in_channels, size)
    return pixels


def read_images(
    files: Sequence[ImageFile], in_channels: int, size: int, title: str
) -> tuple[Pixels, dict[str, str], list[str]]:
    """Read files like `read_image`, in several threads; show a progress bar with the title.

    Returns the pixels uint8 (N, in_channels, size, size), problems by path, and notes.
    """
    from PIL import Image

    Image.init()  # loads Pillow's plugins, which is not thread-safe
    pixels = np.empty((len(files), in_channels, size, size), np.uint8)
    problems: dict[str, str] = {}
    misnamed: list[str] = []

    def read(index: int) -> str | DataError:
        try:
            pixels[index], file_format = _read(files[index].path, in_channels, size)
        except DataError as error:
            return error
        return file_format

    total = len(files)
    with _handle_pillow_warnings(), ThreadPool() as pool:  # threads, as Pillow releases the GIL
        results = pool.imap(read, range(total), CHUNK)
        no_bar = "TQDM_DISABLE" in os.environ or None  # None: disabled without a terminal
        bar = tqdm(results, title, total, False, unit=" images", disable=no_bar, delay=BAR_DELAY_S)
        for file, result in zip(files, bar, strict=True):
            if isinstance(result, DataError):
                problems[file.path] = str(result)
            elif result != FORMAT_OF_SUFFIX[Path(file.path).suffix.lower()]:
                misnamed.append(f"{escape_name(file.path)}, which is {result}")
    if not misnamed:
        return pixels, problems, []
    count = format_count(len(misnamed), "image")
    return pixels, problems, [f"Named for another format: {count}, such as {misnamed[0]}."]


@lru_cache(maxsize=1)  # called when a configuration is checked and when the images are read
def find_unreadable(files: tuple[ImageFile, ...], title: str) -> Mapping[str, str]:
    """Return the problems of the files that `read_images` cannot read, by path."""
    _, problems, _ = read_images(files, 1, 1, title)
    return problems


@lru_cache(maxsize=1)
def are_gray(files: tuple[ImageFile, ...]) -> bool:
    """Return whether all files are gray by their headers; ignore files that cannot be read."""
    from PIL import Image

    def is_colored(file: ImageFile) -> bool:
        try:
            with Image.open(file.path, formats=ALLOWED_FORMATS) as image:
                if image.mode != "P":
                    return image.mode not in GRAY_MODES
                colors = np.reshape(image.getpalette() or [], (-1, 3))
                return bool((colors != colors[:, :1]).any())
        except Exception:  # reported later, when the pixels are read
            return False

    with _handle_pillow_warnings():
        return not any(map(is_colored, files))


@contextmanager
def _handle_pillow_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings, but treat decompression bombs as errors, in all threads."""
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DecompressionBombWarning)
        yield


def _read(path: str | Path, in_channels: int, size: int) -> tuple[Pixels, str]:
    """Return the pixels and the format of a file."""
    # Imported here, because the import takes a tenth of a second.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        # Given a path, Pillow maps the file into memory. If it then shrinks, the process dies.
        with Path(path).open("rb") as stream, Image.open(stream, formats=ALLOWED_FORMATS) as image:
            image.load()
            # Float pixels and signed integers have no defined black and white.
            is_known = image.mode in (*GRAY_MODES, *COLOR_MODES)
            if not is_known or (image.mode == "I" and image.format == "TIFF"):
                raise DataError(
                    f"{escape_name(path)} has pixels of the kind {image.mode}, whose black and "
                    "white are not known. Save it with 8 or 16 bits a channel."
                )
            with suppress(Exception):  # damaged EXIF raises errors of many types
                ImageOps.exif_transpose(image, in_place=True)
            is_jpeg = image.format == "MPO"  # JPEG files of several images
            return _to_pixels(image, in_channels, size), "JPEG" if is_jpeg else str(image.format)
    except UnidentifiedImageError as error:
        raise DataError(f"{escape_name(path)} {_describe_content(path)}.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise DataError(f"{escape_name(path)} has more than {limit} pixels.") from error
    except DataError:
        raise
    except Exception as error:  # damaged files raise errors of many types
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{escape_name(path)} cannot be read: {reason}.") from error


def _describe_content(path: str | Path) -> str:
    """Return a description of a file that is not an image, by its first bytes."""
    with Path(path).open("rb") as file:
        start = file.read(512)
    for pattern, description in OTHER_FILES:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return description
    return f"is not a {FORMATS} image"


def _to_pixels(image: "Image", in_channels: int, size: int) -> Pixels:
    """Convert an image to opaque pixels uint8 (in_channels, size, size)."""
    from PIL import Image

    if in_channels not in (1, 3):
        raise DataError(f"Images have one channel or three, and the network takes {in_channels}.")
    if image.mode.startswith("I"):  # 16 bits: Pillow's conversion would keep the low 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque.convert("RGB")
    image = image.convert("L" if in_channels == 1 else "RGB")
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels: Pixels = np.asarray(image).reshape(size, size, in_channels).transpose(2, 0, 1)
    return pixels


def read_inputs(paths: Iterable[Path], in_channels: int, size: int) -> Iterator[InputImage]:
    """Yield the images of all paths in order, as uint8 (in_channels, size, size).

    A path is an image file, a folder, or an IDX file of images, plain or gzipped. Images in a
    folder and below it come in the order of their names. Image 17 of an IDX file is named
    ``file[17]``. An image that cannot be read is yielded with its error.
    """
    for path in paths:
        try:
            if path.is_dir():
                yield from _read_folder(path, in_channels, size)
            elif is_idx(path):
                yield from _read_idx_images(path, in_channels, size)
            elif path.exists() and not path.is_file():
                raise DataError(f"{escape_name(path)} is neither a file nor a folder.")
            else:
                yield InputImage(str(path), read_image(path, in_channels, size))
        except (DataError, OSError) as error:
            yield InputImage(str(path), None, str(error))


def _read_folder(folder: Path, in_channels: int, size: int) -> Iterator[InputImage]:
    scan = FolderScan(folder)
    images = filter(is_image, scan.walk(folder))
    yield from read_inputs(map(Path, images), in_channels, size)
    for problem in scan.problems:
        yield InputImage(str(folder), None, problem)
    if not scan.num_images and not scan.problems:
        raise DataError(f"{escape_name(folder)} holds no image files. Name an IDX file itself.")


def _read_idx_images(path: Path, in_channels: int, size: int) -> Iterator[InputImage]:
    from PIL import Image

    array = read_idx(path)
    images = array[:, None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise DataError(f"{escape_name(path)} holds no images: its shape is {array.shape}.")
    for index, pixels in enumerate(images):
        channels_last = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        image = Image.fromarray(channels_last if len(pixels) == 3 else pixels[0])
        yield InputImage(f"{path}[{index}]", _to_pixels(image, in_channels, size))


def looks_inverted(images: Pixels, mean: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Return for each image (N, C, S, S) whether its border is light and training images are dark.

    Or the reverse. `mean` has the mean of the training pixels in [0, 1] for each channel. Below a
    third, as in MNIST, their background is taken as dark, above two thirds as light. Otherwise, and
    in color, no image is taken as inverted. benchmarks/NOTES.md has the error rates.
    """
    if len(mean) > 1 or MAX_DARK <= mean[0] <= MIN_LIGHT:
        return np.zeros(len(images), np.bool_)
    border = np.ones(images.shape[-2:], np.bool_)
    border[1:-1, 1:-1] = False
    is_light: npt.NDArray[np.bool_] = images[:, 0, border].mean(axis=1) > 127.5
    return is_light if mean[0] < MAX_DARK else ~is_light
