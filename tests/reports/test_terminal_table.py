"""The comparison of runs on the terminal: rows, columns, the best command, unfinished runs."""

import io
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cnnbench.analysis.format import display_width
from cnnbench.reports.terminal_table import format_comparison
from cnnbench.runs.records import Record


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove a width that is set in the shell."""
    monkeypatch.delenv("COLUMNS", raising=False)


def make_run(
    accuracy: float | None,
    *overrides: str,
    test: float | None = 0.5,
    state: str = "finished",
    **others: Any,
) -> Record:
    """Return a record with the accuracies on the validation and the test set."""
    best = None
    if accuracy is not None:
        best = {"epoch": 1, "validation_accuracy": accuracy, "validation_loss": 1.0}
    wall_s = {"train": 1.5, "evaluation": 0.25, "total": 9.0}
    result = {"best": best, "test_accuracy": test, "wall_s": wall_s}
    seeds = [int(word[len("seed=") :]) for word in overrides if word.startswith("seed=")]
    config = {
        "optimizer": {"name": "sgd", "lr": 0.1},
        "seed": seeds[0] if seeds else 0,
        "device": {"compile": False},
    }
    values: dict[str, Any] = {"config": config, "status": {}, "rows": [{"epoch": 1.0}]}
    values["result"] = result if state == "finished" else {}
    return Record(Path("job"), state, overrides, **(values | others))


def body(text: str) -> list[list[str]]:
    """Return the cells of the table's rows."""
    table = next(part for part in text.split("\n\n") if "accuracy" in part.partition("\n")[0])
    return [line.split() for line in table.splitlines()[1:]]


def test_rows_are_sorted_by_mean_validation_accuracy() -> None:
    runs = [
        *(
            make_run(value, "a=low", f"seed={seed}", test=0.9)
            for seed, value in enumerate((0.1, 0.6))
        ),
        *(
            make_run(value, "a=high", f"seed={seed}", test=0.1)
            for seed, value in enumerate((0.4, 0.5))
        ),
    ]
    assert [row[0] for row in body(format_comparison(runs))[:2]] == ["high", "low"]


def test_repeated_seed_counts_once() -> None:
    runs = [
        make_run(value, status={"since": since})
        for value, since in ((0.3, "2026-02"), (0.2, "2026-03"), (0.1, "2026-01"))
    ]
    (row,) = body(format_comparison(runs))
    assert row[0] == "0.2000"  # the latest
    assert "±" not in row


def test_equal_values_in_different_spelling_are_one_group() -> None:
    runs = [
        make_run(0.1, "optimizer.lr=0.1", "seed=0"),
        make_run(0.2, "optimizer.lr=1e-1", "seed=1"),
    ]
    assert body(format_comparison(runs))[0][:2] == ["0.1500", "±"]


def test_table_without_validation_set_is_sorted_by_test_accuracy() -> None:
    text = format_comparison(
        [make_run(None, "a=low", test=0.2), make_run(None, "a=high", test=0.3)]
    )
    assert [row[0] for row in body(text)[:2]] == ["high", "low"]
    assert "no validation set: sorted by test accuracy" in text


def test_key_without_override_has_value_of_configuration() -> None:
    runs = [make_run(0.2, "optimizer.lr=0.5", config={"optimizer": {"lr": 0.5}}), make_run(0.1)]
    assert [row[0] for row in body(format_comparison(runs))] == ["0.5", "0.1"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.lr", "0.1"),
        ("optimizer", "sgd"),
        ("device.compile", "False"),
        ("experiment", "mine"),
        ("seed", "0"),
    ],
)
def test_record_value_is_from_current_configuration(key: str, value: str) -> None:
    # a resumed run may have another rate than in its first overrides
    assert make_run(0.1, "optimizer.lr=0.9", "experiment=mine").value(key) == value


@pytest.mark.parametrize(
    "override", ["seed=0", "optimizer.lr=1e-1", "optimizer.lr=.1", "device.compile=false"]
)
def test_record_value_keeps_spelling_of_override(override: str) -> None:
    key, _, value = override.partition("=")
    assert make_run(0.1, override).value(key) == value


def test_shared_overrides_stand_above_the_table() -> None:
    text = format_comparison([make_run(0.1, "b=same", "a=1"), make_run(0.2, "b=same", "a=2")])
    assert "all with b=same" in text
    assert "b" not in body(text)[0]


def test_best_command_omits_sweep_keys() -> None:
    text = format_comparison(
        [
            make_run(0.2, "optimizer.lr=0.1", "sweep=mine", "sweep_on_error=stop"),
            make_run(0.1, "optimizer.lr=0.2"),
        ]
    )
    assert "the best: cnnbench optimizer.lr=0.1\n" in text + "\n"


def test_tracker_keys_do_not_separate_groups() -> None:
    runs = [
        make_run(
            0.2,
            "a=1",
            "tracker=mlflow",
            "tracker.mlflow.uri=x",
            "seed=0",
            config={"tracker": {"mlflow": {"uri": "x"}}},
        ),
        make_run(0.1, "a=1", "seed=1", config={"tracker": {}}),
    ]
    text = format_comparison(runs)
    assert "tracker" not in text
    assert body(text)[0][0] == "0.1500"


