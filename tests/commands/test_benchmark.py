"""`cnnbench benchmark`: measurements, records, tables and errors."""

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.command import TINY, Command

from cnnbench.commands import benchmark
from cnnbench.config import Config

QUICK = (*TINY, "device.threads=1", "device.precision=fp32")  # "auto" depends on the chip


def results(folder: Path) -> list[dict[str, object]]:
    return [
        json.loads(path.read_text())
        for path in sorted((folder / "outputs").rglob("benchmark.json"))
    ]


@pytest.fixture(autouse=True)
def _quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.analysis.timing.WARM_UP_S", 0.01)
    monkeypatch.setattr("cnnbench.analysis.timing.ROUND_S", 0.01)
    monkeypatch.setattr("cnnbench.commands.benchmark.measure_matrix_peak", lambda *_: 1e10)


def test_a_network_is_measured_and_recorded(within: Command, tmp_path: Path) -> None:
    done = within("benchmark", *QUICK, "--rounds", "3")
    assert done.returncode == 0, done.stderr
    (result,) = results(tmp_path)
    assert (result["model"], result["image_size"], result["batch_size"]) == ("lenet_relu", 28, 32)
    assert tuple(result[key] for key in ("device", "precision", "engine", "compile")) == (
        "cpu",
        "fp32",
        "eager",
        False,
    )
    assert result["torch"] == torch.__version__.partition("+")[0]
    training = result["training"]
    assert training["min_s"] <= training["median_s"] <= training["max_s"]
    assert training["examples_per_s"] == pytest.approx(32 / training["median_s"])
    assert training["rounds"] == 3
    flops = result["flops"]
    assert result["share_of_peak"] == pytest.approx(
        flops["training_step"] / training["median_s"] / 1e10
    )
    assert result["epoch"]["examples_per_s"] == pytest.approx(256 / result["epoch"]["seconds"])
    assert result["peak_gib"] > 0


def test_sweep_on_error_stop_skips_networks_after_a_failure(
    within: Command, tmp_path: Path
) -> None:
    words = ("train.batch_size=9999,32", "sweep_on_error=stop", "--rounds", "1")
    done = within("benchmark", "-m", *QUICK, *words)
    assert (done.returncode, "train.batch_size=9999" in done.stderr) == (2, True), done.stderr
    assert results(tmp_path) == []


def test_too_many_networks_are_refused_before_they_are_listed(within: Command) -> None:
    done = within("benchmark", "-m", *QUICK, "seed=range(1,1000000000)")
    assert (done.returncode, "a sweep of more than 10,000 jobs" in done.stderr) == (2, True), (
        done.stderr
    )


def test_an_epoch_that_takes_too_long_is_not_run(within: Command, tmp_path: Path) -> None:
    done = within("benchmark", *QUICK, "--rounds", "1", "--epoch-limit", "0")
    (result,) = results(tmp_path)
    assert (result["epoch"]["seconds"], result["epoch"]["examples_per_s"]) == (None, None)
    assert "not run" in done.stdout


NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), 0),
        (RuntimeError(NO_MEMORY), 0),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1),
    ],
    ids=["gpu", "cpu", "another error"],
)
def test_only_out_of_memory_errors_become_results(
    error: RuntimeError, code: int, within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cnnbench.training.engine.EagerEngine.train_step", fail)
    done = within("benchmark", *QUICK)
    recorded = [(result["out_of_memory"], result["batch_size"]) for result in results(tmp_path)]
    assert (done.returncode, recorded) == (code, [] if code else [(str(error), 32)])
    assert ("out of memory" in done.stdout) is not bool(code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rounds", "0"), "--rounds 0 is out of range. It must be at least 1."),
        (("--rounds", "x"), "--rounds x is not a whole number. It must be at least 1."),
        (("--epoch-limit", "-1"), "--epoch-limit -1 is out of range. It must be at least 0."),
        (("--epoch-limit", "nan"), "--epoch-limit nan is out of range. It must be at least 0."),
        (
            (*QUICK, "train.batch_size=257"),
            "train.batch_size=257: the training set has 256 examples.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[-2:]),
)
def test_wrong_arguments_are_reported_in_one_line(
    arguments: tuple[str, ...], message: str, within: Command
) -> None:
    done = within("benchmark", *arguments)
    assert (done.returncode, done.stderr) == (2, f"cnnbench: {message}\n")


def test_rows_show_the_overrides_in_which_they_differ(within: Command) -> None:
    done = within("benchmark", "-m", *QUICK, "optimizer=sgd,muon", "--rounds", "1")
    lines = [line for line in done.stdout.splitlines() if line.startswith("lenet_relu ")]
    rows = [line for line in lines if " fp32 " in line]
    assert "fp32 eager optimizer=sgd" in rows[0]
    assert "fp32 eager optimizer=muon" in rows[1]
    assert "data.test_examples" not in done.stdout.partition("network ")[2]


def test_interruption_prints_the_networks_measured_before(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, shown = benchmark.run, []

    def interrupted(config: Config, *arguments: object, **options: object) -> object:
        shown.append(sys.stdout.getvalue().splitlines()[-1])  # type: ignore[attr-defined]
        if config.model.name == "mlp":
            raise KeyboardInterrupt
        return measured(config, *arguments, **options)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(benchmark, "run", interrupted)
    done = within("benchmark", "-m", *QUICK, "model=lenet,mlp", "--rounds", "1")
    assert done.returncode == 130
    # The heading of a network is printed before it is measured.
    assert [line.partition(" on ")[0] for line in shown] == ["lenet", "mlp"]
    rows = [line.split()[0] for line in done.stdout.splitlines() if " fp32 eager " in line]
    assert rows == ["lenet"]
