"""data=folder through the command: the user's own images, from the first look at them to a run that goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.command import Command, find_only_run
from helpers.image_folders import draw_shapes, fill, put_images
from helpers.in_process import run_in_process
from helpers.small_runs import read_files

from cnnbench.data import cache, datasets, folder
from cnnbench.data.scan_folder import FORMATS
from cnnbench.training import checkpoint
from cnnbench.training.device import Device

SMALL = (
    *(
        "data=folder",
        "data.path=photos",
        "data.image_size=8",
        "model=mlp",
        "model.widths=[8]",
        "device=cpu",
    ),
    *(
        "device.precision=fp32",
        "device.threads=1",
        "train.epochs=1",
        "train.batch_size=8",
        "optimizer=momentum",
    ),
)


PHOTOS = {"cats": 24, "dogs": 18}


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    cache.clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", PHOTOS)


# Training


def test_a_run_says_what_it_is_of(within: Command, photos: Path, tmp_path: Path) -> None:
    done = within(*SMALL)
    assert done.returncode == 0, done.stderr
    run = find_only_run(tmp_path)
    assert run.parent.name == "mlp-folder-8px"
    assert "on photos at 8 x 8: 31 training, 4 validation and 7 test examples" in done.stdout
    assert (
        "Set apart for testing: 7 images, a sixth of each class, the same with any seed."
        in done.stdout
    )
    known = json.loads((run / "dataset.json").read_text())
    assert (known["name"], known["title"], known["classes"]) == (
        "folder",
        "photos",
        ["cats", "dogs"],
    )
    assert (known["image_size"], len(known["mean"]), len(known["sha256"])) == (8, 3, 4)
    assert min(known["std"]) > 0


@pytest.fixture
def three_parts(tmp_path: Path) -> Path:
    """photos/ with train/, val/ and test/, no image of which is another's."""
    for part, number in (("train", 12), ("val", 5), ("test", 3)):
        for name in PHOTOS:
            files = [f"{name}/{part}{index}.png" for index in range(number)]
            put_images(tmp_path / "photos" / part, files)
    return tmp_path / "photos"