def test_runs_with_different_hidden_values_are_separate_groups() -> None:
    runs = [
        make_run(0.1, "seed=0", config={"train": {"epochs": 10}, "seed": 0}),
        make_run(0.2, "seed=1", config={"train": {"epochs": 20}, "seed": 1}),
    ]
    rows = body(format_comparison(runs))
    assert [[row[0], row[-1]] for row in rows[:2]] == [["0.2000", "20"], ["0.1000", "10"]]


def test_best_command_quotes_values_of_resumed_run() -> None:
    moved = make_run(0.5, "data.path=there", "seed=1", config={"data": {"path": "a, b"}, "seed": 1})
    assert """the best: cnnbench "data.path='a, b'" seed=1""" in format_comparison([moved])


def test_unfinished_runs_are_listed_with_failed_first() -> None:
    runs = [
        make_run(None, "a=1", state="not begun", rows=[]),
        make_run(None, "a=2", state="interrupted"),
        make_run(None, "a=3", state="failed", status={"error": "why\nmore"}, rows=[]),
    ]
    text = format_comparison(runs)
    assert "3 runs: 1 interrupted, 1 failed, 1 not begun" in text
    lines = text.splitlines()
    first = lines.index("failed: a=3")
    assert lines[first + 1] == "  why"
    assert lines[first + 3 :] == ["not begun: a=1", "interrupted after epoch 1: a=2"]


def test_refused_run_is_listed_with_reason() -> None:
    lines = format_comparison(
        [make_run(0.1, "a=1"), make_run(None, "a=2", state="refused", status={"error": "a link"})]
    ).splitlines()
    assert lines[-2:] == ["refused after epoch 1: a=2", "  a link"]


def headings(text: str) -> list[str]:
    """Return the headings of the table, which are at least two spaces apart."""
    line = next(line for line in text.splitlines() if "accuracy" in line)
    return re.split(r"\s{2,}", line.strip())


def test_varying_model_and_data_are_columns_without_overrides() -> None:
    runs = [
        make_run(
            0.2, "experiment=a", config={"model": {"name": "lenet"}, "data": {"name": "mnist"}}
        ),
        make_run(
            0.1, "experiment=b", config={"model": {"name": "nin"}, "data": {"name": "sample"}}
        ),
    ]
    text = format_comparison(runs)
    assert headings(text)[:3] == ["model", "data", "experiment"]
    assert [row[:3] for row in body(text)] == [["lenet", "mnist", "a"], ["nin", "sample", "b"]]


def test_device_and_hidden_keys_come_after_figures() -> None:
    runs = [
        make_run(0.2, "device.threads=1", "a=1", config={"train": {"epochs": 1}}),
        make_run(0.1, "device.threads=1", "a=1", config={"train": {"epochs": 2}}),
        make_run(0.1, "device.threads=2", "a=2"),
    ]
    shown = headings(format_comparison(runs))
    assert (shown[0], shown[-2:]) == ("a", ["device.threads", "train.epochs"])


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("data", ("mnist", "sample")),
        ("data.validation", (0, 500)),
        ("data.test_examples", (500, None)),
    ],
)
def test_no_best_run_if_accuracies_do_not_compare(key: str, values: Any) -> None:
    def config(value: Any) -> dict[str, Any]:
        return {"data": {"name": value} if key == "data" else {key.removeprefix("data."): value}}

    runs = [
        make_run(0.9, f"{key}={values[0]}", "a=1", config=config(values[0])),
        make_run(0.8, f"{key}={values[1]}", "a=2", config=config(values[1])),
        make_run(0.1, f"{key}={values[0]}", "a=3", config=config(values[0])),
    ]
    text = format_comparison(runs)
    assert "the best:" not in text
    assert f"no best run: accuracies do not compare where {key} differ" in text
    place = headings(text).index(key)
    assert [row[place] for row in body(text)] == [str(values[i]) for i in (0, 0, 1)]


def test_time_is_training_plus_evaluation() -> None:
    older = make_run(0.1, "a=2", rows=[{"epoch_s": 1.0}, {"epoch_s": 2.0}])
    older.result["wall_s"] = {"total": 9.0}
    text = format_comparison([make_run(0.2, "a=1"), older])
    assert "train + eval" in headings(text)
    assert re.findall(r"\S+ s$", text, re.MULTILINE) == ["1.8 s", "3.0 s"]


WIDE = "鞋子和外套的分类网络"


@pytest.mark.parametrize("width", [160, 120, 80, 60, 40, 20])
def test_table_fits_terminal_and_keeps_numbers_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for lr, threads, seed in product((0.0001, 0.1), (1, 2), (0, 1)):
        overrides = (f"optimizer.lr={lr}", f"seed={seed}", f"device.threads={threads}")
        runs.append(make_run(0.5 + seed / 10, *overrides, test=0.25))
        name = WIDE if threads == 1 else "a" * 60
        runs[-1].config.update(model={"name": name}, optimizer={"lr": lr})
    monkeypatch.setenv("COLUMNS", str(width))
    lines = format_comparison(runs).partition("\n\n")[2].partition("\n\nthe best")[0].splitlines()
    assert max(map(display_width, lines)) <= width
    table = "\n".join(lines)
    for number in ("0.5500 ± 0.0707", "0.2500 ± 0.0000", "1.8 s"):
        assert number in table
    assert "0.0001" in table
    assert ("only in the CSV file: device.threads" in table.replace("\n ", "")) == (width < 160)


def test_output_to_a_file_has_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", io.StringIO())
    runs = [make_run(0.1, f"key{number}={value}") for number in range(40) for value in (1, 2)]
    assert len(headings(format_comparison(runs))) > 40
