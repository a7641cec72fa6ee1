"""`cnnbench gradcheck`: the table of differences, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.command import Command
from torch import nn

from cnnbench.commands import gradcheck
from cnnbench.reference import batch_norm, swap


class Wrong(nn.Linear):
    """Outputs that are right, and a gradient of the weights that is not."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (
            inputs @ self.weight.T
            + self.bias
            + 1e-6 * (self.weight.sum() - self.weight.sum().detach())
        )


def test_every_layer_of_lenet_agrees_with_torch_and_with_numerical_derivatives(
    within: Command, tmp_path: Path
) -> None:
    result = within("gradcheck", "model=lenet")
    assert (result.returncode, result.stderr) == (0, "")
    names = [line.split()[0] for line in result.stdout.splitlines()[3:17]]
    assert names == [
        *(f"features.{i}" for i in range(6)),
        *(f"classifier.{i}" for i in range(6)),
        "loss",
        "network",
    ]
    assert "BEYOND" not in result.stdout
    assert (
        len({len(line) for line in result.stdout.splitlines()[2:19]}) == 1
    )  # numbers end in one column
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_printed_before_the_next_is_computed(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gradcheck, "compare_network", interrupt)
    result = within("gradcheck", "model=mlp", "model.widths=[5]", "data.resize=4")
    assert result.returncode == 130
    assert result.stdout.splitlines()[-1].split()[:2] == ["loss", "cross_entropy"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=bn_lenet", "train.loss=mse"],
        [
            "model=lenet",
            "model.pooling=max",
            "model.activation=relu",
            "model.padding_mode=reflect",
            "train.loss=nll",
        ],
        ["model=resnet20", "model.depth=8", "data.resize=8", "train.label_smoothing=0.1"],
        pytest.param(
            ["model=densenet_bc100", "model.depth=16", "data.resize=12", "model.dropout=0.5"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["model=preact_resnet110", "model.depth=20", "data.resize=8"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["model=googlenet", "model.auxiliary=true", "data.resize=65", "--batch", "3"],
            marks=pytest.mark.slow,
        ),
        ["model=mlp", "model.widths=[5]", "data.resize=4", "--batch", "3"],
        ["data=cifar10", "model=simple_cnn"],
    ],
    ids=" ".join,
)
def test_other_networks_agree(within: Command, overrides: list[str]) -> None:
    result = within("gradcheck", *overrides)
    assert result.returncode == 0, result.stdout


MOVING = batch_norm.NormalizeByMovingAverages.forward
LISTS = """
from torch import nn


class Lists(nn.Flatten):
    def __init__(self, in_channels, num_classes, image_size):
        super().__init__()

    def forward(self, images):
        return [super().forward(images)]
"""
MINE = """
import torch
from torch import nn


class MyNet(nn.Module):
    def __init__(self, in_channels, num_classes, image_size):
        super().__init__()
        self.first = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.gaps = nn.Conv2d(4, 4, 3, dilation=2)
        self.relu = nn.ReLU(inplace=True)
        self.gelu = nn.GELU()
        self.unused = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(1))
        self.last = nn.Linear(4 * (image_size - 4) ** 2, num_classes)

    def forward(self, images):
        maps = self.again(self.relu(self.again(self.relu(self.first(images)))))
        return self.last(self.gelu(self.relu(self.gaps(maps))).view(len(images), -1) * self.scale)
"""


def test_a_network_of_ones_own_may_have_what_those_of_the_zoo_have_not(
    within: Command, tmp_path: Path
) -> None:
    (tmp_path / "check_my_module.py").write_text(MINE)
    result = within(
        "gradcheck", "model=simple_cnn", "model.name=check_my_module:MyNet", "data.resize=9"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "Not written by hand, and torch's in both: Conv2d, GELU." in result.stdout
    assert "unused" not in result.stdout


def test_a_wrong_gradient_ends_it_with_another_code_and_is_named(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(swap.TWINS, nn.Linear, Wrong)
    result = within("gradcheck", "model=simple_cnn")
    assert result.returncode == 6
    assert "Beyond the tolerance: layers.7, network." in result.stdout
    told = json.loads(within("gradcheck", "model=simple_cnn", "--json").stdout)
    assert (told["model"], told["passed"]) == ("simple_cnn", False)
    linear = next(row for row in told["compared"] if row["kind"] == "Linear")
    assert linear["differences"]["outputs"] < 1e-9 < linear["differences"]["gradients"]
    assert list(linear["beyond"]) == ["gradients"]


@pytest.mark.parametrize(
    ("operation", "broken"),
    [
        ("forward", lambda ctx, inputs, mean, *others: MOVING(ctx, inputs, mean + 1, *others)),
        ("backward", lambda ctx, grad: (2 * grad, None, None, None, None, None)),
    ],
)
def test_evaluation_is_looked_at_where_it_is_another(
    within: Command, monkeypatch: pytest.MonkeyPatch, operation: str, broken: Callable[..., object]
) -> None:
    monkeypatch.setattr(batch_norm.NormalizeByMovingAverages, operation, staticmethod(broken))
    result = within("gradcheck", "model=bn_lenet")
    assert result.returncode == 6
    assert "BatchNorm2d" in next(
        line for line in result.stdout.splitlines() if line.endswith("BEYOND")
    )


def test_moving_averages_are_looked_at(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        batch_norm,
        "_update_moving_averages",
        lambda layer, mean, variance: layer.running_mean.add_(mean),
    )
    assert within("gradcheck", "model=bn_lenet").returncode == 6


def test_json_says_that_all_passed(within: Command) -> None:
    assert json.loads(within("gradcheck", "model=lenet", "--json").stdout)["passed"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-m", "model=lenet,nin"],
            "cnnbench gradcheck looks at one network: -m is for cnnbench train.",
        ),
        (["--batch", "1"], "--batch 1 is out of range. It must be at least 2, to be normalized."),
        (["--batch", "x"], "--batch x is not a whole number."),
        (["model=alexnet", "data.resize=28"], "The smallest size is data.resize=67."),
        (["model=lenett"], "lenet"),
        (
            ["model=simple_cnn", "model.name=check_lists:Lists"],
            "must return logits of shape (1, 10) for one image",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_said(
    within: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "check_lists.py").write_text(LISTS)
    result = within("gradcheck", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
