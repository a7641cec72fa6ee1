"""`cnnbench evaluate`: metrics, files, other data, and errors."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.command import Command
from helpers.image_folders import fill, make_picture
from helpers.in_process import run_in_process
from helpers.small_runs import read_files
from matplotlib.image import imread

from cnnbench.data import catalog
from cnnbench.data.catalog import CATALOG


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_metrics_are_those_that_the_run_measured(finished_run: Path, within: Command) -> None:
    done = within("evaluate", "run", "--topk", "2", "3")
    assert (done.returncode, done.stderr) == (0, "")
    evaluation, result = read(finished_run / "evaluation.json"), read(finished_run / "result.json")
    assert (evaluation["accuracy"], evaluation["loss"]) == (
        result["test_accuracy"],
        result["test_loss"],
    )
    names = tuple(metrics["name"] for metrics in evaluation["classes"])
    assert names == catalog.get("sample").classes
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "mlp (best.pt, epoch 2) on the test set of part of Fashion-MNIST: 20 examples"
    )
    assert f"accuracy           {evaluation['accuracy']:.4f}" in done.stdout
    balanced = evaluation["balanced_accuracy"]
    assert balanced == evaluation["macro_mean"]["recall"]
    assert f"balanced accuracy  {balanced:.4f}  each class counts alike" in lines
    shares = [line.split()[2] for line in lines if line.startswith("top ")]
    assert shares == [f"{evaluation['topk_accuracy'][k]:.4f}" for k in ("2", "3")]
    assert "The run itself measured" not in done.stdout
    assert lines[-2:] == ["run/evaluation.json", "run/confusion.png"]
    assert imread(finished_run / "confusion.png").ndim == 3


def test_other_accuracy_of_the_run_is_printed(finished_run: Path, within: Command) -> None:
    result = read(finished_run / "result.json")
    (finished_run / "result.json").write_text(json.dumps({**result, "test_accuracy": 0.123}))
    assert "The run itself measured 0.1230" in within("evaluate", "run").stdout


def test_overrides_have_separate_files(finished_run: Path, within: Command) -> None:
    within("evaluate", "run")
    before = (finished_run / "evaluation.json").read_bytes()
    done = within("evaluate", "run", "data.test_examples=10")
    assert done.returncode == 0, done.stderr
    assert read(finished_run / "evaluation_data.test_examples=10.json")["examples"] == 10
    assert (finished_run / "confusion_data.test_examples=10.png").exists()
    assert (finished_run / "evaluation.json").read_bytes() == before


def test_other_data_are_normalized_as_the_training_data(
    finished_run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give the same images another name, mean and std: if these were used, logits would differ."""
    other = dataclasses.replace(CATALOG["sample"], name="mnist", mean=(0.9,), std=(0.1,))
    monkeypatch.setitem(CATALOG, "mnist", other)
    within("evaluate", "run")
    done = within("evaluate", "run", "data=mnist", "data.test_examples=20")
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        read(finished_run / "evaluation.json"),
        read(finished_run / "evaluation_data=mnist,data.test_examples=20.json"),
    )
    assert ours["loss"] == theirs["loss"]


