"""Runs on the command line with the classes of the user's file."""

import csv
import signal
from pathlib import Path

import pytest
from helpers.command import Command, resume_arguments
from helpers.compare_runs import find_differences
from helpers.custom_files import SOLUTIONS, write_all_solutions
from helpers.fork_server import ForkServer

from cnnbench.config import load_config
from cnnbench.config.load import parse
from cnnbench.runs.directory import resume_command

SMALL = (
    *("data=sample", "data.train_examples=60", "data.test_examples=20", "data.validation=20"),
    *("train.epochs=2", "train.batch_size=16"),
    *("device=cpu", "device.threads=1", "device.precision=fp64"),
)
OWN = ("reference=all", "reference.module=my_layers")
DENSE = (  # batch normalization and dropout
    *("model=densenet40", "model.depth=7", "model.growth_rate=4", "model.dropout=0.2"),
    "data.resize=16",
)
TIMES = ("epoch_s", "examples_per_s", "peak_gib")


@pytest.fixture
def my_layers(tmp_path: Path) -> Path:
    """Return the path of my_layers.py in the working folder, with all solutions."""
    write_all_solutions(tmp_path / "my_layers.py")
    return tmp_path / "my_layers.py"


def train(within: Command, name: str, *overrides: str) -> list[dict[str, float]]:
    result = within(*SMALL, *overrides, f"hydra.run.dir={name}")
    assert result.returncode == 0, result.stderr
    with (Path(name) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: float(row[key]) for key in row if key not in TIMES} for row in rows]


