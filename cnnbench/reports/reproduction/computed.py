"""What claims 6, 9 and 10 rest on that needs no training, as `cnnbench reproduce` has computed it."""

from collections.abc import Mapping
from dataclasses import dataclass

from cnnbench.reports.reproduction.verdicts import Figure

__all__ = ["Computed", "Convolutions", "Pooled"]


@dataclass(frozen=True)
class Pooled:
    """What pooling by 2 x 2 keeps of test images, each figure the mean over them with its standard error.

    `brightness` is how far the mean of the pooled image is from that of the image, as a share of it; `texture` is the
    mean squared difference of neighbouring pixels of the pooled image, as a share of that of the image.
    """

    brightness: Figure
    texture: Figure


@dataclass(frozen=True)
class Convolutions:
    """The largest difference of two computations, as a share of the largest output, and what rounding explains."""

    im2col: float
    one_by_one: float
    rounding: float


@dataclass(frozen=True)
class Computed:
    """`pooled` by avg, max and min; `more_brightness` and `more_texture` are the differences max less avg, by image.

    `border` is, by padding_mode, how far outputs at the border of a uniform image are from those inside, as a share of
    them: of a smoothing kernel, and of a first layer as it is made. `convolutions` is by the name of the dtype.
    """

    num_images: int
    pooled: Mapping[str, Pooled]
    more_brightness: Figure
    more_texture: Figure
    border: Mapping[str, Mapping[str, float]]
    convolutions: Mapping[str, Convolutions]