def test_classes_of_other_data_are_matched_by_name(
    finished_run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reverse the names: label 0 of the data is class 9 of the network."""
    everything = ("evaluate", "run", "data.test_examples=null")
    record = finished_run / "evaluation_data.test_examples=null.json"
    assert within(*everything).returncode == 0
    before = read(record)["confusion"]
    other = dataclasses.replace(CATALOG["sample"], classes=CATALOG["sample"].classes[::-1])
    monkeypatch.setitem(CATALOG, "sample", other)
    assert within(*everything).returncode == 0
    assert read(record)["confusion"] == before[::-1]


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the data set `mnist` have the images of the sample with other class names."""
    other = dataclasses.replace(CATALOG["sample"], name="mnist", classes=tuple("0123456789"))
    monkeypatch.setitem(CATALOG, "mnist", other)


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("command", ["evaluate", "inspect"])
def test_other_class_names_are_refused_with_match_by_order_hint(
    command: str, finished_run: Path, within: Command
) -> None:
    before = read_files(finished_run)
    done = within(command, "run", "data=mnist")
    assert (done.returncode, done.stdout) == (2, "")
    assert "data=mnist has classes that the network was not taught: 0, 1, 2, 3, " in done.stderr
    assert "It knows T-shirt/top, Trouser, " in done.stderr
    assert "(0 as T-shirt/top, 1 as Trouser, " in done.stderr
    assert done.stderr.endswith(") add: --match-by-order\n")
    assert read_files(finished_run) == before


@pytest.mark.usefixtures("digits")
def test_match_by_order_compares_other_class_names_in_order(
    finished_run: Path, within: Command
) -> None:
    note = "compared in their order: 0 as T-shirt/top, 1 as Trouser, "
    done = within("evaluate", "run", "data=mnist", "--match-by-order")
    assert done.returncode == 0, done.stderr
    assert note in done.stdout
    assert "classes matched by order: 1,000 examples" in done.stdout
    by_order = read(finished_run / "evaluation_data=mnist.json")
    assert (by_order["matched_by_order"], by_order["classes"][1]["name"]) == (True, "Trouser")
    words = ("data=mnist", "data.test_examples=10", "--match-by-order")
    assert note in within("inspect", "run", *words).stdout
    assert note in (finished_run / "inspect" / "index.html").read_text()


def test_match_by_order_has_no_effect_on_equal_names(
    finished_run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = CATALOG["sample"]
    reversed_names = dataclasses.replace(sample, classes=sample.classes[::-1])
    monkeypatch.setitem(CATALOG, "sample", reversed_names)
    assert within("evaluate", "run").returncode == 0
    before = read(finished_run / "evaluation.json")
    done = within("evaluate", "run", "--match-by-order")
    assert "--match-by-order has no effect" in done.stdout
    assert read(finished_run / "evaluation.json")["confusion"] == before["confusion"]


NOT_TAUGHT = "classes that the network was not taught: "


@pytest.mark.parametrize(
    ("classes", "unknown", "matches"),
    [
        ("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Hat", "Hat.", True),
        ("Trouser T-shirt/top Pullover Dress Coat Sandal Shirt Sneaker Bag Hat", "Hat.", False),
        ("0 1 2 3 4 5 6 7 8", "0, 1, 2", False),
        ("0 1 2 3 4 5 6 7 8 9 a", "0, 1, 2", False),
    ],
    ids=["one other name", "names at other places", "fewer", "more"],
)
def test_match_by_order_needs_as_many_classes_without_known_names_elsewhere(
    classes: str,
    unknown: str,
    matches: bool,
    finished_run: Path,
    within: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = dataclasses.replace(CATALOG["sample"], classes=tuple(classes.split()))
    monkeypatch.setitem(CATALOG, "sample", other)
    refused = within("evaluate", "run")
    assert (refused.returncode, "--match-by-order" in refused.stderr) == (2, matches)
    assert NOT_TAUGHT + unknown in refused.stderr
    done = within("evaluate", "run", "--match-by-order")
    assert done.returncode == (0 if matches else 2)
    assert ("--match-by-order does not help" in done.stderr) is not matches


def test_data_of_other_channels_are_refused(
    finished_run: Path, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    color = dataclasses.replace(CATALOG["sample"], mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    monkeypatch.setitem(CATALOG, "sample", color)
    done = within("evaluate", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has images of 3 channels; the network takes 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Name a run directory: cnnbench evaluate RUN"),
        ("run --topk 2,x", "--topk x is not a whole number. It must be at least 1."),
        ("nowhere", "nowhere is not a directory"),
        ("run --topk 0", "--topk 0 is out of range"),
        ("run --topk 2 10", "--topk 10 is out of range. It must be at most 9"),
        ("run data=samples", "Did you mean 'sample'?"),
        ("run device.precison=fp32", "Did you mean 'device.precision'?"),
        ("run data.test_examples=1001", "has 1,000 test examples"),
    ],
)
def test_wrong_arguments_are_reported_in_one_block(
    arguments: str, message: str, finished_run: Path, within: Command
) -> None:
    done = within("evaluate", *arguments.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert not (finished_run / "evaluation.json").exists()


def test_missing_data_exit_with_3(finished_run: Path, cnnbench: Command) -> None:
    done = cnnbench("evaluate", "run", "data=mnist", "--match-by-order")
    assert done.returncode == 3
    assert "MNIST is not complete on this machine" in done.stderr


@pytest.fixture(scope="module")
def trained_on_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a gray data set of three classes, `own`, and a run on it, `run`."""
    folder = tmp_path_factory.mktemp("trained_on_folder")
    fill(folder / "own", {"a": 12, "b": 12, "c": 12}, "L")
    data = (
        "data=folder",
        "data.path=own",
        "data.image_size=8",
        "train.batch_size=8",
        "train.epochs=1",
        "device=cpu",
    )
    done = run_in_process(
        "model=mlp", "model.widths=[8]", *data, "hydra.run.dir=run", folder=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def evaluate(folder: Path, within: Command, *overrides: str) -> dict[str, Any]:
    os.chdir(folder)  # `within` restores the working folder
    done = within("evaluate", "run", *overrides)
    assert done.returncode == 0, done.stderr
    return read(folder / done.stdout.splitlines()[-2])


def test_training_folder_is_evaluated_on_its_test_split_only(
    trained_on_folder: Path, within: Command
) -> None:
    evaluation = evaluate(trained_on_folder, within, f"data.path={trained_on_folder / 'own'}")
    assert [metrics["support"] for metrics in evaluation["classes"]] == [2, 2, 2]
    assert (
        evaluation["accuracy"] == read(trained_on_folder / "run" / "result.json")["test_accuracy"]
    )


def test_other_folder_is_evaluated_on_all_images_with_classes_of_the_network(
    trained_on_folder: Path, within: Command
) -> None:
    fill(trained_on_folder / "others", {"c": 7, "b": 4}, "RGB")
    evaluation = evaluate(trained_on_folder, within, "data.path=others")
    supports = {metrics["name"]: metrics["support"] for metrics in evaluation["classes"]}
    assert supports == {"a": 0, "b": 4, "c": 7}


def test_class_names_match_across_unicode_normal_forms(within: Command, tmp_path: Path) -> None:
    """Name folders with `é` as one character, and as `e` with a combining accent."""
    fill(tmp_path / "own", {"caf\u00e9": 6, "th\u00e9": 6}, "L")
    fill(tmp_path / "others", {"cafe\u0301": 3, "the\u0301": 4}, "L")
    small = ("data=folder", "data.path=own", "data.image_size=8", "train.epochs=1", "device=cpu")
    net = ("model=mlp", "model.widths=[8]", "train.batch_size=8", "data.validation=0")
    assert within(*net, *small, "hydra.run.dir=run").returncode == 0
    evaluation = evaluate(tmp_path, within, "data.path=others")
    supports = {metrics["name"]: metrics["support"] for metrics in evaluation["classes"]}
    assert supports == {"caf\u00e9": 3, "th\u00e9": 4}
    assert evaluation["matched_by_order"] is False


def test_folder_with_a_test_part_is_evaluated_on_it(
    trained_on_folder: Path, within: Command
) -> None:
    fill(trained_on_folder / "split" / "train", {"a": 3, "b": 3, "c": 3}, "L")
    fill(trained_on_folder / "split" / "test", {"a": 1, "b": 2, "c": 3}, "L")
    evaluation = evaluate(trained_on_folder, within, "data.path=split")
    assert [metrics["support"] for metrics in evaluation["classes"]] == [1, 2, 3]


def test_changed_training_folder_is_refused_under_any_name(
    trained_on_folder: Path, within: Command
) -> None:
    os.chdir(trained_on_folder)
    Path("copy").symlink_to("own")
    Path("elsewhere").mkdir()
    make_picture(99, "L").save("own/a/new.png")
    for folder, finished_run, path in (
        (".", "run", "own"),
        (".", "run", "copy"),
        ("elsewhere", "../run", "../own"),
    ):
        os.chdir(trained_on_folder / folder)
        for overrides in ([], ["data=folder", f"data.path={path}"]):
            done = within("evaluate", finished_run, *overrides)
            assert done.returncode == 2, done.stderr
            assert "or are others today: which of them it has not seen" in done.stderr
    (trained_on_folder / "own/a/new.png").unlink()
    assert within("evaluate", "../run").returncode == 0


def test_unreadable_files_of_other_data_are_left_out_and_printed(
    trained_on_folder: Path, within: Command
) -> None:
    fill(trained_on_folder / "broken", {"b": 4, "c": 7}, "RGB")
    os.chdir(trained_on_folder)
    Path("broken/c/003.png").write_text("no image")
    done = within("evaluate", "run", "data.path=broken")
    assert (done.returncode, "broken/c/003.png is not a" in done.stderr) == (3, True)
    done = within("evaluate", "run", "data.path=broken", "data.skip_unreadable=true")
    assert done.returncode == 0, done.stderr
    assert "on all images of broken: 10 examples" in done.stdout
    note = "Left out, as data.skip_unreadable=true: 1 file. broken/c/003.png is not a PNG"
    assert (note in done.stdout, "Set apart for testing" in done.stdout) == (True, False)


@pytest.mark.parametrize(("part", "code"), [("train", 2), ("test", 0)])
def test_train_part_of_the_training_folder_is_refused(
    part: str, code: int, within: Command, tmp_path: Path
) -> None:
    for name, number in (("train", 4), ("test", 2)):
        fill(tmp_path / "own" / name, {"a": number, "b": number}, "L")
    data = (
        "data=folder",
        "data.path=own",
        "data.image_size=8",
        "data.validation=0",
        "train.epochs=1",
        "device=cpu",
    )
    done = run_in_process(
        "model=mlp", "model.widths=[8]", *data, "hydra.run.dir=run", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    done = within("evaluate", "run", f"data.path=own/{part}")
    assert done.returncode == code, done.stderr
    assert (f"on all images of {part}: 4 examples" in done.stdout) == (code == 0)
