"""The losses of the reference implementation, compared with PyTorch's and those of training."""

import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.reference import losses
from cnnbench.reference.losses import (
    CrossEntropy,
    HalfSquaredError,
    LogSoftmax,
    MeanSquaredError,
    NegativeLogLikelihood,
    RootMeanSquaredError,
    Softmax,
)
from cnnbench.training.losses import make_losses

NUMBERS = st.sampled_from([0.0, 1000.0, -1000.0]) | st.floats(-1000, 1000) | st.floats(-3, 3)
LABELS, PROBABILITIES = torch.tensor([2, 0, 1]), random_tensor(3, 4).softmax(dim=1).detach()
TARGETS = [pytest.param(LABELS, id="labels"), pytest.param(PROBABILITIES, id="probabilities")]

EVERY_LOSS = [
    *(losses.cross_entropy, losses.nll, losses.mse),
    *(HalfSquaredError.apply, RootMeanSquaredError.apply),
]


@st.composite
def logits(draw: st.DrawFn) -> torch.Tensor:
    """Draw float64 logits (N, K), some of them far above or below all others."""
    n, k = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    numbers = draw(st.lists(NUMBERS, min_size=n * k, max_size=n * k))
    return torch.tensor(numbers, dtype=torch.float64).view(n, k).requires_grad_()


