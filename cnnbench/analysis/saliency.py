"""The pixels that a prediction depends on, by input gradients and by occlusion."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["compute_input_gradient", "measure_occlusion"]

Array = npt.NDArray[np.float32]
Logits = Callable[[torch.Tensor], torch.Tensor]  # from inputs (N, C, S, S) to logits (N, K)


def compute_input_gradient(logits: Logits, inputs: torch.Tensor) -> Array:
    """Return the absolute gradient (S, S) of the predicted logit by the input (1, C, S, S).

    It is the maximum over the channels: Simonyan, Vedaldi, Zisserman 2014, section 3.1.
    """
    inputs = inputs.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(logits(inputs).max(), inputs)
    strength: Array = gradient[0].abs().amax(dim=0).float().cpu().numpy()
    return strength


@torch.inference_mode()
def measure_occlusion(logits: Logits, inputs: torch.Tensor, patch: int, places: int) -> Array:
    """Return the drop (places, places) of the predicted class's probability under a patch.

    The patch has `patch` x `patch` pixels. It hides the input (1, C, S, S) at `places` x `places`
    positions, evenly spread. Its value is 0, the mean color of the training images. In the paper
    (Zeiler, Fergus 2014, section 4.2) it is gray.
    """
    probability, predicted = logits(inputs).softmax(dim=1)[0].max(dim=0)
    centers = (np.arange(places) + 0.5) * inputs.shape[-1] / places
    starts = np.floor(centers - patch / 2 + 0.5).astype(int)
    spans = [slice(max(0, start), start + patch) for start in starts]
    drops = []
    for rows in spans:
        hidden = inputs.repeat(places, 1, 1, 1)
        for image, columns in zip(hidden, spans, strict=True):
            image[:, rows, columns] = 0
        drops.append(probability - logits(hidden).softmax(dim=1)[:, predicted])
    return torch.stack(drops).cpu().numpy()
