"""The losses of a classifier: logits X (N, K) of N examples and K classes, and targets T, to one number, the mean loss.

T (N, K) holds the probability of each class, float, all at least 0 and 1 in sum, or else (N) the labels, int64, which
stand for one-hot probabilities: 1 for the class, 0 for all others. Targets are given: no gradient goes to them.

    softmax                     P[k] = e^X[k] / S,  S = sum of e^X[j] over j        (N, K), each row by itself
    log-softmax                 L[k] = log P[k] = X[k] - log S                      (N, K)
    negative log-likelihood     l = -1/N sum of T[n, k] L[n, k] over n and k        of labels: -1/N sum of L[n, label n]
    cross-entropy               the same, of the log-softmax of X, in one step
    mean squared error          l = 1/(N K) sum of (Y[n, k] - T[n, k])^2            of any Y (N, K); here Y = softmax(X)

Label smoothing s takes the targets for (1 - s) T + s/K: a share s of each is spread evenly over all classes.

No overflow. e^1000 is too large a number, but numerator and denominator of P may both be divided by e^m: with the
largest logit of the row as m, P[k] = e^(X[k] - m) / sum of e^(X[j] - m), where no exponent is above 0 and the sum at
least 1. Likewise log S = m + log sum of e^(X[j] - m), called log-sum-exp. The log-softmax is not taken as the
logarithm of the softmax: a P that rounds to 0 would make it -infinity, where X[k] - log S is an ordinary number.

Backward. Let dP, dL, dY be the derivatives of the loss with respect to each number of P, L, Y.

    softmax         dP[j]/dX[k] = P[j] ([j = k] - P[k]); summed with dP[j] over j:
                    dX[k] = P[k] (dP[k] - sum of dP[j] P[j] over j)
    log-softmax     dL[j]/dX[k] = [j = k] - P[k], as d log S / dX[k] = P[k]; hence
                    dX[k] = dL[k] - P[k] sum of dL[j] over j
    likelihood      dL[n, k] = -T[n, k] / N
    cross-entropy   the last into the one before, where T sums to 1:
                    dX[n, k] = (P[n, k] - T[n, k]) / N            what the network says, less what is so
    squared error   dY[n, k] = 2 (Y[n, k] - T[n, k]) / (N K)

Cost for each of the N K numbers, M multiplications or divisions, A additions or subtractions; besides, each example
takes a logarithm in log-softmax, and the K - 1 comparisons that find m:

                                forward                                         backward
    softmax                     1 exponential, 1 M, 2 A                         2 M, 2 A
    log-softmax                 1 exponential, 3 A                              1 exponential, 1 M, 2 A
    negative log-likelihood     1 M, 1 A                                        1 M
    cross-entropy               1 exponential, 1 M, 4 A                         1 exponential, 1 M, 1 A
    mean squared error          1 M, 2 A                                        1 M
"""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = [
    *("CrossEntropy", "LogSoftmax", "MeanSquaredError", "NegativeLogLikelihood", "Softmax"),
    *("cross_entropy", "mse", "nll"),
]

Gradients = tuple[torch.Tensor | None, ...]


def _below_largest(logits: torch.Tensor) -> torch.Tensor:
    """X - m, the logits (N, K) less the largest of their row, which has the same softmax."""
    return logits - logits.amax(dim=1, keepdim=True)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    below = _below_largest(logits)
    return below - below.exp().sum(dim=1, keepdim=True).log()


def _probabilities(targets: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """T (N, K), with the shape and the type of `like`, from labels or probabilities."""
    if targets.is_floating_point():
        return targets.to(like.dtype)
    return torch.zeros_like(like).scatter_(1, targets[:, None], 1.0)


class Softmax(Function):
    """logits (N, K) to probabilities (N, K)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        exponentials = _below_largest(logits).exp()
        probabilities = exponentials / exponentials.sum(dim=1, keepdim=True)
        ctx.save_for_backward(probabilities)
        return probabilities

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = ctx.saved_tensors[0]
        return probabilities * (grad - (grad * probabilities).sum(dim=1, keepdim=True))


class LogSoftmax(Function):
    """logits (N, K) to the logarithms (N, K) of the probabilities."""

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
    """log-probabilities (N, K) and targets to the mean over the examples."""

    @staticmethod
    def forward(ctx: Any, log_probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        targets = _probabilities(targets, like=log_probabilities)
        ctx.save_for_backward(targets)
        return -(targets * log_probabilities).sum() / len(targets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        targets: torch.Tensor = ctx.saved_tensors[0]
        return targets * (-grad / len(targets)), None


class CrossEntropy(Function):
    """logits (N, K), targets and the share of label smoothing to the mean over the examples."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        log_probabilities = _log_softmax(logits)
        targets = _probabilities(targets, like=logits)
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
    """outputs (N, K) and targets to the mean over all N K numbers."""

    @staticmethod
    def forward(ctx: Any, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        errors = outputs - _probabilities(targets, like=outputs)
        ctx.save_for_backward(errors)
        return (errors * errors).sum() / errors.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Gradients:
        errors: torch.Tensor = ctx.saved_tensors[0]
        return errors * (2 * grad / errors.numel()), None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """The mean cross-entropy of the softmax of logits (N, K), with the targets smoothed."""
    loss: torch.Tensor = CrossEntropy.apply(logits, targets, label_smoothing)
    return loss


def nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-softmax, then the negative log-likelihood: cross-entropy in two steps."""
    loss: torch.Tensor = NegativeLogLikelihood.apply(LogSoftmax.apply(logits), targets)
    return loss


def mse(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Softmax, then its mean squared error, over all N K numbers."""
    loss: torch.Tensor = MeanSquaredError.apply(Softmax.apply(logits), targets)
    return loss
