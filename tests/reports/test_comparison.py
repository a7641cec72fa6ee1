from pathlib import Path
from typing import Any

import pytest

from cnnbench.reports.comparison import as_rows, compare
from cnnbench.runs.records import Record


def run(
    accuracy: float | None, *overrides: str, test: float | None = 0.5, state: str = "finished", **more: Any
) -> Record:
    best = None if accuracy is None else {"epoch": 1, "validation_accuracy": accuracy, "validation_loss": 1.0}
    result = {"best": best, "test_accuracy": test, "wall_s": {"total": 2.0}} if state == "finished" else {}
    seed = next((int(each.removeprefix("seed=")) for each in overrides if each.startswith("seed=")), 0)
    values: dict[str, Any] = {
        "config": {"optimizer": {"name": "sgd", "lr": 0.1}, "seed": seed, "device": {"compile": False}},
        "status": {},
        "rows": [{"epoch": 1.0}],
    }
    return Record(Path("job"), state, overrides, result=result, **(values | more))


def body(text: str) -> list[list[str]]:
    """The cells of the table's rows."""
    table = next(part for part in text.split("\n\n") if "accuracy" in part.partition("\n")[0])
    return [line.split() for line in table.splitlines()[1:]]


def test_rows_are_sorted_by_their_mean_on_the_validation_set() -> None:
    runs = [
        *(run(value, "a=low", f"seed={seed}", test=0.9) for seed, value in enumerate((0.1, 0.6))),
        *(run(value, "a=high", f"seed={seed}", test=0.1) for seed, value in enumerate((0.4, 0.5))),
    ]
    assert [row[0] for row in body(compare(runs))[:2]] == ["high", "low"]


def test_the_same_seed_again_makes_no_deviation() -> None:
    runs = [
        run(value, status={"since": since}) for value, since in ((0.3, "2026-02"), (0.2, "2026-03"), (0.1, "2026-01"))
    ]
    (row,) = body(compare(runs))
    assert row[0] == "0.2000"  # the latest
    assert "±" not in row


def test_a_value_that_is_spelt_in_two_ways_is_one() -> None:
    runs = [run(0.1, "optimizer.lr=0.1", "seed=0"), run(0.2, "optimizer.lr=1e-1", "seed=1")]
    assert body(compare(runs))[0][:2] == ["0.1500", "±"]


def test_without_a_validation_set_the_test_set_sorts_and_that_is_said() -> None:
    text = compare([run(None, "a=low", test=0.2), run(None, "a=high", test=0.3)])
    assert [row[0] for row in body(text)[:2]] == ["high", "low"]
    assert "nothing was held out: sorted by test accuracy" in text


def test_a_key_that_a_run_was_not_given_has_the_value_of_its_configuration() -> None:
    runs = [run(0.2, "optimizer.lr=0.5", config={"optimizer": {"lr": 0.5}}), run(0.1)]
    assert [row[0] for row in body(compare(runs))] == ["0.5", "0.1"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("optimizer.lr", "0.1"), ("optimizer", "sgd"), ("device.compile", "False"), ("experiment", "mine"), ("seed", "0")],
)
def test_values_are_those_the_run_has_now(key: str, value: str) -> None:
    # a resumed run may have another rate than it was first given
    assert run(0.1, "optimizer.lr=0.9", "experiment=mine").value(key) == value


@pytest.mark.parametrize("given", ["seed=0", "optimizer.lr=1e-1", "optimizer.lr=.1", "device.compile=false"])
def test_values_are_spelt_as_they_were_given(given: str) -> None:
    key, _, value = given.partition("=")
    assert run(0.1, given).value(key) == value


def test_keys_that_are_the_same_for_all_stand_above_the_table() -> None:
    text = compare([run(0.1, "b=same", "a=1"), run(0.2, "b=same", "a=2")])
    assert "all with b=same" in text
    assert "b" not in body(text)[0]


def test_the_best_command_leaves_out_what_belongs_to_the_sweep() -> None:
    text = compare([run(0.2, "optimizer.lr=0.1", "sweep=mine", "sweep_on_error=stop"), run(0.1, "optimizer.lr=0.2")])
    assert "the best: cnnbench optimizer.lr=0.1\n" in text + "\n"


def test_trackers_make_no_difference() -> None:
    runs = [
        run(
            0.2, "a=1", "tracker=mlflow", "tracker.mlflow.uri=x", "seed=0", config={"tracker": {"mlflow": {"uri": "x"}}}
        ),
        run(0.1, "a=1", "seed=1", config={"tracker": {}}),
    ]
    text = compare(runs)
    assert "tracker" not in text
    assert body(text)[0][0] == "0.1500"


def test_runs_that_differ_in_what_nobody_gave_are_no_repetitions() -> None:
    runs = [
        run(0.1, "seed=0", config={"train": {"epochs": 10}, "seed": 0}),
        run(0.2, "seed=1", config={"train": {"epochs": 20}, "seed": 1}),
    ]
    assert [row[:2] for row in body(compare(runs))[:2]] == [["20", "0.2000"], ["10", "0.1000"]]


def test_the_best_command_has_the_values_a_run_went_on_with_and_quotes_them() -> None:
    moved = run(0.5, "data.path=there", "seed=1", config={"data": {"path": "a, b"}, "seed": 1})
    assert """the best: cnnbench "data.path='a, b'" seed=1""" in compare([moved])


def test_what_is_not_finished_is_listed_the_failed_first() -> None:
    runs = [
        run(None, "a=1", state="not begun", rows=[]),
        run(None, "a=2", state="interrupted"),
        run(None, "a=3", state="failed", status={"error": "why\nmore"}, rows=[]),
    ]
    text = compare(runs)
    assert "3 runs: 1 interrupted, 1 failed, 1 not begun" in text
    lines = text.splitlines()
    first = lines.index("failed: a=3")
    assert lines[first + 1] == "  why"
    assert lines[first + 3 :] == ["not begun: a=1", "interrupted after epoch 1: a=2"]


def test_a_run_that_was_refused_is_listed_with_the_reason() -> None:
    lines = compare([run(0.1, "a=1"), run(None, "a=2", state="refused", status={"error": "a link"})]).splitlines()
    assert lines[-2:] == ["refused after epoch 1: a=2", "  a link"]


def test_figures_that_are_none_leave_their_cells_empty() -> None:
    damaged = run(0.1, "a=1")
    damaged.result.update(best={"validation_accuracy": "x"}, wall_s=7, test_accuracy=float("nan"))
    (row,) = as_rows([damaged])
    assert [row[name] for name in ("validation_accuracy", "test_accuracy", "wall_s")] == [None, None, None]
    assert "1 run: 1 finished" in compare([damaged])
