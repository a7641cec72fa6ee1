"""The losses of a classifier: logits X (N, K) and targets T to one number, the mean loss.

There are N examples and K classes. T (N, K), float, holds the probability of each class; the
probabilities are at least 0 and sum to 1. Or T (N), int64, holds the labels, which stand for
one-hot probabilities: 1 for the class, 0 for all others. T (N, K) of integers holds these
probabilities themselves. Targets are constants and get no gradient.

    softmax                  P[k] = e^X[k] / S,  S = sum of e^X[j] over j    (N, K), row by row
    log-softmax              L[k] = log P[k] = X[k] - log S                  (N, K)
    negative log-likelihood  l = -1/N sum of T[n, k] L[n, k] over n and k
                             for labels: -1/N sum of L[n, label n]
    cross-entropy            the same, of the log-softmax of X, in one step
    mean squared error       l = 1/(N K) sum of (Y[n, k] - T[n, k])^2
                             of any Y (N, K); here Y = softmax(X)
    half the sum of squares  l = 1/2 sum of (Y[n, k] - T[n, k])^2
    root mean squared error  l = sqrt(mean squared error), in the unit of Y

The sum of squares is N K times their mean, so half of it is N K / 2 times the mean squared error:
5 times for one example of 10 classes. Its gradient is larger by the same factor, so the same step
takes a learning rate that is smaller by it.

Label smoothing s replaces the targets by (1 - s) T + s/K: a share s of each is spread evenly over
all classes.

No overflow. e^1000 is too large a number, but numerator and denominator of P may both be divided by
e^m. Let m be the largest logit of the row. Then P[k] = e^(X[k] - m) / sum of e^(X[j] - m), where no
exponent is above 0 and the sum is at least 1. In the same way log S = m + log sum of e^(X[j] - m),
called log-sum-exp. The log-softmax is not computed as the logarithm of the softmax. A P that rounds
to 0 would make it -infinity, where X[k] - log S is an ordinary number.

Backward. Let dP, dL, dY be the derivatives of the loss with respect to each number of P, L, Y.

    softmax         dP[j]/dX[k] = P[j] ([j = k] - P[k]); summed with dP[j] over j:
                    dX[k] = P[k] (dP[k] - sum of dP[j] P[j] over j)
    log-softmax     dL[j]/dX[k] = [j = k] - P[k], as d log S / dX[k] = P[k]; hence
                    dX[k] = dL[k] - P[k] sum of dL[j] over j
    likelihood      dL[n, k] = -T[n, k] / N
    cross-entropy   the likelihood through the log-softmax, where T sums to 1:
                    dX[n, k] = (P[n, k] - T[n, k]) / N      predicted less true probability
    squared error   dY[n, k] = 2 (Y[n, k] - T[n, k]) / (N K)
    half the sum    dY[n, k] = Y[n, k] - T[n, k]
    root            dY[n, k] = (Y[n, k] - T[n, k]) / (N K l); where l = 0 it has a kink, and we take
                    0, which is one of its subgradients

Cost for each of the N K numbers, M multiplications or divisions, A additions or subtractions. Each
example also takes a logarithm in log-softmax, and the K - 1 comparisons that find m. Half the sum
of squares costs as much as their mean, and its root takes a square root more:

                                forward                         backward
    softmax                     1 exponential, 1 M, 2 A         2 M, 2 A
    log-softmax                 1 exponential, 3 A              1 exponential, 1 M, 2 A
    negative log-likelihood     1 M, 1 A                        1 M
    cross-entropy               1 exponential, 1 M, 4 A         1 exponential, 1 M, 1 A
    mean squared error          1 M, 2 A                        1 M
"""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = [
    *("CrossEntropy", "HalfSquaredError", "LogSoftmax", "MeanSquaredError"),
    *("NegativeLogLikelihood", "RootMeanSquaredError", "Softmax"),
    *("check_targets", "cross_entropy", "mse", "nll", "to_probabilities"),
]

Gradients = tuple[torch.Tensor | None, ...]


def _subtract_max(logits: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, K) less the largest of their row; the softmax is the same."""
    return logits - logits.amax(dim=1, keepdim=True)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    shifted = _subtract_max(logits)
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def check_targets(targets: torch.Tensor, outputs: torch.Tensor) -> None:
    """Check that targets are labels (N), or have the shape of the outputs (N, K).

    Raises:
        ValueError: if they are neither.
    """
    are_labels = targets.ndim == 1 and not targets.is_floating_point()
    if are_labels or targets.shape == outputs.shape:
        return
    raise ValueError(
        f"Targets of shape {tuple(targets.shape)} do not fit {len(outputs)} outputs of width "
        f"{outputs.shape[-1]}. Allowed: {len(outputs)} labels, or one-hot targets or "
        f"probabilities of shape {tuple(outputs.shape)}."
    )


def to_probabilities(targets: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return targets (N, K) with the dtype of `like`, from labels, one-hot or probabilities."""
    check_targets(targets, like)
    if targets.shape == like.shape:
        return targets.to(like.dtype)
    return torch.zeros_like(like).scatter_(1, targets[:, None], 1.0)


