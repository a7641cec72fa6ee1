"""The rules for shapes on the meta device, compared with PyTorch, and the forward check."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.analysis.meta_shapes import ShapeRules, check_forward
from cnnbench.errors import ConfigError

# These networks and options cover all operations of the networks in the registry.
NETWORKS: list[tuple[str, int, dict[str, Any]]] = [
    ("lenet", 29, {}),
    ("lenet", 28, {"activation": "tanh", "pooling": "min", "padding_mode": "reflect"}),
    ("mlp", 28, {}),
    ("mlp", 28, {"activation": "step"}),
    ("alexnet", 97, {}),
    ("vgg11", 33, {"batch_norm": True, "padding_mode": "circular"}),
    ("nin", 96, {"padding_mode": "replicate"}),
    ("googlenet", 65, {"auxiliary": True}),
    ("inception_net", 28, {}),
    ("bn_lenet", 28, {}),
    ("d2l_resnext", 33, {}),
    ("d2l_densenet", 45, {}),
    ("resnet18", 29, {}),
    ("resnet20", 29, {}),
    ("resnet9", 29, {}),
    ("wide_resnet16_8", 29, {"dropout": 0.3}),
    ("densenet_bc100", 32, {"dropout": 0.2}),
    *(("preact_resnet110", 32, {"depth": 8, "shortcut": shortcut}) for shortcut in (
        "identity", "constant_scaling", "exclusive_gating", "shortcut_only_gating", "conv1x1",
        "dropout",
    )),
]  # fmt: skip

Shapes = list[tuple[tuple[int, ...], torch.dtype]]


def outputs_and_saved(
    name: str, size: int, arguments: dict[str, Any], *, training: bool, rules: bool
) -> Shapes:
    """Return shape and dtype of layers' outputs and of the tensors that autograd saves, in order.

    Autograd saves tensors only if `training` is true.
    """
    with torch.device("meta"):
        network = models.build(name, 3, 7, size, **arguments).train(training)
        images = torch.empty(4, 3, size, size)
    shapes: Shapes = []

    def record(tensor: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(tensor.shape), tensor.dtype))
        return tensor

    def record_outputs(
        _layer: nn.Module, _inputs: object, outputs: torch.Tensor | tuple[torch.Tensor, ...]
    ) -> None:
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            record(output)

    for layer in network.modules():
        layer.register_forward_hook(record_outputs)
    saving = torch.autograd.graph.saved_tensors_hooks(record, record)
    with ShapeRules() if rules else nullcontext(), saving, torch.set_grad_enabled(training):
        network(images)
    return shapes


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("name", "size", "arguments"), NETWORKS, ids=str)
def test_output_and_saved_shapes_match_pytorch(
    name: str, size: int, arguments: dict[str, Any], training: bool
) -> None:
    expected = outputs_and_saved(name, size, arguments, training=training, rules=False)
    assert outputs_and_saved(name, size, arguments, training=training, rules=True) == expected


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize(
    "operation",
    [
        lambda: functional.conv2d(meta(1, 3, 8, 8), meta(4, 2, 3, 3)),
        lambda: functional.conv2d(meta(1, 3, 2, 2), meta(4, 3, 3, 3)),
        lambda: functional.max_pool2d(meta(1, 3, 2, 2), 3),
        lambda: functional.max_pool2d(meta(1, 3, 8, 8), 2, padding=2),
        lambda: functional.avg_pool2d(meta(1, 3, 2, 2), 3),
        lambda: functional.linear(meta(2, 3), meta(5, 4), meta(5)),
        lambda: torch.cat([meta(1, 3, 2, 2), meta(1, 3, 4, 4)], dim=1),
        lambda: meta(2, 3) + meta(2, 4),
        lambda: nn.BatchNorm2d(4, device="meta")(meta(2, 3, 2, 2)),
    ],
    ids=[
        "channels", "kernel", "max pooling", "padding", "average pooling", "features", "cat", "sum",
        "normalization",
    ],
)  # fmt: skip
def test_invalid_shapes_raise_as_in_pytorch(operation: Any) -> None:
    with pytest.raises(RuntimeError), ShapeRules():
        operation()


@pytest.mark.parametrize(
    "operation",
    [
        lambda: functional.conv_transpose2d(meta(1, 3, 8, 8), meta(3, 4, 3, 3), stride=2),
        lambda: functional.conv1d(meta(2, 3, 9), meta(4, 3, 3)),
        lambda: functional.conv2d(meta(1, 4, 9, 9), meta(6, 2, 3, 3), dilation=2, groups=2),
        lambda: functional.max_pool2d(meta(1, 3, 8, 8), 3, ceil_mode=True),
        lambda: functional.avg_pool2d(meta(1, 3, 8, 8), 3, ceil_mode=True),
        lambda: functional.avg_pool2d(meta(3, 8, 8), 2),
        lambda: meta(2, 1) + meta(1, 3),
        lambda: meta(2, 3) + meta(2, 3, dtype=torch.float64),
        lambda: meta(2, 3, dtype=torch.int64) + 0.5,
        lambda: torch.cat([meta(2, 3), meta(2, 4)], dim=-1),
        lambda: meta(2, 3, 4).mean(dim=1),
        lambda: meta(2, 3, 4, 5).mean(dim=(2, 3)),
    ],
    ids=[
        "transposed", "one dimension", "dilated", "ceil max", "ceil average", "no batch",
        "broadcast", "types", "integers", "last dimension", "mean of one", "mean of maps",
    ],
)  # fmt: skip
def test_unusual_arguments_give_shapes_of_pytorch(operation: Any) -> None:
    expected = operation()
    with ShapeRules():
        output = operation()
    assert (output.shape, output.dtype) == (expected.shape, expected.dtype)


def test_values_of_cpu_tensors_are_unchanged() -> None:
    with ShapeRules():
        assert (torch.ones(2) + torch.ones(2)).tolist() == [2.0, 2.0]


def test_check_forward_imports_neither_sympy_nor_compiler() -> None:
    code = (
        "import sys; from cnnbench.analysis.meta_shapes import check_forward;"
        "check_forward('resnet18', 1, 10, 32);"
        "print([name for name in ('sympy', 'torch._dynamo') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout == "[]\n"


Forward = Callable[[torch.Tensor, torch.Tensor], object]


class Probe(nn.Module):
    """A network with one weight whose output is `forward_function(images, weight)`."""

    def __init__(self, forward_function: Forward) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10))
        self.forward_function = forward_function

    def forward(self, images: torch.Tensor) -> object:
        return self.forward_function(images, self.weight)


ProbeMaker = Callable[[Forward], str]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> ProbeMaker:
    """Return a function that adds a `Probe` to the registry and returns its name."""

    def register(forward: Forward) -> str:
        monkeypatch.setitem(
            models.REGISTRY, "probe", models.ModelSpec(lambda **_: Probe(forward), 1, "a test")
        )
        return "probe"

    return register


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (lambda images, weight: weight, r"\(10,\)"),
        (lambda images, weight: weight.expand(1, 1, 10), r"\(1, 1, 10\)"),
        (lambda images, weight: weight[:9].unsqueeze(0), r"\(1, 9\)"),
        (lambda images, weight: [weight.unsqueeze(0)], "list"),
    ],
    ids=["no batch", "too many dimensions", "too few classes", "no tensor"],
)
def test_check_forward_rejects_wrong_output(output: Forward, shown: str, probe: ProbeMaker) -> None:
    with pytest.raises(ConfigError, match=rf"must return logits of shape \(1, 10\).*not {shown}"):
        check_forward(probe(output), 1, 10, 28)


def test_check_forward_reports_failing_network(probe: ProbeMaker) -> None:
    with pytest.raises(ConfigError, match="probe fails on an image of 28 pixels: "):
        check_forward(probe(lambda images, weight: images @ weight), 1, 10, 28)


def test_check_forward_runs_on_meta_device(probe: ProbeMaker) -> None:
    devices: list[str] = []

    def forward(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        devices.extend((images.device.type, weight.device.type))
        return weight.unsqueeze(0)

    check_forward(probe(forward), 1, 10, 28)
    assert devices == ["meta", "meta"]
