"""Which pixels decide: the gradient of a logit, and the probability where the image is hidden."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["compute_input_gradient", "measure_occlusion"]

Array = npt.NDArray[np.float32]
Logits = Callable[[torch.Tensor], torch.Tensor]  # of inputs (N, C, S, S): (N, K)


def compute_input_gradient(logits: Logits, inputs: torch.Tensor) -> Array:
    """Return how each pixel moves the logit of the predicted class: |d logit / d input| (S, S).

    Of several channels of the input (1, C, S, S) the largest: Simonyan, Vedaldi, Zisserman 2014,
    section 3.1.
    """
    inputs = inputs.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(logits(inputs).max(), inputs)
    strength: Array = gradient[0].abs().amax(dim=0).float().cpu().numpy()
    return strength


@torch.inference_mode()
def measure_occlusion(logits: Logits, inputs: torch.Tensor, patch: int, places: int) -> Array:
    """Return by how much the probability of the predicted class falls: (places, places).

    A patch of `patch` pixels a side hides a part of the input (1, C, S, S), evenly over the image.
    It is 0, the mean color of the training images: Zeiler, Fergus 2014, section 4.2, whose patch
    is gray.
    """
    probability, predicted = logits(inputs).softmax(dim=1)[0].max(dim=0)
    centers = (np.arange(places) + 0.5) * inputs.shape[-1] / places
    starts = np.floor(centers - patch / 2 + 0.5).astype(int)
    spans = [slice(max(0, start), start + patch) for start in starts]
    drops = []
    for down in spans:
        hidden = inputs.repeat(places, 1, 1, 1)
        for image, across in zip(hidden, spans, strict=True):
            image[:, down, across] = 0
        drops.append(probability - logits(hidden).softmax(dim=1)[:, predicted])
    return torch.stack(drops).cpu().numpy()
