"""Which pixels decide: the gradient of a logit, and what becomes of a probability where the image is hidden."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Occlusion", "compute_input_gradient", "measure_occlusion", "plan_occlusion"]

Logits = Callable[[torch.Tensor], torch.Tensor]  # of inputs (N, C, S, S): (N, K)

FINEST, COARSEST = 28, 7  # places of the patch along a side


def compute_input_gradient(logits: Logits, inputs: torch.Tensor, target: int) -> npt.NDArray[np.float32]:
    """How strongly each pixel moves the logit of class `target`: |d logit / d input| (S, S) of an input (1, C, S, S).

    Of several channels the largest: Simonyan, Vedaldi, Zisserman 2014, section 3.1.
    """
    inputs = inputs.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(logits(inputs)[0, target], inputs)
    strength: npt.NDArray[np.float32] = gradient[0].abs().amax(dim=0).float().cpu().numpy()
    return strength


@dataclass(frozen=True)
class Occlusion:
    """A grey patch of `patch` pixels a side, at `places` x `places` places evenly over the image."""

    patch: int
    places: int

    def corners(self, size: int) -> list[int]:
        """The first pixel of the patch, which may lie outside, along a side of `size` pixels: its centres spread."""
        centres = (np.arange(self.places) + 0.5) * size / self.places
        return [math.floor(centre - self.patch / 2 + 0.5) for centre in centres]


def plan_occlusion(size: int, multiply_adds: int, images: int, most_multiply_adds: float) -> Occlusion:
    """A patch of about a fifth of the image, at as many places as the work allows: 28 along a side, at least 7."""
    affordable = int((most_multiply_adds / max(1, multiply_adds * images)) ** 0.5)
    places = min(size, max(COARSEST, min(FINEST, affordable)))
    return Occlusion(max(1, round(size / 5)), places)


@torch.inference_mode()
def measure_occlusion(
    logits: Logits, inputs: torch.Tensor, target: int, how: Occlusion, batch_size: int
) -> npt.NDArray[np.float32]:
    """By how much the probability of class `target` falls where a patch hides the input (1, C, S, S): (places, places).

    The patch is 0, the mean colour of the training images: Zeiler, Fergus 2014, section 4.2, whose patch is grey.
    """
    whole = logits(inputs).softmax(dim=1)[0, target]
    left = [logits(hidden).softmax(dim=1)[:, target] for hidden in _hidden(inputs, how, batch_size)]
    drop: npt.NDArray[np.float32] = (whole - torch.cat(left)).view(how.places, how.places).cpu().numpy()
    return drop


def _hidden(inputs: torch.Tensor, how: Occlusion, batch_size: int) -> Iterator[torch.Tensor]:
    """Copies of the input with the patch at each place, row by row, in batches."""
    corners = how.corners(inputs.shape[-1])
    places = [(top, left) for top in corners for left in corners]
    for begin in range(0, len(places), batch_size):
        batch = places[begin : begin + batch_size]
        copies = inputs.repeat(len(batch), 1, 1, 1)
        for copy, (top, left) in zip(copies, batch, strict=True):
            copy[:, max(0, top) : top + how.patch, max(0, left) : left + how.patch] = 0
        yield copies
