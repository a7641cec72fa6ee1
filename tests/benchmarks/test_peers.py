"""The comparison with other tools: its task, its table, and the tools that it skips."""

import ast
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.scripts import load_script

from cnnbench.data.catalog import get
from cnnbench.data.public_files import find_files

SCRIPT = ROOT / "benchmarks" / "peers.py"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds the folder of its loops
    return load_script(SCRIPT)


@pytest.fixture
def measured(peers: ModuleType) -> list[Any]:
    """Return two epochs of three tools on an idle machine, and one of two beside a process."""
    alike = {"test_accuracy": 0.5, "parameters": 61_706, "versions": {"torch": "2.14.1"}}
    return [
        peers.Measurement("d2l", 0, [9.0], **alike),
        peers.Measurement("pytorch", 0, [6.0], **alike),
        peers.Measurement("pytorch_tuned", 0, [4.0], **alike),
        peers.Measurement(
            "cnnbench", 0, [2.0], **{**alike, "test_accuracy": 0.625}, details="bf16"
        ),
        peers.Measurement("d2l", 0, [15.0], **alike),
        peers.Measurement("pytorch", 0, [6.0], **alike),
        peers.Measurement("cnnbench", 0, [4.0], **alike),
        peers.Measurement("pytorch", 1, [20.0], **alike),
        peers.Measurement("cnnbench", 1, [5.0], **alike),
    ]


def test_table_has_medians_ranges_and_ratios_of_each_load(
    peers: ModuleType, measured: list[Any]
) -> None:
    heading, _, *rows = peers.format_table(measured)
    assert heading.count("x d2l") == 2
    assert "| idle: s an epoch |" in heading
    assert "| beside 1 busy process: s an epoch |" in heading
    assert rows == [
        "| `d2l` | 12.00 (9.00-15.00) | 1.00 | 0.33 | - | - | - | 0.500-0.500 |",
        "| `pytorch` | 6.00 (6.00-6.00) | 2.00 | 0.67 | 20.00 (20.00-20.00) | - | 1.00 "
        "| 0.500-0.500 |",
        "| `pytorch_tuned` | 4.00 (4.00-4.00) | 3.00 | 1.00 | - | - | - | 0.500-0.500 |",
        "| `cnnbench` | 3.00 (2.00-4.00) | 4.00 | 1.33 | 5.00 (5.00-5.00) | - | 4.00 "
        "| 0.500-0.625 |",
    ]


def test_lines_below_the_table_name_chip_versions_and_what_is_missing(
    peers: ModuleType, measured: list[Any]
) -> None:
    task = peers.Task("lenet", {}, 28, 256, 0.9, 60_000, 10_000, 2, "cpu")
    skipped = {"keras_jax": "not installed: pip install keras jax"}
    training, machine, missing = peers.describe(measured, skipped, task, "cpu (EPYC), 2 cores")
    assert "61,706 parameters, batch 256, 60,000 training and 10,000 test images" in training
    assert "median and range of 2." in training
    assert machine.startswith("cpu (EPYC), 2 cores; cnnbench: bf16; Python ")
    assert "torch 2.14.1" in machine
    assert missing == "Not measured: `keras_jax` (not installed: pip install keras jax)."


def test_tool_that_is_not_installed_is_skipped_with_its_command(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(peers.TOOLS, "lightning", (("no_such_module",), "pip install lightning"))
    assert peers.find_skipped(["lightning", "cnnbench"], is_lenet=True) == {
        "lightning": "not installed: pip install lightning"
    }


def test_tool_that_has_lenet_alone_is_skipped_for_other_networks(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(peers.TOOLS, "keras_jax", ((), ""))
    assert peers.find_skipped(["keras_jax", "cnnbench"], is_lenet=True) == {}
    skipped = peers.find_skipped(["keras_jax", "cnnbench"], is_lenet=False)
    assert skipped == {"keras_jax": "has LeNet at 28 pixels alone"}


def test_each_tool_but_the_command_has_a_loop(peers: ModuleType) -> None:
    loops = runpy.run_path(str(peers.LOOPS / "__main__.py"))["LOOPS"]
    assert [*loops, "cnnbench"] == list(peers.TOOLS)
    for module, function in loops.values():
        tree = ast.parse((peers.LOOPS / f"{module}.py").read_text())
        assert function in [getattr(node, "name", None) for node in tree.body]


def test_task_follows_the_overrides(peers: ModuleType) -> None:
    settings = peers.load_settings(["model=alexnet", "data.resize=224", "train.batch_size=64"])
    task = peers.make_task(settings, [6000, 1000], 2, "cpu")
    assert (task.model, task.image_size, task.batch_size, task.lr) == ("alexnet", 224, 64, 0.01)
    assert (task.num_train, task.num_test, task.epochs) == (6000, 1000, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [("optimizer.momentum=0.9", "optimizer.momentum=0"), ("data=mnist", "not on data=mnist")],
)
def test_task_that_the_tools_do_not_share_is_refused(
    peers: ModuleType, override: str, message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        peers.make_task(peers.load_settings([override]), [6000, 1000], 1, "cpu")


def test_block_between_the_comments_is_replaced_again_and_again(peers: ModuleType) -> None:
    from table import BEGIN, END

    page = f"# Speed\n\n{BEGIN}\nold\n{END}\n\nmore\n"
    new = f"# Speed\n\n{BEGIN}\n\n| new |\n\n{END}\n\nmore\n"
    assert peers.replace_block(page, ["| new |"]) == new
    assert peers.replace_block(new, ["| new |"]) == new


def test_page_without_the_comments_is_refused(peers: ModuleType) -> None:
    with pytest.raises(SystemExit, match="needs two lines"):
        peers.replace_block("# Speed\n", ["| new |"])


def test_page_on_speed_has_the_comments(peers: ModuleType) -> None:
    page = (ROOT / "docs" / "speed.md").read_text()
    assert "| new |" in peers.replace_block(page, ["| new |"])


@pytest.mark.slow
def test_plain_loop_and_command_are_measured(tmp_path: Path) -> None:
    if find_files(get("fashion_mnist")).missing:
        pytest.skip("Fashion-MNIST is not on this machine")
    record = tmp_path / "peers.json"
    tools = ["pytorch_memory", "cnnbench"]
    options = ["--tools", ",".join(tools), "--rounds", "1", "--beside", "0", "--epochs", "2"]
    options += ["--examples", "512", "100", "--json", str(record), "device.threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(record.read_text())["measured"]
    assert [entry["tool"] for entry in measured] == tools
    for entry in measured:
        assert entry["parameters"] == 61_706
        assert len(entry["epoch_s"]) == 2
        assert min(entry["epoch_s"]) > 0
    assert "| `cnnbench` |" in done.stdout
    assert "512 training and 100 test images" in done.stdout