@pytest.mark.usefixtures("my_layers")
@pytest.mark.parametrize(
    "shared",
    [
        ["model=lenet", "optimizer.lr=0.5", "data.resize=12"],
        pytest.param(
            ["model=bn_lenet", "optimizer=adam", "train.label_smoothing=0.1"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["model=simple_cnn", "optimizer=momentum", "augment=mixup", "scheduler=onecycle"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["model=simple_cnn", "optimizer=adagrad", "optimizer.weight_decay=0.01"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_run_with_the_solutions_has_the_metrics_of_pytorch(
    within: Command, shared: list[str]
) -> None:
    library = train(within, "torch", *shared)
    expected = [pytest.approx(row, abs=1e-9, rel=1e-9) for row in library]
    assert train(within, "own", *shared, *OWN) == expected


@pytest.mark.usefixtures("my_layers")
def test_classes_in_use_are_logged(within: Command) -> None:
    train(within, "run", *OWN, *DENSE, "train.epochs=1")
    log = (Path("run") / "train.log").read_text()
    kinds = "AvgPool2d, BatchNorm2d, Conv2d, CrossEntropyLoss, Dropout, Linear, Momentum, ReLU"
    assert f"my_layers.py computes {kinds}\n" in log
    train(within, "layers", "reference.layers=true", OWN[1], "model=lenet", "train.epochs=1")
    log = (Path("layers") / "train.log").read_text()
    assert "my_layers.py computes AvgPool2d, Conv2d, Linear, Sigmoid\n" in log


@pytest.mark.usefixtures("my_layers")
@pytest.mark.parametrize(
    "recipe",
    [
        [*DENSE, "optimizer=adam"],
        pytest.param([*DENSE, "optimizer=momentum"], marks=pytest.mark.slow),
        pytest.param([*DENSE, "optimizer=adagrad"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_resumed_run_has_the_same_bits(within: Command, recipe: list[str]) -> None:
    train(within, "whole", *OWN, *recipe)
    train(within, "parts", *OWN, *recipe, "train.epochs=1")
    assert within("resume", "parts", "train.epochs=2", OWN[1]).returncode == 0
    assert set(find_differences(Path("whole"), Path("parts"))) <= {"best.pt.config.train.epochs"}


@pytest.mark.slow
@pytest.mark.usefixtures("my_layers")
@pytest.mark.parametrize("fault", [("step", 7), ("checkpoint", 4)], ids=str)
def test_killed_run_ends_with_the_same_bits(
    forks: ForkServer, tmp_path: Path, fault: tuple[str, int]
) -> None:
    job = (*SMALL, *OWN, *DENSE, "optimizer=adam", "train.checkpoint_every.steps=2")
    assert forks.run(*job, "hydra.run.dir=whole", folder=tmp_path).returncode == 0
    killed = forks.run(
        *job, "hydra.run.dir=run", folder=tmp_path, faults=[(signal.SIGKILL, *fault)]
    )
    assert killed.returncode == -signal.SIGKILL
    resumed = forks.run(*resume_arguments(tmp_path / "run", job), OWN[1], folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert find_differences(tmp_path / "whole", tmp_path / "run") == []


def test_recorded_file_is_run_only_if_the_user_names_it(within: Command, my_layers: Path) -> None:
    train(within, "run", *OWN, "model=mlp", "train.epochs=1")
    my_layers.write_text("raise RuntimeError('this file was run')")
    for command in (["resume", "run", "train.epochs=2"], ["evaluate", "run"]):
        result = within(*command)
        assert result.returncode == 2
        assert (
            "run runs code from outside cnnbench: reference.module=my_layers. If you trust it: "
            f"cnnbench {' '.join(command[:2])} reference.module=my_layers"
        ) in result.stderr
        assert "this file was run" in within(*command, OWN[1]).stderr
    assert within("evaluate", "run", "reference=none").returncode == 0


@pytest.mark.usefixtures("my_layers")
def test_run_is_not_resumed_by_another_optimizer(within: Command) -> None:
    train(within, "run", *OWN, "model=mlp", "optimizer=adam", "train.epochs=1")
    result = within("resume", "run", "train.epochs=2", "reference.module=null")
    assert result.returncode == 5
    assert "does not fit this run: the optimizer's beta1 does not have the shape" in result.stderr


@pytest.mark.usefixtures("my_layers")
def test_resume_command_names_the_file(within: Command) -> None:
    train(within, "run", *OWN, "model=mlp", "train.epochs=1")
    config = load_config(parse((Path("run") / "config.yaml").read_text()))
    assert resume_command(Path("run"), config) == f"cnnbench resume run {OWN[1]}"


def test_run_recorded_before_the_key_loads(within: Command) -> None:
    train(within, "run", "model=mlp", "train.epochs=1")
    values = parse((Path("run") / "config.yaml").read_text())
    assert values["reference"].pop("module") is None
    assert load_config(values).reference.module is None


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "class Conv2d: pass",
            [OWN[1], "model=lenet"],
            "reference.module=my_layers: this run uses none of its classes: Conv2d. "
            "Add reference.layers=true",
        ),
        (
            "class Conv2d: pass",
            [*OWN, "model=mlp"],
            "this run uses none of its classes: Conv2d.",
        ),
        (
            "class (",
            OWN,
            "reference.module=my_layers: my_layers.py, line 1: invalid syntax: class (",
        ),
        ("", OWN, "reference.module=my_layers has no class to use."),
        (
            "class ReLU:\n    def forward(self, x):\n        raise NotImplementedError",
            [*OWN, "model=mlp"],
            "ReLU.forward is not written yet (my_layers.py, line 3).",
        ),
        (
            "class ReLU:\n    def forward(self, x):\n        return x[:1]",
            [*OWN, "model=mlp"],
            "ReLU.forward returned an array (1, 512). It must be (16, 512).",
        ),
        (
            "class ReLU:\n    def forward(self, x):\n        return x",
            [*OWN, "model=mlp"],
            "ReLU has no method backward(self, dout).",
        ),
        (
            "class ReLU: pass",
            [*OWN, "device.compile=true"],
            "device.compile=true: reference.module is Python code that cannot be compiled",
        ),
        (
            "class ReLU: pass",
            [*OWN, "device.cuda_graphs=true"],
            "device.cuda_graphs=true: reference.module is Python code that cannot be compiled",
        ),
    ],
)
def test_file_that_cannot_train_is_an_error(
    within: Command, tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    (tmp_path / "my_layers.py").write_text(text)
    result = within(*SMALL, *overrides)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_file_is_checked_before_a_run_directory_is_claimed(within: Command, tmp_path: Path) -> None:
    assert within(*SMALL, *OWN, "hydra.run.dir=run").returncode == 2
    assert not (tmp_path / "run").exists()


def test_sweep_takes_a_file_for_each_job(within: Command, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_bytes((SOLUTIONS / "activations.py").read_bytes())
    jobs = "reference.module=first.py,second.py"
    overrides = [word for word in SMALL if word != "train.epochs=2"]
    result = within(
        "-m", *overrides, "train.epochs=1", "model=mlp", "reference.layers=true", jobs, "sweep=two"
    )
    assert result.returncode == 0, result.stderr
    logs = sorted((tmp_path / "outputs" / "sweeps" / "two").rglob("train.log"))
    assert [log.read_text().count(" computes ReLU\n") for log in logs] == [1, 1]
