"""Networks with the layers of the solutions in place of PyTorch's."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.custom_files import load_solution, write_all_solutions
from helpers.random_tensors import EXACTLY
from torch import nn
from torch.testing import assert_close

from cnnbench.reference.convolution import Conv2d
from cnnbench.reference.custom.layers import find_custom_twin, make_custom_loss
from cnnbench.reference.custom.module import CustomCodeError, CustomModule, load_custom
from cnnbench.reference.swap import find_twin, use_reference


@pytest.fixture(scope="module")
def solutions(tmp_path_factory: pytest.TempPathFactory) -> CustomModule:
    path = tmp_path_factory.mktemp("solutions") / "all_layers.py"
    write_all_solutions(path)
    return load_custom(str(path))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3), (4, 2, 6, 5)),
        (nn.Conv2d(2, 3, (3, 3), stride=2, padding=1, bias=False), (4, 2, 7, 6)),
        (nn.Conv2d(2, 3, 3, padding=(1, 2)), (4, 2, 6, 5)),
        (nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect"), (4, 2, 6, 5)),
        (nn.Linear(4, 3), (5, 4)),
        (nn.Linear(4, 3, bias=False), (5, 2, 4)),
        (nn.MaxPool2d((3, 3), 2, 1), (4, 2, 6, 5)),
        (nn.AvgPool2d(3, 2, padding=1), (4, 2, 6, 5)),
        (nn.BatchNorm2d(2), (4, 2, 3, 3)),
        (nn.BatchNorm2d(2, affine=False), (4, 2, 3, 3)),
        (nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(inplace=True)), (4, 2, 3, 3)),
        (nn.Tanh(), (3, 4)),
        (nn.Sigmoid(), (3, 4)),
    ],
    ids=str,
)
def test_layer_has_the_numbers_of_pytorch(
    solutions: CustomModule, layer: nn.Module, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    library = nn.Sequential(copy.deepcopy(layer)).double()
    custom = copy.deepcopy(library)
    use_reference(custom, solutions)
    assert any(hasattr(inner, "custom") for inner in custom.modules())
    values, found = torch.randn(*shape, dtype=torch.float64), []
    for network in (custom, library):
        inputs = values.clone().requires_grad_()
        outputs = network(inputs * 1)
        weights = torch.linspace(-1, 2, outputs.numel(), dtype=torch.float64)
        (outputs * weights.view_as(outputs)).sum().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        evaluated = network.eval()(values)
        found.append([outputs, inputs.grad, *gradients, *network.buffers(), evaluated])
    assert_close(found[0], found[1], **EXACTLY)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(2, 4, 3, stride=(1, 2)),
        nn.MaxPool2d((2, 3)),
        nn.BatchNorm2d(2, momentum=None),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Flatten(),
    ],
    ids=str,
)
def test_layer_that_the_signature_does_not_describe_stays_the_reference(
    solutions: CustomModule, layer: nn.Module
) -> None:
    assert find_custom_twin(layer, solutions) is None
    assert find_twin(layer, solutions) is find_twin(layer)


def test_layers_without_a_class_in_the_file_stay_the_reference() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    use_reference(network, load_solution("ReLU"))
    assert type(network[0]) is Conv2d
    assert type(network[1]).__name__ == "ReLU"
    assert hasattr(network[1], "custom")


def test_dropout_draws_from_the_seed_of_torch(solutions: CustomModule) -> None:
    network = nn.Sequential(nn.Dropout(0.5))
    use_reference(network, solutions)
    torch.manual_seed(3)
    first, second = network(torch.ones(40)), network(torch.ones(40))
    np.random.seed(0)
    torch.manual_seed(3)
    assert torch.equal(network(torch.ones(40)), first)
    assert not torch.equal(first, second)
    assert set(first.tolist()) == {0.0, 2.0}
    assert torch.equal(network.eval()(torch.ones(40)), torch.ones(40))


def test_gradients_in_evaluation_are_those_of_pytorch(solutions: CustomModule) -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)).double().eval()
    use_reference(network, solutions)
    inputs = torch.ones(2, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    network(inputs).sum().backward()
    assert_close(inputs.grad, torch.full_like(inputs, (1 + 1e-5) ** -0.5))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_loss_has_the_numbers_of_pytorch(
    solutions: CustomModule, smoothing: float, mixed: bool
) -> None:
    torch.manual_seed(0)
    targets = torch.rand(4, 3, dtype=torch.float64).softmax(1) if mixed else torch.arange(4) % 3
    library = nn.CrossEntropyLoss(label_smoothing=smoothing)
    values, found = torch.randn(4, 3, dtype=torch.float64), []
    for loss in (make_custom_loss(solutions, smoothing), library):
        logits = values.clone().requires_grad_()
        (3 * loss(logits, targets)).backward()
        found.append((loss(logits, targets), logits.grad))
    assert_close(found[0], found[1], **EXACTLY)


def test_batch_norm_without_running_values_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "forgetful.py"
    path.write_text(
        "class BatchNorm2d:\n    def __init__(self, *arguments):\n        pass\n\n"
        "    def forward(self, x, training):\n        return x\n"
    )
    network = nn.Sequential(nn.BatchNorm2d(2))
    use_reference(network, load_custom(str(path)))
    with pytest.raises(CustomCodeError, match=r"^BatchNorm2d must keep self.running_mean.$"):
        network(torch.ones(2, 2, 3, 3))
