"""The affine layer by hand, against torch's."""

from helpers.random_tensors import CASES, EXACTLY, compute_gradients, random_tensor
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional
from torch.testing import assert_close

from cnnbench.reference.linear import Affine

SIZES = st.integers(1, 8)


@CASES
@given(n=SIZES, d=SIZES, m=SIZES, biased=st.booleans())
def test_outputs_and_gradients_are_those_of_torch(n: int, d: int, m: int, biased: bool) -> None:
    inputs, weight, bias = (
        random_tensor(n, d),
        random_tensor(m, d),
        random_tensor(m) if biased else None,
    )
    assert_close(
        Affine.apply(inputs, weight, bias), functional.linear(inputs, weight, bias), **EXACTLY
    )
    assert_close(
        compute_gradients(Affine.apply, inputs, weight, bias),
        compute_gradients(functional.linear, inputs, weight, bias),
        **EXACTLY,
    )


def test_backward_is_the_derivative_of_forward() -> None:
    assert gradcheck(Affine.apply, (random_tensor(3, 4), random_tensor(2, 4), random_tensor(2)))
