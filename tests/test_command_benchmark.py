"""`cnnbench benchmark`, as a user meets it."""

import json
from pathlib import Path

import pytest
import torch
from installed import TINY, Command

QUICK = (*TINY, "device.threads=1")


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "outputs").rglob("benchmark.json"))]


@pytest.fixture(autouse=True)
def _quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.training.measure.WARM_UP_S", 0.01)
    monkeypatch.setattr("cnnbench.training.measure.ROUND_S", 0.01)
    monkeypatch.setattr("cnnbench.commands.benchmark.matrix_peak", lambda device, rounds: 1e10)


def test_a_network_is_measured_and_recorded(within: Command, tmp_path: Path) -> None:
    done = within("benchmark", *QUICK, "--rounds", "3")
    assert done.returncode == 0, done.stderr
    (result,) = results(tmp_path)
    assert (result["model"], result["image_size"], result["batch_size"]) == ("lenet_relu", 28, 32)
    assert tuple(result[key] for key in ("device", "precision", "engine", "compile")) == ("cpu", "fp32", "eager", False)
    assert result["torch"] == torch.__version__.partition("+")[0]
    training = result["training"]
    assert training["min_s"] <= training["median_s"] <= training["max_s"]
    assert training["examples_per_s"] == pytest.approx(32 / training["median_s"])
    assert training["rounds"] == 3
    flops = result["flops"]
    assert result["share_of_peak"] == pytest.approx(flops["training_step"] / training["median_s"] / 1e10)
    assert result["epoch"]["examples_per_s"] == pytest.approx(256 / result["epoch"]["seconds"])
    assert result["peak_gib"] > 0


def test_the_table_has_a_row_for_each_network(within: Command) -> None:
    done = within("benchmark", "-m", *QUICK, "model=lenet,mlp", "--rounds", "1")
    rows = [line.split()[0] for line in done.stdout.splitlines() if " fp32 eager " in line]
    assert rows == ["lenet", "mlp"]


def test_an_epoch_that_takes_too_long_is_not_run(within: Command, tmp_path: Path) -> None:
    done = within("benchmark", *QUICK, "--rounds", "1", "--epoch-limit", "0")
    (result,) = results(tmp_path)
    assert (result["epoch"]["seconds"], result["epoch"]["examples_per_s"]) == (None, None)
    assert "not run" in done.stdout


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["gpu", "cpu"],
)
def test_memory_that_does_not_suffice_is_a_result(
    error: RuntimeError, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cnnbench.training.engine.EagerEngine.train_step", fail)
    done = within("benchmark", *QUICK)
    (result,) = results(tmp_path)
    assert done.returncode == 0
    assert (result["out_of_memory"], result["batch_size"]) == (str(error), 32)
    assert "out of memory" in done.stdout


def test_any_other_error_of_torch_is_not_taken_for_that(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("cnnbench.training.engine.EagerEngine.train_step", fail)
    assert within("benchmark", *QUICK).returncode == 1


def test_rounds_must_be_positive(within: Command) -> None:
    done = within("benchmark", "--rounds", "0")
    assert (done.returncode, done.stderr) == (2, "cnnbench: --rounds 0 is out of range. It must be at least 1.\n")
