"""Search optimizer, learning rate and batch size with Optuna, in one process.

    pip install 'cnnbench[optuna]'
    python examples/optuna_search.py --trials 20 --epochs 5 model=lenet_relu data=sample

takes half a minute on two cores of an AMD EPYC, and prunes 7 of the 20 trials.

A trial is a run of cnnbench with its run directory. A trial is pruned if after an epoch it is worse
than the median of earlier trials at that epoch. Trials are compared by their best validation
accuracy, and pruned trials are not evaluated on the test set.

With --storage sqlite:///search.db an interrupted search can be resumed by the same command. Several
such commands may share the work.
"""

import argparse
import shlex
from collections.abc import Sequence

import optuna

from cnnbench.api import Row, train
from cnnbench.errors import DivergedError

LEARNING_RATES = {"momentum": (0.001, 0.3), "adam": (0.0001, 0.03)}


def suggest_overrides(trial: optuna.Trial) -> list[str]:
    """Return the overrides of a trial."""
    optimizer = trial.suggest_categorical("optimizer", list(LEARNING_RATES))
    lr = trial.suggest_float(f"{optimizer}.lr", *LEARNING_RATES[optimizer], log=True)
    batch_size = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    return [f"optimizer={optimizer}", f"optimizer.lr={lr}", f"train.batch_size={batch_size}"]


def search(study: optuna.Study, trials: int, overrides: Sequence[str]) -> None:
    """Run trials until `trials` of them have finished, each with `overrides`."""

    def objective(trial: optuna.Trial) -> float:
        def report_epoch(row: Row) -> bool:
            trial.report(row["validation_accuracy"], int(row["epoch"]))
            return not trial.should_prune()

        arguments = [*overrides, *suggest_overrides(trial)]
        trial.set_user_attr("command", shlex.join(["cnnbench", *arguments]))
        result = train(*arguments, on_epoch=report_epoch)
        trial.set_user_attr("directory", str(result.directory))
        if result.stopped:
            raise optuna.TrialPruned
        return result.value

    num_finished = sum(trial.state.is_finished() for trial in study.trials)
    # A new seed, so that a resumed search does not repeat its first trials.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    study.optimize(objective, n_trials=max(0, trials - num_finished), catch=DivergedError)


def main(arguments: Sequence[str] | None = None) -> optuna.Study:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--storage", help="database for the search, such as sqlite:///search.db")
    parser.add_argument("--study", default="cnnbench", help="name of the study in the database")
    parser.add_argument("overrides", nargs="*", help="configuration overrides for all trials")
    options = parser.parse_intermixed_args(arguments)
    study = optuna.create_study(
        storage=options.storage,
        study_name=options.study,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    search(study, options.trials, [*options.overrides, f"train.epochs={options.epochs}"])
    best = study.best_trial
    print(f"Best of {len(study.trials)}: trial {best.number}, validation accuracy {best.value:.4f}")
    print(best.user_attrs["directory"])
    print(best.user_attrs["command"])
    return study


if __name__ == "__main__":
    main()
