"""Commands with data=folder: training on the user's images, errors, and resuming."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import Command, find_only_run
from helpers.image_folders import draw_shapes, fill, put_images
from helpers.in_process import run_in_process
from helpers.small_runs import read_files

from cnnbench.data import cache, datasets, folder
from cnnbench.data.scan_folder import FORMATS, ImageFile
from cnnbench.training import checkpoint
from cnnbench.training.device import Device

SMALL = (
    *("data=folder", "data.path=photos", "data.image_size=8", "model=mlp", "model.widths=[8]"),
    *("device=cpu", "device.precision=fp32", "device.threads=1"),
    *("train.epochs=1", "train.batch_size=8", "optimizer=momentum"),
)


PHOTOS = {"cats": 24, "dogs": 18}


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", PHOTOS)


# Training


def test_training_reports_and_records_the_folder_dataset(
    within: Command, photos: Path, tmp_path: Path
) -> None:
    done = within(*SMALL)
    assert done.returncode == 0, done.stderr
    run = find_only_run(tmp_path)
    assert run.parent.name == "mlp-folder-8px"
    assert "on photos at 8 x 8: 31 training, 4 validation and 7 test examples" in done.stdout
    note = "Set apart for testing: 7 images, a sixth of each class, the same with any seed."
    assert note in done.stdout
    record = json.loads((run / "dataset.json").read_text())
    assert (record["name"], record["title"]) == ("folder", "photos")
    assert record["classes"] == ["cats", "dogs"]
    assert (record["image_size"], len(record["mean"]), len(record["sha256"])) == (8, 3, 4)
    assert min(record["std"]) > 0


@pytest.fixture
def three_parts(tmp_path: Path) -> Path:
    """Create photos/ with train/, val/ and test/, all images different."""
    for part, number in (("train", 12), ("val", 5), ("test", 3)):
        for name in PHOTOS:
            files = [f"{name}/{part}{index}.png" for index in range(number)]
            put_images(tmp_path / "photos" / part, files)
    return tmp_path / "photos"


@pytest.mark.usefixtures("three_parts")
def test_validation_folder_selects_the_epoch_and_test_folder_is_evaluated(
    within: Command, tmp_path: Path
) -> None:
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "24 training, 10 validation and 6 test examples" in done.stdout
    note = "Validation set: the 10 images of the validation folder; data.validation is not used."
    assert note in done.stdout
    split = json.loads((tmp_path / "run" / "environment.json").read_text())["data"]
    assert [split[part] for part in ("train", "validation", "test")] == [24, 10, 6]
    assert json.loads((tmp_path / "run" / "dataset.json").read_text())["validation_examples"] == 10
    assert "validation_accuracy" in (tmp_path / "run" / "metrics.csv").read_text()
    done = within("evaluate", "run")
    assert "on the test set of photos: 6 examples" in done.stdout, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["accuracy"] == result["test_accuracy"]


@pytest.mark.usefixtures("three_parts")
def test_run_with_a_validation_folder_resumes_bit_exactly(within: Command, tmp_path: Path) -> None:
    assert within(*SMALL, "train.epochs=2", "hydra.run.dir=whole").returncode == 0
    assert within(*SMALL, "hydra.run.dir=parts").returncode == 0
    assert within("resume", "parts", "train.epochs=2").returncode == 0
    runs = [tmp_path / name / "checkpoints" / "last.pt" for name in ("whole", "parts")]
    whole, parts = map(checkpoint.load_checkpoint, runs)
    assert all(torch.equal(whole["model"][key], parts["model"][key]) for key in whole["model"])
    measured = [[row["validation_loss"] for row in run["rows"]] for run in (whole, parts)]
    assert measured[0] == measured[1]


@pytest.mark.usefixtures("three_parts")
def test_without_validation_the_test_set_is_evaluated_each_epoch(
    within: Command, tmp_path: Path
) -> None:
    done = within(*SMALL, "data.validation=0", "hydra.run.dir=run")
    assert "24 training, 0 validation and 6 test examples" in done.stdout, done.stderr
    assert "Not used, as data.validation=0: 10 images in the validation folder." in done.stdout
    assert "test_accuracy" in (tmp_path / "run" / "metrics.csv").read_text()


def test_class_without_test_images_has_no_recall(within: Command, three_parts: Path) -> None:
    shutil.rmtree(three_parts / "test" / "dogs")
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "Without images in test/: dogs." in done.stdout
    done = within("evaluate", "run")
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((three_parts.parent / "run" / "evaluation.json").read_text())
    assert [row["support"] for row in evaluation["classes"]] == [3, 0]
    assert evaluation["classes"][1]["recall"] is None
    assert evaluation["macro_mean"]["recall"] == evaluation["classes"][0]["recall"]


def test_jobs_of_a_sweep_read_the_images_once(
    within: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_images = folder.read_images
    calls: list[int] = []

    def record(files: Sequence[ImageFile], *more: Any) -> object:
        calls.append(len(files))
        return read_images(files, *more)

    monkeypatch.setattr(folder, "read_images", record)
    assert within("-m", *SMALL, "optimizer.lr=0.01,0.1").returncode == 0
    assert calls == [42]


def test_photos_experiment_learns_from_few_drawings(within: Command, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "photos" / "train", 20, seed=0)
    draw_shapes(tmp_path / "photos" / "test", 20, seed=1)
    tiny = ("data.image_size=24", "augment.translate=2", "model.width=8", "train.epochs=15")
    exact = ("device=cpu", "device.precision=fp32", "device.threads=1")
    done = within("experiment=photos", "data.path=photos", *tiny, *exact)
    assert done.returncode == 0, done.stderr
    result = json.loads((find_only_run(tmp_path) / "result.json").read_text())
    assert result["test_accuracy"] >= 0.6  # chance is 1/3


def test_run_that_learned_nothing_recommends_the_photos_experiment(
    within: Command, photos: Path
) -> None:
    done = within(*SMALL, "optimizer.lr=1e-30")
    assert "The network learned nothing" in done.stdout
    assert "experiment=photos" in done.stdout


@pytest.mark.parametrize("subset", [(), ("data.train_examples=16",)], ids=len)
def test_share_of_a_large_class_is_printed_first(
    subset: tuple[str, ...], within: Command, tmp_path: Path
) -> None:
    fill(tmp_path / "photos" / "train", {"cats": 32, "cows": 6, "dogs": 6})
    fill(tmp_path / "photos" / "test", {"cats": 2, "cows": 2, "dogs": 2})
    done = within(*SMALL, *subset)
    assert done.returncode == 0, done.stderr
    share = "73% of the training images are of class cats; an even share is 33%."
    assert share in done.stdout.splitlines()[:5]


# Other commands


def test_summary_shows_channels_and_classes_without_reading_images(
    within: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", None)
    done = within("summary", "data=folder", "data.path=photos", "model=lenet")
    assert done.stdout.startswith("lenet on photos, 3 x 28 x 28, 2 classes")


@pytest.mark.slow
def test_benchmark_uses_the_images(within: Command, photos: Path, tmp_path: Path) -> None:
    done = within("benchmark", *SMALL, "--rounds", "1")
    assert done.returncode == 0, done.stderr
    measured = json.loads(next(tmp_path.rglob("benchmark.json")).read_text())
    assert (measured["epoch"]["train_examples"], measured["epoch"]["test_examples"]) == (31, 7)


def test_dry_run_measures_the_first_job(within: Command, photos: Path) -> None:
    done = within("-m", "--dry-run", *SMALL, "optimizer.lr=0.01,0.1")
    assert "2 jobs in" in done.stdout, done.stderr


# Errors, reported before a run directory is created


@pytest.mark.parametrize("choice", ["data=folder", "experiment=photos"])
def test_missing_data_path_is_an_error(choice: str, within: Command, tmp_path: Path) -> None:
    done = within(choice)
    assert (done.returncode, "needs data.path=DIR" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_invalid_folder_is_reported_before_a_run_directory_is_created(
    within: Command, photos: Path, tmp_path: Path
) -> None:
    shutil.rmtree(photos / "cats")
    done = within(*SMALL)
    message = "photos has dogs, and at least two folders are needed"
    assert (done.returncode, message in done.stderr) == (3, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_unreadable_image_is_reported_by_name(within: Command, photos: Path) -> None:
    (photos / "cats" / "003.png").write_text("I am text")
    done = within(*SMALL)
    assert done.returncode == 3
    assert f"photos/cats/003.png is not a {FORMATS} image." in done.stderr


def test_too_few_images_for_a_test_set_are_an_error(within: Command, tmp_path: Path) -> None:
    put_images(tmp_path / "photos", ["cats/1.png", "dogs/1.png"])
    done = within(*SMALL)
    assert (done.returncode, "no images to test on" in done.stderr) == (3, True), done.stderr


def test_images_larger_than_memory_are_reported_before_reading(
    within: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "whole_memory", lambda device: 42 * 3 * 64 - 1)
    done = within(*SMALL)
    assert done.returncode == 2
    assert "42 images of 8 x 8 pixels in photos take 7.9 KiB" in done.stderr
    assert "Lower data.image_size" in done.stderr


# Resuming


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder with photos and a finished run on them."""
    place = tmp_path_factory.mktemp("finished")
    for part in ("train", "test"):
        fill(place / "photos" / part, {"cats": 12, "dogs": 9})
    done = run_in_process(*SMALL, "hydra.run.dir=run", folder=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run of one epoch, in the same folder as photos/."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_run_resumes_with_moved_images(within: Command, run: Path) -> None:
    (run.parent / "photos").rename(run.parent / "moved")
    done = within("resume", "run", "train.epochs=2")
    assert "data.path=photos: there is no such folder" in done.stderr
    assert within("resume", "run", "train.epochs=2", "data.path=moved").returncode == 0


def test_run_resumes_with_class_names_in_another_unicode_form(
    within: Command, tmp_path: Path
) -> None:
    for part in ("train", "test"):
        fill(tmp_path / "photos" / part, {"caf\u00e9": 9, "dogs": 9})
    assert within(*SMALL, "hydra.run.dir=run").returncode == 0
    for part in ("train", "test"):
        folder = tmp_path / "photos" / part
        (folder / "caf\u00e9").rename(folder / "cafe\u0301")
    done = within("resume", "run", "train.epochs=2")
    assert done.returncode == 0, done.stderr


def rename_class(photos: Path) -> None:
    for part in ("train", "test"):
        (photos / part / "cats").rename(photos / part / "cows")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one more": (lambda photos: put_images(photos, ["train/cats/new.png"]), "43 images, not 42."),
    "another": (
        lambda photos: shutil.copy(photos / "test/cats/000.png", photos / "test/cats/001.png"),
        "some of the 42 images were changed, renamed or moved.",
    ),
    "another class": (rename_class, "new classes cows; missing classes cats."),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_run_does_not_resume_with_other_images(
    change: Callable[[Path], object], message: str, within: Command, run: Path
) -> None:
    change(run.parent / "photos")
    original = read_files(run)
    done = within("resume", "run", "train.epochs=2")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert read_files(run) == original


def test_job_of_a_sweep_does_not_resume_with_other_images(
    within: Command, photos: Path, tmp_path: Path
) -> None:
    job = ("-m", *SMALL, "train.epochs=2", "optimizer.lr=0.01", "sweep=mine")
    assert within(*job).returncode == 0
    (result,) = tmp_path.rglob("result.json")
    result.unlink()
    status = json.loads((result.parent / "status.json").read_text())
    (result.parent / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    put_images(photos, ["cats/new.png"])
    done = within(*job)
    assert "43 images, not 42." in done.stderr + done.stdout


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
def test_run_without_a_valid_dataset_json_does_not_resume(
    damage: Callable[[Path], object], within: Command, run: Path
) -> None:
    damage(run / "dataset.json")
    done = within("resume", "run", "train.epochs=2")
    assert (done.returncode, "dataset.json" in done.stderr) == (5, True)
