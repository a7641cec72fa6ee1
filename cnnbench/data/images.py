"""Image files as the arrays that networks are trained on."""

import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cnnbench.data.own import shown
from cnnbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["KNOWN", "SUFFIXES", "are_grey", "read_image", "read_images"]

FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpeg", ".jpg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **{".png": "PNG", ".webp": "WebP", ".gif": "GIF", ".bmp": "BMP"},
}
SUFFIXES = tuple(FORMAT_OF_SUFFIX)  # of the files that are looked for in folders
FORMATS = ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF")  # that Pillow may read, and no others
KNOWN = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
NAMES_OF_PILLOW = {"MPO": "JPEG", "WEBP": "WebP"}  # MPO is a JPEG with others behind it

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# How other files begin that often bear the name of an image, and what to do about each.
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
WHITE = (255, 255, 255, 255)  # what shows through a transparent image, as on a page

PORTION = 64  # images that a thread takes at a time
PATIENCE_S = 1  # before a bar shows how far reading has come

Pixels = npt.NDArray[np.uint8]


class Reading(NamedTuple):
    """Images as `read_images` returns them; `misnamed` has the formats of files named for another."""

    pixels: Pixels
    problems: list[str]
    misnamed: dict[str, str]


def read_image(path: Path, in_channels: int, size: int) -> Pixels:
    """Read an image file as uint8 (in_channels, size, size): grey for one channel, else RGB.

    Of several images in a file it is the first. It is turned as its EXIF orientation says, what is
    transparent becomes white, colour becomes luma (ITU-R 601-2). Both sides are resized, bilinear
    with antialiasing, so a picture that is not square is squeezed.

    Raises:
        DataError: it cannot be read, is no such image, is damaged or is absurdly large.
    """
    with _warnings_decided():
        return _read(path, in_channels, size)[0]


def read_images(paths: Sequence[str | Path], in_channels: int, size: int, title: str) -> Reading:
    """Read files as `read_image` does, in several threads, as uint8 (N, in_channels, size, size).

    A bar with the title shows how far it is where that takes long.
    """
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # registers them

    Image.preinit()  # with the plugins above all that `FORMATS` needs, loaded in one thread
    pixels = np.empty((len(paths), in_channels, size, size), np.uint8)

    def read(start: int) -> tuple[list[str], dict[str, str]]:
        problems, misnamed = [], {}
        for number, path in enumerate(paths[start : start + PORTION], start):
            try:
                pixels[number], format_ = _read(path, in_channels, size)
            except DataError as error:
                problems.append(str(error))
            else:
                if format_ != FORMAT_OF_SUFFIX.get(Path(path).suffix.lower(), format_):
                    misnamed[str(path)] = format_
        return problems, misnamed

    problems: list[str] = []
    misnamed: dict[str, str] = {}
    bar = tqdm(total=len(paths), unit=" images", desc=title, disable=None, leave=False, delay=PATIENCE_S)
    with _warnings_decided(), bar, ThreadPoolExecutor() as pool:  # Pillow leaves the interpreter free
        for number, found in enumerate(pool.map(read, range(0, len(paths), PORTION)), 1):
            problems += found[0]
            misnamed |= found[1]
            bar.update(min(PORTION, len(paths) - PORTION * (number - 1)))
    return Reading(pixels, problems, misnamed)


def are_grey(paths: Sequence[str | Path]) -> bool:
    """Whether no file is in colour, by their headers; those that cannot be read do not count."""
    from PIL import Image

    def is_coloured(path: str | Path) -> bool:
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.mode != "P" or image.palette is None:
                    return image.mode not in GREY_MODES
                known = image.palette.rawmode == "RGB"  # others are sorted when pixels are read
                palette = image.palette.palette if known else bytes(image.getpalette() or ())
                colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
                return bool((colours != colours[:, :1]).any())
        except Exception:  # it is told when the pixels are read
            return False

    with _warnings_decided():
        return not any(map(is_coloured, paths))


@contextmanager
def _warnings_decided() -> Iterator[None]:
    """Odd but legible files are none of people's business; absurdly large ones are errors.

    Not for a thread beside others: it is the whole process that warns.
    """
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DecompressionBombWarning)
        yield


def _read(path: str | Path, in_channels: int, size: int) -> tuple[Pixels, str]:
    """Return the pixels and the format of a file."""
    from PIL import Image, UnidentifiedImageError  # a tenth of a second that other commands can do without

    try:
        # Pillow maps a file that it opens into memory: if that becomes shorter, the process dies.
        with Path(path).open("rb") as stream, Image.open(stream, formats=FORMATS) as file:
            file.load()
            format_ = NAMES_OF_PILLOW.get(str(file.format), str(file.format))
            _require_bytes(path, file)
            image = _plain(_upright(file), "L" if in_channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{shown(path)} {_explain(path)}.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{shown(path)} has more than {Image.MAX_IMAGE_PIXELS:,} pixels.") from error
    except DataError:
        raise
    except OSError as error:  # of the file system, or what Pillow says of a damaged file
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # Pillow raises whatever a damaged file leads to
        raise DataError(f"{shown(path)} is damaged: {str(error) or type(error).__name__}.") from error
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels: Pixels = np.asarray(image).reshape(size, size, in_channels).transpose(2, 0, 1)
    return pixels, format_


def _explain(path: str | Path) -> str:
    """Return what a file is that cannot be read as an image, by its first bytes."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(512)
    except OSError:
        start = b"?"
    for pattern, is_what in OTHER_FILES:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return is_what
    return f"is not a {KNOWN} image"


def _require_bytes(path: str | Path, image: "Image") -> None:
    """Check that the pixels have 8 or 16 bits without a sign, so that black and white are known.

    Raises:
        DataError: the pixels are floating-point numbers, or integers of other kinds.
    """
    known = image.mode in (*GREY_MODES, *COLOUR_MODES)
    if not known or (image.mode == "I" and image.format == "TIFF"):
        raise DataError(
            f"{shown(path)} has pixels of the kind {image.mode}, whose black and white are not "
            "known. Save it with 8 or 16 bits a channel."
        )


def _upright(image: "Image") -> "Image":
    """The image turned as its EXIF orientation says; what cannot be read there turns nothing."""
    from PIL.ExifTags import Base
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(Base.Orientation, 1))
    except Exception:  # Pillow raises whatever damaged EXIF leads to
        return image
    return image if turn is None else image.transpose(turn)


def _plain(image: "Image", mode: str) -> "Image":
    """The image in `mode`, L or RGB, opaque and with 8 bits a channel."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, of which converting would keep the last 8
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, WHITE)
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque.convert("RGB")
    return image.convert(mode)
