"""Numbers that differ from the right ones: the known mistake or the factor that explains them."""

from collections.abc import Mapping, Sequence

import torch

from cnnbench.reference.custom.known_mistakes import Candidates, Operation

__all__ = ["differentiate", "explain_difference", "find_candidate", "matches"]

TOLERANCE = 1e-7  # as a share of the largest number
TINY = 1e-300  # keeps divisors away from 0


def matches(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two tensors of one shape are equal up to rounding."""
    largest = max(float(expected.abs().max()), TINY)
    return float((found - expected).abs().max()) <= TOLERANCE * largest


def differentiate(
    operation: Operation, tensors: Sequence[torch.Tensor], dout: torch.Tensor
) -> list[torch.Tensor]:
    """Return the outputs of an operation, then the gradients of `tensors`; zeros if not used."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    outputs = operation(*leaves)
    gradients = torch.autograd.grad(outputs, leaves, dout, materialize_grads=True)
    return [outputs.detach(), *gradients]


def find_candidate(
    candidates: Candidates,
    tensors: Sequence[torch.Tensor],
    dout: torch.Tensor,
    index: int,
    found: torch.Tensor,
) -> str | None:
    """Return the mistake whose outputs (index 0) or gradient (from 1) are those found."""
    for sentence, operation in candidates:
        try:
            values = differentiate(operation, tensors, dout)
        except RuntimeError:  # its outputs have another shape, so they are not those found
            continue
        if matches(found, values[index]):
            return sentence
    return None


def explain_difference(
    found: torch.Tensor, right: torch.Tensor, counts: Mapping[str, int] | None = None
) -> str:
    """Return a sentence on the numbers found: their factor from the right ones, or where they are.

    `counts` names the factors that a mistake may have.
    """
    if not bool(found.isfinite().all()):
        return "it has numbers that are nan or inf"
    index = int(right.abs().argmax())
    factor = float(found.flatten()[index] / right.flatten()[index])
    if factor == 0 and not bool(found.any()):
        return "it is 0 everywhere"
    if not matches(found, factor * right):
        index = int((found - right).abs().argmax())
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(index), right.shape))
        values = f"{float(found.flatten()[index]):.6g}, not {float(right.flatten()[index]):.6g}"
        return f"at {place} it is {values}" if place else f"it is {values}"
    if abs(factor + 1) < TOLERANCE:
        return "its sign is wrong"
    for name, count in (counts or {}).items():
        if abs(factor / count - 1) < TOLERANCE:
            return f"the factor 1/({name}) is missing: it is {count} times too large"
        if abs(factor * count - 1) < TOLERANCE:
            return f"it is divided by {name} = {count} once too often"
    return f"it is {factor:.6g} times the right one"