class Softmax(Function):
    """The softmax: logits (N, K) -> probabilities (N, K)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        exponentials = _subtract_max(logits).exp()
        probabilities = exponentials / exponentials.sum(dim=1, keepdim=True)
        ctx.save_for_backward(probabilities)
        return probabilities

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = ctx.saved_tensors[0]
        return probabilities * (grad - (grad * probabilities).sum(dim=1, keepdim=True))


class LogSoftmax(Function):
    """The log-softmax: logits (N, K) -> logarithms of the probabilities (N, K)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        log_probabilities = _log_softmax(logits)
        ctx.save_for_backward(log_probabilities)
        return log_probabilities

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        log_probabilities: torch.Tensor = ctx.saved_tensors[0]
        return grad - log_probabilities.exp() * grad.sum(dim=1, keepdim=True)


class NegativeLogLikelihood(Function):
    """The negative log-likelihood: log-probabilities (N, K), targets -> mean over the examples."""

    @staticmethod
    def forward(ctx: Any, log_probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        targets = to_probabilities(targets, like=log_probabilities)
        ctx.save_for_backward(targets)
        return -(targets * log_probabilities).sum() / len(targets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        targets: torch.Tensor = ctx.saved_tensors[0]
        return targets * (-grad / len(targets)), None


class CrossEntropy(Function):
    """The cross-entropy: logits (N, K), targets, share of label smoothing -> mean over examples."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        log_probabilities = _log_softmax(logits)
        targets = to_probabilities(targets, like=logits)
        if label_smoothing > 0:
            targets = (1 - label_smoothing) * targets + label_smoothing / logits.shape[1]
        ctx.save_for_backward(log_probabilities, targets)
        return -(targets * log_probabilities).sum() / len(targets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        log_probabilities, targets = ctx.saved_tensors
        return (log_probabilities.exp() - targets) * (grad / len(targets)), None, None


class MeanSquaredError(Function):
    """The squared error: outputs (N, K), targets -> mean over all N K numbers."""

    @staticmethod
    def forward(ctx: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        errors = outputs - to_probabilities(targets, like=outputs)
        ctx.save_for_backward(errors)
        return (errors * errors).sum() / errors.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        errors: torch.Tensor = ctx.saved_tensors[0]
        return errors * (2 * grad / errors.numel()), None


class HalfSquaredError(Function):
    """Half the sum of squares: outputs (N, K), targets -> half the sum over all N K numbers."""

    @staticmethod
    def forward(ctx: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        errors = outputs - to_probabilities(targets, like=outputs)
        ctx.save_for_backward(errors)
        return (errors * errors).sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        errors: torch.Tensor = ctx.saved_tensors[0]
        return errors * grad, None


class RootMeanSquaredError(Function):
    """The root of the squared error: outputs (N, K), targets -> root of the mean over all N K."""

    @staticmethod
    def forward(ctx: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        errors = outputs - to_probabilities(targets, like=outputs)
        root = ((errors * errors).sum() / errors.numel()).sqrt()
        ctx.save_for_backward(errors, root)
        return root

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        errors, root = ctx.saved_tensors
        divisor = errors.numel() * root.masked_fill(root == 0, 1.0)  # All errors are 0 there.
        return errors * (grad / divisor), None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean cross-entropy of the softmax of logits (N, K), with label smoothing.

    Targets are labels (N), or one-hot or other probabilities (N, K).
    """
    loss: torch.Tensor = CrossEntropy.apply(logits, targets, label_smoothing)
    return loss


def nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log-likelihood of the log-softmax of logits (N, K).

    This is the cross-entropy in two steps. Targets are labels (N), or one-hot or other
    probabilities (N, K).
    """
    loss: torch.Tensor = NegativeLogLikelihood.apply(LogSoftmax.apply(logits), targets)
    return loss


def mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of the softmax of logits (N, K), over all N K numbers.

    Targets are labels (N), or one-hot or other probabilities (N, K).
    """
    loss: torch.Tensor = MeanSquaredError.apply(Softmax.apply(logits), targets)
    return loss
