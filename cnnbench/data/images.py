"""Image files as the arrays that networks are trained on."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cnnbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "read_image"]

SUFFIXES = (".jpeg", ".jpg", ".png")  # of the files that are looked for in folders

WHITE = (255, 255, 255, 255)  # what shows through a transparent image, as on a page


def read_image(path: Path, in_channels: int, size: int) -> npt.NDArray[np.uint8]:
    """A PNG or JPEG file as uint8 (in_channels, size, size): grey for one channel, else red, green and blue.

    It is turned as its EXIF orientation says, what is transparent becomes white, colour becomes luma (ITU-R 601-2).
    Both sides are resized, bilinear with antialiasing, so a picture that is not square is squeezed.

    Raises:
        DataError: it cannot be read, is no such image, is damaged or is absurdly large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # a tenth of a second that other commands can do without

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd but legible files
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as file:
                image = _plain(ImageOps.exif_transpose(file), "L" if in_channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a PNG or JPEG image.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels.") from error
    except OSError as error:  # of the file system, or what Pillow says of a damaged file
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (SyntaxError, ValueError, EOFError) as error:  # likewise
        raise DataError(f"{path} is damaged: {error}.") from error
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels: npt.NDArray[np.uint8] = np.asarray(image).reshape(size, size, in_channels).transpose(2, 0, 1)
    return pixels


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
