"""The columns of the table of runs, as CSV and as Markdown."""

from pathlib import Path
from typing import Any

import pytest
from helpers.fake_runs import make_run

from cnnbench.reports.tables import (
    Cell,
    Column,
    escape_markdown,
    format_markdown,
    make_csv_rows,
    tabulate_groups,
    tabulate_runs,
)
from cnnbench.runs.records import Record, read_records


def column(columns: list[Column], name: str) -> Column:
    (found,) = (column for column in columns if column.name == name)
    return found


def texts(columns: list[Column], name: str) -> list[str]:
    return [cell.text for cell in column(columns, name).cells]


def tabulate_one(path: Path, **values: Any) -> list[Column]:
    return tabulate_runs(read_records(make_run(path / "run", **values)))


COSTS = {"parameters": 61_706, "multiply_adds": 416_520}


def test_run_table_has_settings_and_figures(tmp_path: Path) -> None:
    columns = tabulate_one(
        tmp_path, lr=0.5, dataset={"title": "Fashion-MNIST"}, result={**COSTS, "tta": "hflip"}
    )
    shown = {column.name: column.cells[0].text for column in columns}
    settings = ("model", "data", "data.resize", "optimizer", "optimizer.lr", "seed")
    assert [shown[name] for name in settings] == ["lenet", "fashion_mnist", "28", "sgd", "0.5", "0"]
    figures = ("parameters", "multiply_adds", "epochs", "device", "precision", "tta")
    known = ["61,706", "416,520", "5", "cuda (NVIDIA H100)", "bf16", "hflip"]
    assert [shown[name] for name in figures] == known


def test_speed_is_median_and_memory_is_maximum_over_epochs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics.csv").write_text(
        "epoch,examples_per_s,peak_gib\n1,10,0.5\n2,1000,0.75\n3,20,0.25\n"
    )
    columns = tabulate_runs(read_records(run))
    assert (texts(columns, "examples_per_s"), texts(columns, "peak_gib")) == (["20"], ["0.75"])


def test_unfinished_run_shows_best_accuracy_so_far(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="interrupted")
    (run / "metrics.csv").write_text("epoch,validation_accuracy\n1,0.5\n2,0.75\n3,0.25\n")
    columns = tabulate_runs(read_records(run))
    assert (texts(columns, "validation_accuracy"), texts(columns, "test_accuracy")) == (
        ["0.7500"],
        [""],
    )


def test_missing_figure_is_an_empty_cell(tmp_path: Path) -> None:
    make_run(tmp_path / "older", result={"test_accuracy": 0.5})
    make_run(tmp_path / "now")
    columns = tabulate_runs(read_records(tmp_path))
    assert texts(columns, "multiply_adds") == ["416,520", ""]


def test_every_varying_setting_has_a_column(tmp_path: Path) -> None:
    for name, overrides in (("a", ["experiment=mine"]), ("b", ["+model.width=8"])):
        (make_run(tmp_path / name) / ".hydra" / "overrides.yaml").write_text(str(overrides))
    columns = tabulate_runs(read_records(tmp_path))
    assert texts(columns, "model.width") == ["", "8"]
    assert texts(columns, "experiment") == ["mine", ""]


def test_custom_model_is_shown_by_its_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", model="my:Net")
    (run / ".hydra" / "overrides.yaml").write_text("[model=lenet, model.name=my:Net]")
    assert texts(tabulate_runs(read_records(run)), "model") == ["my:Net"]


@pytest.mark.parametrize(
    ("title", "shown"), [("Leaves of trees", "Leaves of trees"), (7, "folder"), (None, "folder")]
)
def test_folder_dataset_is_shown_by_its_title(tmp_path: Path, title: Any, shown: str) -> None:
    run = make_run(
        tmp_path / "run", dataset={} if title is None else {"name": "folder", "title": title}
    )
    (run / "config.yaml").write_text("data: {name: folder}")
    assert texts(tabulate_runs(read_records(run)), "data") == [shown]


def test_requested_and_used_device_have_separate_columns(
    tmp_path: Path,
) -> None:
    for device in ("auto", "cuda"):
        run = make_run(tmp_path / device)
        (run / ".hydra" / "overrides.yaml").write_text(f"[device={device}]")
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(config.replace("name: auto", f"name: {device}"))
    columns = tabulate_runs(read_records(tmp_path))
    assert texts(columns, "device.name") == ["auto", "cuda"]
    assert texts(columns, "device") == ["cuda (NVIDIA H100)"] * 2


def test_failed_run_has_error_and_no_figures(tmp_path: Path) -> None:
    columns = tabulate_one(tmp_path, state="failed")
    assert texts(columns, "status") == ["failed"]
    assert texts(columns, "error") == ["The training loss became nan in epoch 1."]
    figures = [column for column in columns if column.kind == "figure"]
    assert [column.name for column in figures if not column.is_empty] == []


