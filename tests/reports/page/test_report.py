"""The data of the page. The tests in_browser test its behavior."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_runs import FakeTraining, make_grid, make_run

from cnnbench.reports.grouping import rank_runs
from cnnbench.reports.page.report import collect_page_data, render_report
from cnnbench.reports.tables import tabulate_runs
from cnnbench.runs.records import read_records


def data(folder: Path) -> Any:
    runs = rank_runs(read_records(folder))
    return json.loads(json.dumps(collect_page_data(runs, tabulate_runs(runs)), allow_nan=False))


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Return the elements of a page with their attributes."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, dict(attrs)))
    parser.feed(page)
    return found


def test_page_curves_are_columns_of_metrics_csv(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    header = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy"
    rows = "1,2.5,0.1,2,0.2\n2,1.23456789,0.3,inf,nan\n"
    (run / "metrics.csv").write_text(f"{header}\n{rows}")
    (found,) = data(tmp_path)["runs"]
    assert found["curves"] == {
        "eval_part": "validation",
        "epoch": [1, 2],
        "train_loss": [2.5, 1.2346],
        "train_accuracy": [0.1, 0.3],
        "eval_loss": [2, None],
        "eval_accuracy": [0.2, None],
    }


def test_page_curves_use_test_set_without_validation_set(tmp_path: Path) -> None:
    (make_run(tmp_path / "run") / "metrics.csv").write_text("epoch,test_accuracy\n1,0.5\n")
    curves = data(tmp_path)["runs"][0]["curves"]
    assert (curves["eval_part"], curves["eval_accuracy"]) == ("test", [0.5])


def test_page_curves_are_thinned_and_keep_the_last_epoch(tmp_path: Path) -> None:
    make_run(tmp_path / "run", training=FakeTraining(epochs=1_700))
    epochs = data(tmp_path)["runs"][0]["curves"]["epoch"]
    assert 400 < len(epochs) <= 500
    assert (epochs[-1], epochs[-1] - epochs[-2]) == (1_700, 4)


def test_page_configurations_have_varying_keys(tmp_path: Path) -> None:
    make_run(tmp_path / "a", lr=0.1)
    config = make_run(tmp_path / "b", lr=0.2) / "config.yaml"
    config.write_text(config.read_text().replace("compile: false", "compile: null"))
    (tmp_path / "c").mkdir()  # a run that failed before it had a configuration
    (tmp_path / "c" / "status.json").write_text('{"state": "failed"}')
    assert [run["config"] for run in data(tmp_path)["runs"]] == [
        {"device.compile": "false", "optimizer.lr": "0.1"},
        {"device.compile": "null", "optimizer.lr": "0.2"},
        {},
    ]


def test_page_settings_have_varying_keys_or_the_model(tmp_path: Path) -> None:
    make_run(tmp_path / "a", model="lenet", seed=0)
    make_run(tmp_path / "b", model="mlp", seed=1)
    settings = [run["settings"] for run in data(tmp_path)["runs"]]
    assert settings == [{"model": "lenet", "seed": "seed 0"}, {"model": "mlp", "seed": "seed 1"}]
    assert data(tmp_path / "a")["runs"][0]["settings"] == {"model": "lenet"}


def test_page_groups_runs_that_differ_only_in_seed(tmp_path: Path) -> None:
    for number, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (0.2, 0)]):
        make_run(
            tmp_path / str(number), lr=lr, seed=seed, result={"test_accuracy": 1 - number / 10}
        )
    assert [run["group"] for run in data(tmp_path)["runs"]] == [0, 0, 2]


def test_heat_map_has_means_stds_and_states(tmp_path: Path) -> None:
    # rate 0.2 with batch 64 failed, rate 0.1 with batch 64 was interrupted once
    make_grid(tmp_path, ["lenet"], [0.1, 0.2], [64, 128], [0, 1], 3)
    (found,) = data(tmp_path)["grids"]
    assert (found["rates"], found["batch_sizes"], found["part"]) == (
        ["0.1", "0.2"],
        ["64", "128"],
        "validation",
    )
    assert (found["counts"], found["states"][0][1]) == ([[1, 0], [2, 2]], "failed")
    assert [[mean is None for mean in row] for row in found["means"]] == [
        [False, True],
        [False, False],
    ]
    assert [[std is None for std in row] for row in found["stds"]] == [
        [True, True],
        [False, False],
    ]


def test_heat_map_titles_have_varying_keys(tmp_path: Path) -> None:
    make_grid(tmp_path, ["lenet", "mlp"], [0.1, 0.2], [64, 128], [0], 2)
    assert [grid["title"] for grid in data(tmp_path)["grids"]] == ["model=mlp", "model=lenet"]


EVALUATED = [{"name": "Bag", "precision": 0.5, "recall": 0.25}, {"name": "Coat", "recall": 1}]
ODD = [3, {}, {"name": "a", "recall": "1"}, {"name": "b", "recall": float("nan")}]


@pytest.mark.parametrize(
    ("classes", "recall"),
    [(EVALUATED, {"Bag": 0.25, "Coat": 1}), (None, {}), (3, {}), ({}, {}), (ODD, {})],
)
def test_page_recall_skips_invalid_evaluations(
    classes: Any, recall: dict[str, float], tmp_path: Path
) -> None:
    make_run(tmp_path / "run", evaluation={"accuracy": 0.5, "classes": classes})
    assert data(tmp_path)["runs"][0]["recall"] == recall


HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\"'<!--"


def test_hostile_values_of_runs_are_text_and_data(tmp_path: Path) -> None:
    make_run(tmp_path / "harmless")
    before = elements(render_report(read_records(tmp_path), "runs"))
    recall = {"classes": [{"name": HOSTILE, "recall": 0.5}]}
    run = make_run(tmp_path / "run", model=HOSTILE, evaluation=recall)
    overrides = [f"{HOSTILE.replace('=', '')}={HOSTILE}"]
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    error = {"state": "failed", "error": HOSTILE}
    make_run(tmp_path / HOSTILE.replace("/", ""), status=error)
    page = render_report(read_records(tmp_path), HOSTILE)
    after = elements(page)
    assert {tag for tag, _ in after} == {tag for tag, _ in before}
    names = {name for _, attributes in after for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    start = page.index('id="data">') + len('id="data">')
    embedded = json.loads(page[start : page.index("</script>", start)])
    assert HOSTILE in [run["settings"]["model"] for run in embedded["runs"]]


def test_report_loads_nothing_from_the_network(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    for _, attributes in elements(render_report(read_records(tmp_path), "runs")):
        assert not {"src", "href", "action", "data"} & attributes.keys()


def test_best_groups_are_preselected(tmp_path: Path) -> None:
    for number in range(14):
        result = {"best": {"validation_accuracy": number / 20}}
        run = tmp_path / str(number)
        make_run(run, lr=number // 2 + 1, seed=number % 2, result=result)
    page = render_report(read_records(tmp_path), "runs")
    boxes = re.findall(r'<input type="checkbox".*?aria-label="choose.*?"( checked)?>', page)
    assert boxes == [" checked"] * 10 + [""] * 4


def test_status_and_error_follow_the_settings(tmp_path: Path) -> None:
    make_run(tmp_path / "good", lr=0.1)
    make_run(tmp_path / "bad", lr=0.2, state="failed")
    found = elements(render_report(read_records(tmp_path), "runs"))
    names = [values["data-name"] for tag, values in found if tag == "th" and "data-name" in values]
    place = names.index("status")
    assert names[place : place + 2] == ["status", "error"]
    assert names.index("optimizer.lr") < place < names.index("test_accuracy")
