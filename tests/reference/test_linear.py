"""The affine layer of the reference implementation, compared with PyTorch's."""

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
def test_outputs_and_gradients_match_torch(n: int, d: int, m: int, biased: bool) -> None:
    inputs, weight = random_tensor(n, d), random_tensor(m, d)
    bias = random_tensor(m) if biased else None
    tensors = inputs, weight, bias
    assert_close(Affine.apply(*tensors), functional.linear(*tensors), **EXACTLY)
    assert_close(
        compute_gradients(Affine.apply, *tensors),
        compute_gradients(functional.linear, *tensors),
        **EXACTLY,
    )


def test_backward_passes_gradcheck() -> None:
    assert gradcheck(Affine.apply, (random_tensor(3, 4), random_tensor(2, 4), random_tensor(2)))
