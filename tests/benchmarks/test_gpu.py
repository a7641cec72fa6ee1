"""The figures of benchmarks/gpu.py: read from what commands leave, and judged by the goals."""

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.paths import ROOT

OUTPUT = """\
collected 10 items / 4 deselected / 6 selected

tests/training/test_loop.py::test_rows[cuda] PASSED                [ 16%]
tests/training/test_loop.py::test_rows[a b] PASSED                 [ 33%]
tests/training/test_muon.py::test_step[cuda] SKIPPED (two GPUs)    [ 50%]
"""
FAILURES = """\
tests/training/test_resume.py::test_bits[sgd-cuda] FAILED          [ 66%]
tests/training/test_resume.py::test_bits[adam-cuda] ERROR          [ 83%]
=========================== short test summary info ============================
ERROR tests/training/test_resume.py::test_bits[adam-cuda] - RuntimeError: CUDA
ERROR tests/reports/test_page.py - ModuleNotFoundError: No module named 'playwright'
"""


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("gpu")
    for name in ("gpu", "side_by_side", "table_parts", "time_to_accuracy"):
        del sys.modules[name]


def replace_process(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[list[str], dict[str, Any]], None],
    exit_code: int = 0,
) -> None:
    def call(command: list[str], **options: Any) -> Any:
        run(command, options)
        return subprocess.CompletedProcess(command, exit_code)

    monkeypatch.setattr(subprocess, "run", call)


def run_tests(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, output: str, exit_code: int | None = 0
) -> Any:
    """Return the row if pytest prints `output`; without an exit code its time is over."""

    def run(command: list[str], options: dict[str, Any]) -> None:
        options["stdout"].write(output)
        if exit_code is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])

    replace_process(monkeypatch, run, exit_code or 0)
    (row,) = gpu.run_tests(gpu.Plan(), 0.0)
    return row


