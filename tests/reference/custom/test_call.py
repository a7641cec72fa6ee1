"""Arrays in and out of the user's classes: types, copies, and messages on wrong ones."""

from pathlib import Path

import pytest
import torch
from helpers.custom_files import write_changed

from cnnbench.reference.custom.call import CustomCall, explain_shape
from cnnbench.reference.custom.module import CustomCodeError, load_custom

RELU = "x * self.is_positive"
ONES = torch.ones(2, 3)


def call_relu(folder: Path, returned: str) -> torch.Tensor:
    custom = write_changed(folder, "ReLU", RELU, returned)
    return CustomCall(custom, "ReLU", shape=(2, 3)).forward(ONES, ())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "ReLU.forward returned None, not an array (2, 3). Is its return missing?"),
        ("'text'", "ReLU.forward returned str, not an array."),
        ("x[:1]", "ReLU.forward returned an array (1, 3). It must be (2, 3)."),
        ("x.T", "ReLU.forward returned an array (3, 2). It must be (2, 3): it is transposed."),
        ("x.sum()", "ReLU.forward returned an array (). It must be (2, 3)."),
    ],
)
def test_wrong_outputs_are_an_error(tmp_path: Path, returned: str, message: str) -> None:
    with pytest.raises(CustomCodeError) as error:
        call_relu(tmp_path, returned)
    assert str(error.value) == message


@pytest.mark.parametrize("returned", ["x.tolist()", "x.astype(float)", "x"])
def test_outputs_are_copied_with_the_dtype_of_the_inputs(tmp_path: Path, returned: str) -> None:
    outputs = call_relu(tmp_path, returned)
    assert outputs.dtype == torch.float32
    outputs += 1
    assert torch.equal(ONES, torch.ones(2, 3))


def test_user_may_change_the_arrays_it_gets(tmp_path: Path) -> None:
    custom = write_changed(tmp_path, "ReLU", RELU, "np.negative(x, out=x)")
    call, inputs, dout = CustomCall(custom, "ReLU", shape=(2, 3)), ONES.clone(), ONES.clone()
    call.forward(inputs, ())
    call.backward(dout)
    assert torch.equal(inputs, ONES)


def test_gradient_that_is_not_set_is_an_error(tmp_path: Path) -> None:
    custom = write_changed(tmp_path, "Linear", "self.db = ", "db = ")
    call = CustomCall(custom, "Linear", names=("W", "b"), shape=(2, 2))
    outputs = call.forward(ONES, (torch.ones(2, 3), torch.ones(2)))
    with pytest.raises(CustomCodeError, match=r"^Linear.backward must set self.db.$"):
        call.backward(outputs)


def test_file_with_arrays_of_torch_gets_tensors(tmp_path: Path) -> None:
    path = tmp_path / "tensors.py"
    path.write_text(
        'import torch\nARRAYS = "torch"\n\n\nclass ReLU:\n    def forward(self, x):\n'
        "        return torch.relu(x - 0.5)\n"
    )
    outputs = CustomCall(load_custom(str(path)), "ReLU", shape=(2, 3)).forward(ONES, ())
    assert torch.equal(outputs, ONES / 2)


@pytest.mark.parametrize(
    ("found", "expected", "sentence"),
    [
        ((8, 4), (4,), "the gradient is not summed over the batch"),
        ((8, 4, 5, 5), (4,), "the gradient is not summed over the batch"),
        ((8,), (4,), "the gradient is summed over the wrong axes"),
        ((3, 2), (2, 3), "it is transposed"),
        ((4, 2, 3, 5), (4, 2, 5, 3), "it is transposed"),
        ((4, 2), (4, 3), ""),
        ((1, 4), (4,), ""),
    ],
)
def test_shapes_of_known_mistakes_are_explained(
    found: tuple[int, ...], expected: tuple[int, ...], sentence: str
) -> None:
    assert explain_shape(found, expected) == sentence
