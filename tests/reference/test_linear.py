"""The affine layer by hand, against torch's."""

from helpers.drawing import CASES, EXACTLY, drawn, grads
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
    inputs, weight, bias = drawn(n, d), drawn(m, d), drawn(m) if biased else None
    assert_close(
        Affine.apply(inputs, weight, bias), functional.linear(inputs, weight, bias), **EXACTLY
    )
    assert_close(
        grads(Affine.apply, inputs, weight, bias),
        grads(functional.linear, inputs, weight, bias),
        **EXACTLY,
    )


def test_backward_is_the_derivative_of_forward() -> None:
    assert gradcheck(Affine.apply, (drawn(3, 4), drawn(2, 4), drawn(2)))
