"""The figures that benchmarks/time_to_accuracy.py reads from a run, and the lines it prints."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.scripts import load_script

ENVIRONMENT = {
    "device": "cuda",
    "chip": "CHIP",
    "threads": 4,
    "precision": "bf16",
    "engine": "graph",
    "compile": True,
    "torch": "2.14.1",
}
WALL_S = {"start": 2.0, "preparation": 0.75, "train": 1.25, "evaluation": 0.25, "total": 5.5}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "time_to_accuracy.py")


def write_run(folder: Path, accuracy: float) -> None:
    """Write what the script reads of a run with two epochs."""
    folder.mkdir(exist_ok=True)
    result = {"test_accuracy": accuracy, "tta": "hflip", "wall_s": WALL_S}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "metrics.csv").write_text("epoch,epoch_s\n1,1.0\n2,0.5\n")


def replace_process(monkeypatch: pytest.MonkeyPatch, run: Callable[[list[str]], None]) -> None:
    def call(command: list[str], **_: Any) -> None:
        run(command)

    monkeypatch.setattr(subprocess, "run", call)


def test_clocks_are_read_from_the_records_of_a_run(script: ModuleType, tmp_path: Path) -> None:
    write_run(tmp_path, 0.94)
    run = script.read_run(tmp_path, 6.25)
    assert (run.training_s, run.result_s, run.prompt_s) == (1.25, 5.5, 6.25)
    assert (run.epochs_s, run.preparation_s) == (1.5, 0.75)
    assert run.machine == "cuda (CHIP), 4 threads, bf16, graph, compile=True, torch 2.14.1"


def test_line_of_a_seed_has_every_clock(script: ModuleType, tmp_path: Path) -> None:
    write_run(tmp_path, 0.94)
    assert script.format_runs([script.read_run(tmp_path, 6.25)]) == (
        "0.9400 with TTA hflip, training alone 1.25 s, to the result 5.50 s, "
        "to the prompt 6.25 s, training and evaluation 1.50 s, preparation 0.75 s"
    )


def test_line_of_several_seeds_has_means_and_stds(script: ModuleType, tmp_path: Path) -> None:
    runs = []
    for accuracy, prompt_s in ((0.93, 6.0), (0.95, 8.0)):
        write_run(tmp_path, accuracy)
        runs.append(script.read_run(tmp_path, prompt_s))
    line = script.format_runs(runs)
    assert line.startswith("0.9400 ± 0.0141 with TTA hflip, training alone 1.25 ± 0.00 s,")
    assert "to the prompt 7.00 ± 1.41 s" in line


def test_unknown_clock_is_left_out(script: ModuleType, tmp_path: Path) -> None:
    write_run(tmp_path, 0.94)
    assert "prompt" not in script.format_runs([script.read_run(tmp_path)])


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.94, 0.96), "goal 0.94: reached by the mean, reached by 2 of 2 seeds (100%)"),
        ((0.93, 0.95, 0.97), "goal 0.94: reached by the mean, reached by 2 of 3 seeds (67%)"),
        ((0.9, 0.95), "goal 0.94: not reached by the mean, reached by 1 of 2 seeds (50%)"),
    ],
)
def test_goal_is_judged_by_the_mean_and_by_each_seed(
    script: ModuleType, tmp_path: Path, accuracies: tuple[float, ...], expected: str
) -> None:
    runs = []
    for accuracy in accuracies:
        write_run(tmp_path, accuracy)
        runs.append(script.read_run(tmp_path))
    assert script.format_goal(runs, 0.94) == expected


def test_seeds_begin_with_the_first_seed(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = []

    def finish(command: list[str]) -> None:
        commands.append(command)
        write_run(Path(command[-1].removeprefix("hydra.run.dir=")), 0.9)

    replace_process(monkeypatch, finish)
    arguments = ["speedrun/fashion_94", "--seeds", "2", "--first-seed", "7", "train.epochs=1"]
    monkeypatch.setattr(sys, "argv", ["time_to_accuracy.py", *arguments])
    script.main()
    assert [command[3:7] for command in commands] == [
        ["experiment=speedrun/fashion_94", "train.epochs=1", f"seed={seed}", "data.validation=0"]
        for seed in (7, 8)
    ]
    *seeds, mean, run, machine = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in seeds] == ["seed 7", "seed 8"]
    assert mean.startswith("mean of seeds 7 to 8: 0.9000 ± 0.0000 with TTA hflip, ")
    assert run == "experiment=speedrun/fashion_94 train.epochs=1"
    assert machine.startswith("cuda (CHIP), 4 threads")


def test_failed_seed_ends_the_script(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str]) -> None:
        raise subprocess.CalledProcessError(3, command)

    replace_process(monkeypatch, fail)
    monkeypatch.setattr(sys, "argv", ["time_to_accuracy.py", "smoke", "--seeds", "1"])
    with pytest.raises(SystemExit, match="seed 0 ended with exit code 3"):
        script.main()