def test_passed_and_skipped_tests_are_counted(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = run_tests(gpu, monkeypatch, OUTPUT)
    assert (row.measured, row.reached) == ("2 passed, 0 failed, 1 skipped", True)


def test_failed_tests_and_files_are_named(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    row = run_tests(gpu, monkeypatch, OUTPUT + FAILURES, exit_code=1)
    assert row.measured == (
        "2 passed, 3 failed, 1 skipped. Failed: "
        "tests/training/test_resume.py::test_bits[sgd-cuda], "
        "tests/training/test_resume.py::test_bits[adam-cuda], "
        "tests/reports/test_page.py (not imported)"
    )
    assert row.reached is False


def test_tests_that_ended_in_time_are_counted(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = run_tests(gpu, monkeypatch, OUTPUT, exit_code=None)
    assert row.measured.startswith("2 passed, 0 failed, 1 skipped; the others not in ")
    assert row.reached is False


def test_crash_of_pytest_is_named(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    row = run_tests(gpu, monkeypatch, OUTPUT, exit_code=-11)
    assert row.measured == "2 passed, 0 failed, 1 skipped; pytest ended with exit code -11"
    assert row.reached is False


@pytest.mark.parametrize(
    "output",
    [
        "python: No module named pytest\n",
        "ERROR tests/data/test_idx.py - Failed: 'timeout'\nERROR: Unknown config option: timeout\n",
    ],
)
def test_last_line_of_pytest_says_why_no_test_ran(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        run_tests(gpu, monkeypatch, output, exit_code=4)
    assert str(caught.value) == output.splitlines()[-1]


def test_speed_of_d2l_is_that_of_its_epoch(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], _: dict[str, Any]) -> None:
        file = Path(command[command.index("--json") + 1])
        file.write_text(json.dumps({"measured": [{"tool": "d2l", "epoch_s": [4.0]}]}))

    replace_process(monkeypatch, run)
    network, d2l = gpu.Network("alexnet", 224, 128, times=12), {}
    (row,) = gpu.time_d2l(network, gpu.Plan(), d2l)
    assert (row.measured, d2l[network]) == ("3,000 examples/s", 3_000)


def time_network(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, d2l_speed: float | None, **result: Any
) -> list[Any]:
    """Return the rows of AlexNet, of which benchmark.json has 30,000 examples/s and `result`."""
    recorded = {
        "epoch": {"examples_per_s": 30_000.0},
        "share_of_peak": 0.36,
        "precision": "bf16",
        "engine": "graph",
        "compile": False,
        **result,
    }

    def run(command: list[str], _: dict[str, Any]) -> None:
        folder = Path(command[-1].removeprefix("hydra.run.dir="))
        folder.mkdir()
        (folder / "benchmark.json").write_text(json.dumps(recorded))

    replace_process(monkeypatch, run)
    network = gpu.Network("alexnet", 224, 128, times=12, share=0.35)
    d2l = {} if d2l_speed is None else {network: d2l_speed}
    return list(gpu.time_network(network, gpu.Plan(), "off", d2l))


def test_network_is_judged_by_d2l_and_by_the_peak(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    against_d2l, of_peak = time_network(gpu, monkeypatch, 3_000.0)
    assert against_d2l.measured == (
        "30,000 examples/s, 10.0 times d2l, 36.0% of the bf16 peak (bf16, graph)"
    )
    assert (against_d2l.goal, against_d2l.reached) == ("12 times d2l", False)
    assert (of_peak.goal, of_peak.reached) == ("35% of the bf16 peak", True)


def test_peak_of_another_precision_is_not_that_of_the_goal(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, of_peak = time_network(gpu, monkeypatch, 3_000.0, precision="fp32")
    assert of_peak.reached is False


def test_network_is_not_judged_without_d2l(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = time_network(gpu, monkeypatch, None, compile=True)
    assert (first.what, first.reached) == ("alexnet, 224 px, batch 128, compiled", None)
    assert first.measured.startswith("30,000 examples/s, 36.0% of")


def test_missing_memory_is_an_error(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        time_network(gpu, monkeypatch, None, out_of_memory="CUDA out of memory")


@pytest.mark.parametrize(
    ("accuracies", "epochs_s", "is_reached"),
    [((0.93, 0.95), 1.5, True), ((0.93, 0.94), 1.5, False), ((0.95, 0.95), 1.6, False)],
)
def test_speedrun_is_judged_by_the_means_of_accuracy_and_seconds(
    gpu: ModuleType, accuracies: tuple[float, ...], epochs_s: float, is_reached: bool
) -> None:
    runs = [gpu.Run(accuracy, 1.0, 4.0, None, epochs_s, 0.5, "", "") for accuracy in accuracies]
    row = gpu.judge_speedrun(gpu.Speedrun("speedrun/fashion_94", 0.94, 1.5), "title", runs)
    assert row.reached is is_reached
    number = sum(accuracy >= 0.94 for accuracy in accuracies)
    assert row.measured.endswith(f"; {number} of 2 seeds ({number / 2:.0%}) reached the goal")


def test_without_a_gpu_the_trial_is_suggested(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 0, "\ntorch 2.14.1, CUDA 13.0\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(SystemExit, match=r"no CUDA GPU here.*--tiny"):
        gpu.describe_machine(gpu.Plan())


def test_speedruns_of_the_plan_exist(gpu: ModuleType) -> None:
    for speedrun in gpu.Plan().speedruns:
        path = ROOT / "conf" / "experiment" / f"{speedrun.experiment}.yaml"
        assert f"--goal {speedrun.accuracy:g} " in path.read_text()
        assert f"in {speedrun.seconds:g} s" in path.read_text()


@pytest.mark.slow
def test_trial_has_rows_of_all_parts(
    gpu: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    trial = dataclasses.replace(gpu.TRIAL, speedruns=gpu.TRIAL.speedruns[:1])
    monkeypatch.setattr(gpu, "TRIAL", trial)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--out", str(tmp_path / "gpu.md")])
    gpu.main()
    output = capsys.readouterr().out
    assert (tmp_path / "gpu.md").read_text() == output
    for part in ("tests", "networks", "speedruns", "sweep"):
        assert f"\n| {part} (trial) | " in output
    assert "2 of 2 seeds, one process" in output
    assert ", 2 at once | " in output
    assert "| yes |" not in output