@st.composite
def logits_and_targets(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw logits (N, K) with labels (N) or probabilities (N, K)."""
    inputs = draw(logits())
    n, k = inputs.shape
    if draw(st.booleans()):
        return inputs, torch.tensor(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    shares = draw(st.lists(st.floats(0, 1), min_size=n * k, max_size=n * k))
    return inputs, torch.tensor(shares, dtype=torch.float64).view(n, k).softmax(dim=1)


def one_hot(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    if targets.is_floating_point():
        return targets
    return functional.one_hot(targets, num_classes).double()


def torch_nll(log_probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if targets.is_floating_point():
        return -(targets * log_probabilities).sum(dim=1).mean()
    return functional.nll_loss(log_probabilities, targets)


def torch_mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(outputs, one_hot(targets, outputs.shape[1]))


@CASES
@given(inputs=logits())
def test_softmax_matches_torch(inputs: torch.Tensor) -> None:
    library = torch.nn.Softmax(dim=1)
    assert_close(Softmax.apply(inputs), library(inputs), **EXACTLY)
    assert_close(
        compute_gradients(Softmax.apply, inputs), compute_gradients(library, inputs), **EXACTLY
    )


@CASES
@given(inputs=logits())
def test_log_softmax_matches_torch(inputs: torch.Tensor) -> None:
    library = torch.nn.LogSoftmax(dim=1)
    assert_close(LogSoftmax.apply(inputs), library(inputs), **EXACTLY)
    assert_close(
        compute_gradients(LogSoftmax.apply, inputs), compute_gradients(library, inputs), **EXACTLY
    )


@CASES
@given(case=logits_and_targets())
def test_negative_log_likelihood_matches_torch(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert_close(NegativeLogLikelihood.apply(*case), torch_nll(*case), **EXACTLY)
    assert_close(
        compute_gradients(NegativeLogLikelihood.apply, *case),
        compute_gradients(torch_nll, *case),
        **EXACTLY,
    )


@CASES
@given(case=logits_and_targets(), label_smoothing=st.just(0.0) | st.floats(0, 1))
def test_cross_entropy_matches_torch(
    case: tuple[torch.Tensor, torch.Tensor], label_smoothing: float
) -> None:
    def library(
        logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float
    ) -> torch.Tensor:
        return functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)

    arguments = *case, label_smoothing
    assert_close(CrossEntropy.apply(*arguments), library(*arguments), **EXACTLY)
    assert_close(
        compute_gradients(CrossEntropy.apply, *arguments),
        compute_gradients(library, *arguments),
        **EXACTLY,
    )


@CASES
@given(case=logits_and_targets())
def test_mean_squared_error_matches_torch(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert_close(MeanSquaredError.apply(*case), torch_mse(*case), **EXACTLY)
    assert_close(
        compute_gradients(MeanSquaredError.apply, *case),
        compute_gradients(torch_mse, *case),
        **EXACTLY,
    )


@pytest.mark.parametrize(
    ("reference", "formula"),
    [
        (HalfSquaredError.apply, lambda errors: errors.square().sum() / 2),
        (RootMeanSquaredError.apply, lambda errors: errors.square().mean().sqrt()),
    ],
    ids=["half the sum", "root"],
)
@CASES
@given(case=logits_and_targets())
def test_other_squared_errors_match_their_formulas(
    reference: Any, formula: Any, case: tuple[torch.Tensor, torch.Tensor]
) -> None:
    outputs, targets = case

    def library(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return formula(outputs - one_hot(targets, outputs.shape[1]))

    value = library(outputs, targets)
    assert_close(reference(outputs, targets), value, rtol=1e-12, atol=1e-9)
    if value > 0:  # At 0 the root has a kink.
        assert_close(
            compute_gradients(reference, outputs, targets),
            compute_gradients(library, outputs, targets),
            rtol=1e-12,
            atol=1e-9,
        )


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse"])
@CASES
@given(case=logits_and_targets(), smoothing=st.just(0.0) | st.floats(0, 1))
def test_losses_match_those_of_training(
    name: str, case: tuple[torch.Tensor, torch.Tensor], smoothing: float
) -> None:
    in_training = make_losses(SimpleNamespace(loss=name, label_smoothing=smoothing)).loss
    rest = [smoothing] if name == "cross_entropy" else []

    def reference(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return getattr(losses, name)(logits, targets, *rest)

    assert_close(reference(*case), in_training(*case), **EXACTLY)
    assert_close(
        compute_gradients(reference, *case), compute_gradients(in_training, *case), **EXACTLY
    )


@pytest.mark.parametrize(
    "reference", [Softmax.apply, LogSoftmax.apply], ids=["softmax", "log-softmax"]
)
def test_backward_passes_gradcheck(reference: Any) -> None:
    assert gradcheck(reference, random_tensor(3, 4))


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize(
    ("reference", "rest"),
    [
        pytest.param(NegativeLogLikelihood.apply, (), id="likelihood"),
        pytest.param(CrossEntropy.apply, (0.0,), id="cross-entropy"),
        pytest.param(CrossEntropy.apply, (0.3,), id="smoothed cross-entropy"),
        pytest.param(MeanSquaredError.apply, (), id="squared error"),
        pytest.param(HalfSquaredError.apply, (), id="half the sum"),
        pytest.param(RootMeanSquaredError.apply, (), id="root"),
    ],
)
def test_backward_of_a_loss_passes_gradcheck(
    reference: Any, rest: tuple[float, ...], targets: torch.Tensor
) -> None:
    assert gradcheck(reference, (random_tensor(3, 4), targets, *rest))


def test_known_softmax() -> None:
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]], dtype=torch.float64)
    expected = torch.tensor([[1 / 8, 2 / 8, 5 / 8]], dtype=torch.float64)
    assert_close(Softmax.apply(logits), expected, **EXACTLY)


def test_softmax_of_large_logits_does_not_overflow() -> None:
    logits = torch.tensor([[1000.0, 1000.0], [-1000.0, -1000.0], [1000.0, -1000.0]])
    assert Softmax.apply(logits).tolist() == [[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]


def test_log_softmax_is_finite_where_a_probability_rounds_to_zero() -> None:
    assert LogSoftmax.apply(torch.tensor([[0.0, 1000.0]])).tolist() == [[-1000.0, 0.0]]


@pytest.mark.parametrize(
    ("loss", "rest"), [(losses.nll, ()), (losses.cross_entropy, ()), (losses.cross_entropy, (0.3,))]
)
def test_loss_of_equal_logits_is_log_of_the_number_of_classes(
    loss: Any, rest: tuple[float, ...]
) -> None:
    logits, labels = torch.full((4, 10), 3.0), torch.tensor([0, 3, 3, 9])
    assert loss(logits, labels, *rest).item() == pytest.approx(math.log(10))


def test_gradient_of_cross_entropy_is_probability_minus_target() -> None:
    logits = torch.tensor([[0.0, math.log(2), math.log(5)], [0.0, 0.0, 0.0]], requires_grad=True)
    losses.cross_entropy(logits, torch.tensor([2, 0])).backward()
    assert_close(logits.grad, torch.tensor([[1 / 16, 2 / 16, -3 / 16], [-2 / 6, 1 / 6, 1 / 6]]))


def test_known_mean_squared_error() -> None:
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]], dtype=torch.float64)
    assert losses.mse(logits, torch.tensor([2])).item() == pytest.approx((1 + 4 + 9) / 64 / 3)


@pytest.mark.parametrize(
    "targets",
    [torch.tensor([2]), torch.eye(10)[[2]].double(), torch.eye(10)[[2]].long()],
    ids=["label", "probabilities", "one-hot"],
)
def test_squared_errors_of_the_notes(targets: torch.Tensor) -> None:
    outputs = torch.tensor([[0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0]], dtype=torch.float64)
    half, mean = HalfSquaredError.apply(outputs, targets), MeanSquaredError.apply(outputs, targets)
    assert half.item() == pytest.approx(0.0975, rel=1e-12)
    assert mean.item() == pytest.approx(0.0195, rel=1e-12)
    assert half.item() == pytest.approx(outputs.numel() / 2 * mean.item(), rel=1e-12)
    root = RootMeanSquaredError.apply(outputs, targets)
    assert root.item() == pytest.approx(math.sqrt(0.0195), rel=1e-12)


def test_squared_error_takes_one_example_without_an_axis_for_examples() -> None:
    outputs = torch.tensor([0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0], dtype=torch.float64)
    targets = torch.tensor([0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    assert HalfSquaredError.apply(outputs, targets).item() == pytest.approx(0.0975, rel=1e-12)


def test_gradient_of_half_the_sum_of_squares_is_output_minus_target() -> None:
    outputs = torch.tensor([[0.25, 0.75], [1.0, 0.0]], requires_grad=True)
    HalfSquaredError.apply(outputs, torch.tensor([0, 1])).backward()
    assert outputs.grad is not None
    assert outputs.grad.tolist() == [[-0.75, 0.75], [1.0, -1.0]]


def test_root_of_no_error_has_gradient_zero() -> None:
    outputs = torch.eye(3, requires_grad=True)
    error = RootMeanSquaredError.apply(outputs, torch.arange(3))
    (gradient,) = torch.autograd.grad(error, outputs)
    assert error.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll, losses.mse])
def test_integer_one_hot_targets_give_the_loss_and_gradients_of_labels(loss: Any) -> None:
    logits = random_tensor(3, 4)
    by_labels = loss(logits, LABELS)
    integers = functional.one_hot(LABELS, 4)
    assert not integers.is_floating_point()
    assert loss(logits, integers).item() == by_labels.item()
    assert torch.equal(
        *(compute_gradients(loss, logits, targets)[0] for targets in (LABELS, integers))
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5), (3, 1), (1, 4)])
@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_targets_of_another_shape_are_refused(
    loss: Any, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    message = f"Targets of shape {shape} do not fit 3 outputs of width 4."
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(random_tensor(3, 4), torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll, losses.mse])
def test_targets_are_converted_to_the_dtype_of_the_logits(loss: Any) -> None:
    assert_close(
        loss(random_tensor(3, 4).float(), PROBABILITIES),
        loss(random_tensor(3, 4), PROBABILITIES).float(),
    )


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll, losses.mse])
def test_label_out_of_range_is_refused(loss: Any) -> None:
    with pytest.raises(RuntimeError, match="out of bounds"):
        loss(random_tensor(3, 4), torch.tensor([0, 4, 1]))


@pytest.mark.parametrize("targets", [*TARGETS, pytest.param(PROBABILITIES.long(), id="one-hot")])
@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_forward_and_backward_read_no_value(loss: Any, targets: torch.Tensor) -> None:
    inputs = torch.ones(3, 4, device="meta", requires_grad=True)  # A meta tensor has no values.
    loss(inputs, targets.to("meta")).backward()
    assert inputs.grad is not None
