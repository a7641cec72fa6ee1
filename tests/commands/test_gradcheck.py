"""`cnnbench gradcheck`: the table of differences, and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.command import Command
from helpers.custom_files import write_all_solutions, write_changed
from helpers.fork_server import ForkServer
from torch import nn

from cnnbench.commands import gradcheck
from cnnbench.reference import batch_norm, swap


class Wrong(nn.Linear):
    """A linear layer with right outputs and a wrong gradient of the weights."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (
            inputs @ self.weight.T
            + self.bias
            + 1e-6 * (self.weight.sum() - self.weight.sum().detach())
        )


def test_every_layer_of_lenet_agrees_with_torch_and_numerical_derivatives(
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
    widths = {len(line) for line in result.stdout.splitlines()[2:19]}
    assert len(widths) == 1
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


def test_custom_model_may_have_layers_without_a_reference(within: Command, tmp_path: Path) -> None:
    (tmp_path / "check_my_module.py").write_text(MINE)
    result = within(
        "gradcheck", "model=simple_cnn", "model.name=check_my_module:MyNet", "data.resize=9"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "Without a reference implementation, torch's in both: Conv2d, GELU." in result.stdout
    assert "unused" not in result.stdout


def test_wrong_gradient_is_named_and_exits_with_6(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(swap.TWINS, nn.Linear, Wrong)
    result = within("gradcheck", "model=simple_cnn")
    assert result.returncode == 6
    assert "Beyond the tolerance: layers.7, network." in result.stdout
    report = json.loads(within("gradcheck", "model=simple_cnn", "--json").stdout)
    assert (report["model"], report["passed"]) == ("simple_cnn", False)
    linear = next(row for row in report["compared"] if row["kind"] == "Linear")
    assert linear["differences"]["outputs"] < 1e-9 < linear["differences"]["gradients"]
    assert list(linear["beyond"]) == ["gradients"]


@pytest.mark.parametrize(
    ("operation", "broken"),
    [
        ("forward", lambda ctx, inputs, mean, *others: MOVING(ctx, inputs, mean + 1, *others)),
        ("backward", lambda ctx, grad: (2 * grad, None, None, None, None, None)),
    ],
)
def test_wrong_batch_norm_in_evaluation_mode_is_found(
    within: Command, monkeypatch: pytest.MonkeyPatch, operation: str, broken: Callable[..., object]
) -> None:
    monkeypatch.setattr(batch_norm.NormalizeByMovingAverages, operation, staticmethod(broken))
    result = within("gradcheck", "model=bn_lenet")
    assert result.returncode == 6
    assert "BatchNorm2d" in next(
        line for line in result.stdout.splitlines() if line.endswith("BEYOND")
    )


def test_wrong_moving_averages_are_found(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        batch_norm,
        "_update_moving_averages",
        lambda layer, mean, variance: layer.running_mean.add_(mean),
    )
    assert within("gradcheck", "model=bn_lenet").returncode == 6


def test_json_reports_that_all_passed(within: Command) -> None:
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
        (["--time-limit", "0"], "--time-limit 0 is out of range. It must be from 1 to 86400."),
        (["--time-limit", "inf"], "--time-limit inf is out of range. It must be from 1 to 86400."),
        (["reference.module=absent"], "reference.module=absent: there is no absent.py in "),
        (["reference.module=''"], "reference.module"),
        (["model=alexnet", "data.resize=28"], "The smallest size is data.resize=67."),
        (["model=lenett"], "lenet"),
        (
            ["model=simple_cnn", "model.name=check_lists:Lists"],
            "must return logits of shape (1, 10) for one image",
        ),
    ],
    ids=str,
)
def test_wrong_arguments_are_reported(
    within: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "check_lists.py").write_text(LISTS)
    result = within("gradcheck", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_custom_classes_are_compared_before_the_network(within: Command, tmp_path: Path) -> None:
    write_all_solutions(tmp_path / "mine.py")
    result = within("gradcheck", "model=mlp", "model.widths=[5]", "reference.module=mine")
    assert (result.returncode, result.stderr) == (0, "")
    names = [line.split()[0] for line in result.stdout.splitlines()[3:26]]
    assert list(dict.fromkeys(names)) == [
        *("ReLU", "Sigmoid", "Tanh", "BatchNorm2d", "Conv2d", "Dropout", "Linear"),
        *("CrossEntropyLoss", "SGD", "Momentum", "AdaGrad", "Adam", "MaxPool2d", "AvgPool2d"),
        *("layers.0", "layers.1", "layers.2", "layers.3", "loss"),
    ]
    assert "differences of the classes in mine.py and of the reference" in result.stdout
    assert "What looks wrong" not in result.stdout
    assert "BEYOND" not in result.stdout


def test_wrong_custom_class_is_explained_and_exits_with_6(within: Command, tmp_path: Path) -> None:
    write_changed(tmp_path, "Linear", "dout.sum(axis=0)", "dout.mean(axis=0)")
    arguments = ("gradcheck", "model=mlp", "model.widths=[5]", "reference.module=changed.py")
    result = within(*arguments)
    assert result.returncode == 6
    assert result.stdout.endswith(
        "\nWhat looks wrong in changed.py:\n"
        "- Linear.backward, db: it is divided by N = 3 once too often.\n"
    )
    report = json.loads(within(*arguments, "--json").stdout)
    assert report["passed"] is False
    rows = [row for row in report["compared"] if row["name"] == "Linear"]
    assert [row["beyond"].keys() for row in rows] == [{"gradients", "numerical"}] * 2
    assert rows[1]["problems"] == ["Linear.backward, db: it is divided by N = 3 once too often."]
    assert "problems" not in rows[0]


def test_custom_class_that_fails_only_in_the_network_is_reported(
    within: Command, tmp_path: Path
) -> None:
    write_changed(
        tmp_path,
        "ReLU",
        "self.is_positive = x > 0",
        "assert len(x) > 2\n        self.is_positive = x > 0",
    )
    result = within("gradcheck", "model=mlp", "model.widths=[5]", "reference.module=changed.py")
    assert result.returncode == 6
    assert "Not computed: layers.2, network." in result.stdout
    assert "- ReLU.forward: AssertionError (changed.py, line 11).\n" in result.stdout


@pytest.mark.slow
def test_custom_dropout_is_compared_by_its_mask_and_left_out_of_the_network(
    within: Command, tmp_path: Path
) -> None:
    write_all_solutions(tmp_path / "mine.py")
    network = ("model=densenet40", "model.depth=7", "model.growth_rate=2", "model.dropout=0.5")
    result = within("gradcheck", *network, "data.resize=4", "reference.module=mine", "--batch", "4")
    assert result.returncode == 0, result.stdout


def test_custom_class_that_never_ends_stops_the_check(within: Command, tmp_path: Path) -> None:
    write_changed(tmp_path, "ReLU", "return", "while True: pass\n        return")
    result = within("gradcheck", "reference.module=changed.py", "--time-limit", "1")
    assert result.returncode == 2
    assert "ReLU.forward did not end within 1 s (changed.py, line 12)." in result.stderr


@pytest.mark.slow
def test_code_that_catches_every_exception_is_ended_after_the_time_limit(
    forks: ForkServer, tmp_path: Path
) -> None:
    body = "import time\n        while True:\n            try: time.sleep(60)\n"
    body += "            except BaseException: pass\n"
    write_changed(tmp_path, "ReLU", "return", f"{body}        return")
    arguments = ("reference.module=changed.py", "--time-limit", "1")
    result = forks.run("gradcheck", *arguments, folder=tmp_path)
    assert result.returncode == 1
    assert "Timeout (0:00:06)!" in result.stderr
    assert "changed.py" in result.stderr
