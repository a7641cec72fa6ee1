"""Which pixels decide: the gradient of a logit, and the probability where the image is hidden."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Occlusion", "compute_input_gradient", "measure_occlusion", "plan_occlusion"]

Array = npt.NDArray[np.float32]
Logits = Callable[[torch.Tensor], torch.Tensor]  # of inputs (N, C, S, S): (N, K)

MIN_PLACES, MAX_PLACES = 7, 28  # of the patch along a side


def compute_input_gradient(logits: Logits, inputs: torch.Tensor) -> Array:
    """Return how each pixel moves the logit of the predicted class: |d logit / d input| (S, S).

    Of several channels of the input (1, C, S, S) the largest: Simonyan, Vedaldi, Zisserman 2014,
    section 3.1.
    """
    inputs = inputs.detach().clone().requires_grad_()
    logit = logits(inputs)[0].max(dim=0).values
    (gradient,) = torch.autograd.grad(logit, inputs)
    strength: Array = gradient[0].abs().amax(dim=0).float().cpu().numpy()
    return strength


@dataclass(frozen=True)
class Occlusion:
    """A gray patch of `patch` pixels a side, at `places` x `places` places over the image."""

    patch: int
    places: int

    def corners(self, size: int) -> list[int]:
        """Return the first pixels of the patch along `size` pixels; some may lie outside."""
        centers = (np.arange(self.places) + 0.5) * size / self.places
        return [math.floor(center - self.patch / 2 + 0.5) for center in centers]


def plan_occlusion(size: int, multiply_adds: int, images: int, most: float) -> Occlusion:
    """Return a patch of a fifth of the image, at 7 to 28 places a side: `most` multiply-adds."""
    affordable = int((most / max(1, multiply_adds * images)) ** 0.5)
    places = min(size, max(MIN_PLACES, min(MAX_PLACES, affordable)))
    return Occlusion(max(1, round(size / 5)), places)


@torch.inference_mode()
def measure_occlusion(logits: Logits, inputs: torch.Tensor, how: Occlusion) -> Array:
    """Return by how much the probability of the predicted class falls: (places, places).

    The patch that hides a part of the input (1, C, S, S) is 0, the mean color of the training
    images: Zeiler, Fergus 2014, section 4.2, whose patch is gray.
    """
    probability, predicted = logits(inputs).softmax(dim=1)[0].max(dim=0)
    corners = how.corners(inputs.shape[-1])
    rows = []
    for top in corners:
        hidden = inputs.repeat(len(corners), 1, 1, 1)
        for image, left in zip(hidden, corners, strict=True):
            image[:, max(0, top) : top + how.patch, max(0, left) : left + how.patch] = 0
        rows.append(probability - logits(hidden).softmax(dim=1)[:, predicted])
    return torch.stack(rows).cpu().numpy()