def test_cell_text_is_one_line_without_control_characters(tmp_path: Path) -> None:
    columns = tabulate_one(tmp_path, model="a\nb\x1b[2J\u202ec" + "x" * 1_000)
    (shown,) = texts(columns, "model")
    assert shown.startswith("a b?[2J?cxxx")
    assert len(shown) < 400


@pytest.mark.parametrize(
    "values", [{"device": ["x"]}, {"device": "cuda", "chip": 3, "world_size": "many"}, {}]
)
def test_invalid_environment_leaves_device_cell_readable(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    assert len(texts(tabulate_one(tmp_path, environment=values), "device")) == 1


def test_column_is_numeric_only_if_all_values_are(tmp_path: Path) -> None:
    for name, lr in (("a", 0.1), ("b", "nan"), ("c", 0.2)):
        make_run(tmp_path / name, lr=lr)  # type: ignore[arg-type]
    columns = tabulate_runs(read_records(tmp_path))
    assert not column(columns, "optimizer.lr").is_numeric
    assert column(columns, "train.batch_size").is_numeric


def make_seeds(folder: Path, *accuracies: float) -> list[Record]:
    for seed, accuracy in enumerate(accuracies):
        wall_s = {"train": 9 * seed, "evaluation": seed, "total": 100}
        figures = {
            "best": {"validation_accuracy": accuracy},
            "test_accuracy": accuracy,
            "wall_s": wall_s,
        }
        make_run(folder / str(seed), seed=seed, result=figures)
    return read_records(folder)


def test_group_table_has_mean_and_sample_std_over_seeds(tmp_path: Path) -> None:
    columns = tabulate_groups(make_seeds(tmp_path, 0.1, 0.2, 0.6))
    assert texts(columns, "test_accuracy") == ["0.3000 ± 0.2646"]  # sqrt((0.04 + 0.01 + 0.09) / 2)
    assert texts(columns, "train_eval_s") == ["10.0 ± 10.0"]
    assert (texts(columns, "n"), texts(columns, "seed")) == (["3"], ["0, 1, 2"])


def test_group_table_is_empty_without_repetitions(tmp_path: Path) -> None:
    make_run(tmp_path / "a", lr=0.1)
    make_run(tmp_path / "b", lr=0.2)
    assert tabulate_groups(read_records(tmp_path)) == []


def test_group_of_one_run_has_no_std(tmp_path: Path) -> None:
    make_seeds(tmp_path, 0.5, 0.7)
    make_run(tmp_path / "other", lr=0.3, result={"best": {"validation_accuracy": 0.1}})
    assert texts(tabulate_groups(read_records(tmp_path)), "validation_accuracy") == [
        "0.6000 ± 0.1414",
        "0.1000",
    ]


def test_csv_rows_have_every_digit_of_figures_and_unchanged_settings(tmp_path: Path) -> None:
    figures = {"best": {"validation_accuracy": 0.123456789}, "parameters": 61_706}
    (row,) = make_csv_rows(tabulate_one(tmp_path, lr=0.003, result=figures))
    assert (row["validation_accuracy"], row["parameters"], row["optimizer.lr"]) == (
        0.123456789,
        61_706,
        "0.003",
    )
    assert (row["test_accuracy"], row["error"]) == (None, "")


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "@SUM(A1)", "-x"])
def test_csv_text_is_no_formula(text: str) -> None:
    (row,) = make_csv_rows([Column("error", "error", [Cell(text)], "fact")])
    assert row == {"error": f"'{text}"}


def test_override_key_is_no_formula_and_no_markdown(tmp_path: Path) -> None:
    for value in "ab":
        (make_run(tmp_path / value) / ".hydra" / "overrides.yaml").write_text(f"['@x|y={value}']")
    columns = tabulate_runs(read_records(tmp_path))
    assert "'@x|y" in make_csv_rows(columns)[0]
    assert "| @x\\|y |" in format_markdown(columns)


def test_negative_number_is_not_quoted_as_formula() -> None:
    (row,) = make_csv_rows([Column("optimizer.momentum", "momentum", [Cell("-1", -1.0)])])
    assert row == {"optimizer.momentum": "-1"}


def test_format_markdown_aligns_numbers_and_drops_empty_columns() -> None:
    columns = [
        Column("model", "network", [Cell("lenet_relu"), Cell("mlp")]),
        Column("seed", "seed", [Cell("0", 0.0), Cell("")]),
        Column("error", "error", [Cell(""), Cell("")], "fact"),
    ]
    assert (
        format_markdown(columns)
        == "| network | seed |\n| --- | ---: |\n| lenet_relu | 0 |\n| mlp |  |\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lenet_relu", "lenet_relu"),
        ("_x_ *y* `z`", r"\_x\_ \*y\* \`z\`"),
        ("a|b", r"a\|b"),
        ("<img src=x>", r"\<img src=x\>"),
        ("[a](b) &amp; c\\d", r"\[a\](b) \&amp; c\\d"),
    ],
)
def test_escape_markdown(text: str, shown: str) -> None:
    assert escape_markdown(text) == shown