@pytest.mark.usefixtures("three_parts")
def test_val_chooses_the_epoch_and_test_is_measured(within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "24 training, 10 validation and 6 test examples" in done.stdout
    assert (
        "Validation set: the 10 images of the validation folder; data.validation is not used."
        in done.stdout
    )
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
def test_a_run_with_val_resumes_to_the_same_bits(within: Command, tmp_path: Path) -> None:
    assert within(*SMALL, "train.epochs=2", "hydra.run.dir=whole").returncode == 0
    assert within(*SMALL, "hydra.run.dir=parts").returncode == 0
    assert within("resume", "parts", "train.epochs=2").returncode == 0
    runs = [tmp_path / name / "checkpoints" / "last.pt" for name in ("whole", "parts")]
    whole, parts = map(checkpoint.load, runs)
    assert all(torch.equal(whole["model"][key], parts["model"][key]) for key in whole["model"])
    measured = [[row["validation_loss"] for row in run["rows"]] for run in (whole, parts)]
    assert measured[0] == measured[1]


@pytest.mark.usefixtures("three_parts")
def test_without_validation_the_test_set_is_measured_each_epoch(
    within: Command, tmp_path: Path
) -> None:
    done = within(*SMALL, "data.validation=0", "hydra.run.dir=run")
    assert "24 training, 0 validation and 6 test examples" in done.stdout, done.stderr
    assert "Not used, as data.validation=0: 10 images in the validation folder." in done.stdout
    assert "test_accuracy" in (tmp_path / "run" / "metrics.csv").read_text()


def test_a_class_without_test_images_has_no_figures_of_its_own(
    within: Command, three_parts: Path
) -> None:
    shutil.rmtree(three_parts / "test" / "dogs")
    done = within(*SMALL, "hydra.run.dir=run")
    assert (done.returncode, "Without images in test/: dogs." in done.stdout) == (0, True), (
        done.stderr
    )
    done = within("evaluate", "run")
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((three_parts.parent / "run" / "evaluation.json").read_text())
    assert [each["support"] for each in evaluation["classes"]] == [3, 0]
    assert evaluation["classes"][1]["recall"] is None
    assert evaluation["macro_mean"]["recall"] == evaluation["classes"][0]["recall"]


def test_the_jobs_of_a_sweep_read_the_images_once(
    within: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = folder.read_images
    calls: list[int] = []
    monkeypatch.setattr(
        folder, "read_images", lambda files, *more: calls.append(len(files)) or read(files, *more)
    )
    assert within("-m", *SMALL, "optimizer.lr=0.01,0.1").returncode == 0
    assert calls == [42]


def test_the_recipe_for_photos_learns_from_few_drawings(within: Command, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "photos" / "train", 20, seed=0)
    draw_shapes(tmp_path / "photos" / "test", 20, seed=1)
    tiny = ("data.image_size=24", "augment.translate=2", "model.width=8", "train.epochs=15")
    exact = ("device=cpu", "device.precision=fp32", "device.threads=1")
    done = within("experiment=photos", "data.path=photos", *tiny, *exact)
    assert done.returncode == 0, done.stderr
    result = json.loads((find_only_run(tmp_path) / "result.json").read_text())
    assert result["test_accuracy"] >= 0.6  # by chance 1/3


def test_a_run_that_learnt_nothing_of_photos_names_their_recipe(
    within: Command, photos: Path
) -> None:
    told = within(*SMALL, "optimizer.lr=1e-30").stdout
    assert "The network learnt nothing" in told
    assert "experiment=photos" in told


# The other verbs


def test_summary_knows_channels_and_classes_without_reading_an_image(
    within: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load", None)
    done = within("summary", "data=folder", "data.path=photos", "model=lenet")
    assert done.stdout.startswith("lenet on photos, 3 x 28 x 28, 2 classes")


@pytest.mark.slow
def test_a_benchmark_measures_on_the_images(within: Command, photos: Path, tmp_path: Path) -> None:
    done = within("benchmark", *SMALL, "--rounds", "1")
    assert done.returncode == 0, done.stderr
    measured = json.loads(next(tmp_path.rglob("benchmark.json")).read_text())
    assert (measured["epoch"]["train_examples"], measured["epoch"]["test_examples"]) == (31, 7)


def test_a_dry_run_measures_the_first_job(within: Command, photos: Path) -> None:
    done = within("-m", "--dry-run", *SMALL, "optimizer.lr=0.01,0.1")
    assert "2 jobs in" in done.stdout, done.stderr


# What is wrong, told before a run directory is made


@pytest.mark.parametrize("choice", ["data=folder", "experiment=photos"])
def test_without_a_path_it_is_asked_for(choice: str, within: Command, tmp_path: Path) -> None:
    done = within(choice)
    assert (done.returncode, "needs data.path=DIR" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_data_set_is_told_before_a_run_directory_is_made(
    within: Command, photos: Path, tmp_path: Path
) -> None:
    shutil.rmtree(photos / "cats")
    done = within(*SMALL)
    told = "photos has dogs, and at least two folders are needed"
    assert (done.returncode, told in done.stderr) == (3, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_an_image_that_cannot_be_read_is_told_by_name(within: Command, photos: Path) -> None:
    (photos / "cats" / "003.png").write_text("I am text")
    done = within(*SMALL)
    assert (done.returncode, f"photos/cats/003.png is not a {FORMATS} image." in done.stderr) == (
        3,
        True,
    )


def test_too_few_images_to_hold_some_out_are_told(within: Command, tmp_path: Path) -> None:
    put_images(tmp_path / "photos", ["cats/1.png", "dogs/1.png"])
    done = within(*SMALL)
    assert (done.returncode, "no images to test on" in done.stderr) == (3, True), done.stderr


def test_more_images_than_memory_are_told_before_they_are_read(
    within: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "whole_memory", lambda device: 42 * 3 * 64 - 1)
    done = within(*SMALL)
    assert done.returncode == 2
    assert "42 images of 8 x 8 pixels in photos take 7.9 KiB" in done.stderr
    assert "Lower data.image_size" in done.stderr


# Going on


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its photos, to be copied."""
    place = tmp_path_factory.mktemp("finished")
    for part in ("train", "test"):
        fill(place / "photos" / part, {"cats": 12, "dogs": 9})
    done = run_in_process(*SMALL, "hydra.run.dir=run", folder=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A run of one epoch, beside photos/."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_a_run_goes_on_with_the_same_images_elsewhere(within: Command, run: Path) -> None:
    (run.parent / "photos").rename(run.parent / "moved")
    assert (
        "data.path=photos: there is no such folder"
        in within("resume", "run", "train.epochs=2").stderr
    )
    assert within("resume", "run", "train.epochs=2", "data.path=moved").returncode == 0


def test_a_run_goes_on_with_the_letters_of_a_class_taken_apart(
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


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one more": (lambda photos: put_images(photos, ["train/cats/new.png"]), "43 images, not 42."),
    "another": (
        lambda photos: shutil.copy(photos / "test/cats/000.png", photos / "test/cats/001.png"),
        "some of the 42 images were changed, renamed or moved.",
    ),
    "another class": (
        lambda photos: [
            (photos / part / "cats").rename(photos / part / "cows") for part in ("train", "test")
        ],
        "new classes cows; missing classes cats.",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_run_does_not_go_on_with_other_images(
    change: Callable[[Path], object], message: str, within: Command, run: Path
) -> None:
    change(run.parent / "photos")
    before = read_files(run)
    done = within("resume", "run", "train.epochs=2")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert read_files(run) == before


def test_a_job_of_a_sweep_does_not_go_on_with_other_images(
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
def test_a_run_that_does_not_say_what_it_was_trained_on_does_not_go_on(
    damage: Callable[[Path], object], within: Command, run: Path
) -> None:
    damage(run / "dataset.json")
    done = within("resume", "run", "train.epochs=2")
    assert (done.returncode, "dataset.json" in done.stderr) == (5, True)
