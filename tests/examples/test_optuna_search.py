"""The example of a search with Optuna, run in this process on tiny data."""

import json
import shlex
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from helpers.command import TINY
from helpers.compare_runs import find_differences
from helpers.paths import EXAMPLES
from helpers.scripts import load_script

from cnnbench.api import train

SOURCE = EXAMPLES / "optuna_search.py"


class SecondTrialPruner(optuna.pruners.BasePruner):
    """A pruner of trial 1, which ends after its first epoch."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number == 1


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_script(SOURCE)


@pytest.fixture(scope="module")
def study(example: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """Run three trials, the second of which is pruned."""
    study = optuna.create_study(direction="maximize", pruner=SecondTrialPruner())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("search"))
        example.search(study, 3, [*TINY, "train.fail_if_not_learning=false"])
    return study


def run_directory(trial: optuna.trial.FrozenTrial) -> Path:
    return Path(trial.user_attrs["directory"])


def test_trial_is_pruned_after_its_epoch(study: optuna.Study) -> None:
    trials = [(trial.state.name, trial.last_step) for trial in study.trials]
    assert trials == [("COMPLETE", 2), ("PRUNED", 1), ("COMPLETE", 2)]


def test_run_of_a_pruned_trial_is_interrupted(study: optuna.Study) -> None:
    status = json.loads((run_directory(study.trials[1]) / "status.json").read_text())
    assert status["state"] == "interrupted"


def test_pruned_trial_is_not_evaluated_on_the_test_set(study: optuna.Study) -> None:
    assert not (run_directory(study.trials[1]) / "result.json").exists()


def test_best_value_is_the_validation_accuracy_of_the_best_epoch(study: optuna.Study) -> None:
    best = json.loads((run_directory(study.best_trial) / "result.json").read_text())["best"]
    assert study.best_value == best["validation_accuracy"]


def test_recorded_command_reproduces_the_trial(study: optuna.Study, tmp_path: Path) -> None:
    best = study.best_trial
    repeated = train(*shlex.split(best.user_attrs["command"])[1:], directory=tmp_path / "repeated")
    assert find_differences(repeated.directory, run_directory(best)) == []


@pytest.mark.slow
def test_interrupted_search_can_be_resumed(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    search = [
        "--epochs=1",
        "--storage=sqlite:///search.db",
        *TINY,
        "train.fail_if_not_learning=false",
    ]
    example.main(["--trials=1", *search])
    assert len(example.main(["--trials=2", *search]).trials) == 2


def test_search_continues_after_a_trial_with_nonfinite_loss(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(example.LEARNING_RATES, "adam", (1e30, 1e31))
    monkeypatch.setitem(example.LEARNING_RATES, "momentum", (1e30, 1e31))
    study = optuna.create_study(direction="maximize")
    example.search(study, 2, TINY)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL"]
