"""Folder datasets with files that cannot be read: data.skip_unreadable, in loading and in runs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import Command
from helpers.image_folders import fill, put_images

from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.data.scan_folder import FORMATS, list_images
from cnnbench.errors import DataError
from cnnbench.training import checkpoint

pytestmark = pytest.mark.usefixtures("empty_cache")

Make = Callable[..., DataConfig]
ADVICE = "data.skip_unreadable=true leaves out what cannot be read."


def spoil(folder: Path, *names: str) -> None:
    """Replace files by web pages, as a download that failed leaves them."""
    for name in names:
        (folder / name).write_text("<!doctype html><html>404")


def web_page(path: Path) -> str:
    return f"{path} is a web page: it was not downloaded as an image."


@pytest.mark.parametrize("parts", [("",), ("train", "val", "test")], ids=len)
@pytest.mark.parametrize("channels", [None, 1])
def test_data_are_those_of_a_folder_without_the_unreadable_files(
    folder: Path, folder_config: Make, parts: tuple[str, ...], channels: int | None
) -> None:
    """Compare pixels, labels and digests with those after the files have been deleted."""
    for part in parts:
        fill(folder / part, {"cats": 13, "cows": 7, "dogs": 6})
    names = [f"{part}/{name}".lstrip("/") for part in parts for name in ("cats/003.png",)]
    names += [f"{parts[0]}/dogs/{number:03d}.png".lstrip("/") for number in (0, 5)]
    spoil(folder, *names)
    config = folder_config(skip_unreadable=True, channels=channels)
    info, (dataset, arrays) = datasets.dataset_info(config), datasets.load_dataset(config)
    counts = (info.train_examples, info.test_examples, info.validation_examples)
    for name in names:
        (folder / name).unlink()
    expected, expected_arrays = datasets.load_dataset(folder_config(channels=channels))
    assert counts == (
        *(expected.train_examples, expected.test_examples),
        expected.validation_examples,
    )
    for found, wanted in zip(arrays[:4], expected_arrays[:4], strict=True):
        assert np.array_equal(found, wanted)
    assert dataset.sha256 == expected.sha256
    assert (dataset.mean, dataset.std) == (expected.mean, expected.std)
    assert dataset.notes[1:] == expected.notes
    assert (dataset.skipped, expected.skipped) == (tuple(sorted(names)), ())
    assert type(dataset).from_record(dataset.as_record()).skipped == tuple(sorted(names))


def test_note_counts_skipped_files_with_two_examples(folder: Path, folder_config: Make) -> None:
    fill(folder / "train", {"cats": 4, "dogs": 4})
    fill(folder / "test", {"cats": 2, "dogs": 2})
    spoil(folder, *(f"train/cats/00{number}.png" for number in (1, 2)))
    truncated = folder / "test/dogs/001.png"
    truncated.write_bytes(truncated.read_bytes()[:-60])
    (note, *_) = datasets.dataset_info(folder_config(skip_unreadable=True)).notes
    assert note == (
        "Left out, as data.skip_unreadable=true: 3 files. "
        f"{web_page(folder / 'train/cats/001.png')} {web_page(folder / 'train/cats/002.png')}"
    )
    truncated.unlink()
    (folder / "train/cats/001.png").unlink()
    (note, *_) = datasets.dataset_info(folder_config(skip_unreadable=True)).notes
    path = folder / "train/cats/002.png"
    assert note == f"Left out, as data.skip_unreadable=true: 1 file. {web_page(path)}"


def test_broken_links_and_pipes_are_skipped(folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    (folder / "cats/link.png").symlink_to("nowhere")
    os.mkfifo(folder / "dogs/pipe.png")
    for load in (datasets.dataset_info, datasets.load_dataset):
        with pytest.raises(DataError, match=r"(?s)There are 2 problems.*leaves out what cannot"):
            load(folder_config())
    dataset, _ = datasets.load_dataset(folder_config(skip_unreadable=True))
    assert dataset.skipped == ("cats/link.png", "dogs/pipe.png")
    assert dataset.train_examples + dataset.test_examples == 8


def test_nothing_is_noted_or_recorded_if_all_files_can_be_read(
    folder: Path, folder_config: Make
) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    dataset, _ = datasets.load_dataset(folder_config(skip_unreadable=True))
    assert dataset == datasets.load_dataset(folder_config())[0]
    assert "skipped" not in dataset.as_record()


def test_error_without_the_option_names_it(folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    spoil(folder, "dogs/002.png")
    with pytest.raises(DataError) as caught:
        datasets.load_dataset(folder_config())
    assert str(caught.value) == f"{web_page(folder / 'dogs/002.png')} {ADVICE}"


def test_class_of_unreadable_files_alone_is_refused(folder: Path, folder_config: Make) -> None:
    fill(folder / "train", {"cats": 2, "dogs": 4})
    fill(folder / "test", {"cats": 2, "dogs": 2})
    names = [f"train/cats/00{number}.png" for number in range(2)]
    spoil(folder, *names)
    with pytest.raises(DataError) as caught:
        datasets.dataset_info(folder_config(skip_unreadable=True))
    assert str(caught.value).splitlines() == [
        f"There are 3 problems in {folder}:",
        f"  {folder}/train has no readable {FORMATS} files for cats.",
        *(f"  {web_page(folder / name)}" for name in names),
        "What cannot be read is left out. The other problems remain.",
    ]


def test_repaired_file_is_used_again(folder: Path, folder_config: Make) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    whole = (folder / "cats/001.png").read_bytes()
    spoil(folder, "cats/001.png")
    config = folder_config(skip_unreadable=True)
    assert datasets.load_dataset(config)[0].skipped == ("cats/001.png",)
    (folder / "cats/001.png").write_bytes(whole)
    dataset, _ = datasets.load_dataset(config)
    assert (dataset.skipped, dataset.train_examples + dataset.test_examples) == ((), 8)


def test_skipped_files_count_for_no_part(folder: Path) -> None:
    fill(folder, {"cats": 12, "dogs": 6})
    skipped = {f"{folder}/cats/{number:03d}.png" for number in range(6)}
    listing = list_images(folder, skipped)
    files = [file.path for part in (listing.train, listing.test) for file in part["cats"]]
    assert skipped.isdisjoint(files)
    assert [len(listing.train["cats"]), len(listing.test["cats"])] == [5, 1]


# Runs

SMALL = (
    *("data=folder", "data.path=photos", "data.image_size=8", "model=mlp", "model.widths=[8]"),
    *("device=cpu", "device.precision=fp32", "device.threads=1", "data.skip_unreadable=true"),
    *("train.epochs=1", "train.batch_size=8", "optimizer=momentum"),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Create photos/ with two files that are no images."""
    for part, number in (("train", 12), ("test", 6)):
        put_images(
            tmp_path / "photos" / part,
            [f"{name}/{part}{index}.png" for name in ("cats", "dogs") for index in range(number)],
        )
    spoil(tmp_path / "photos", "train/cats/train3.png", "test/dogs/test1.png")
    return tmp_path / "photos"


def test_run_prints_and_records_skipped_files(
    within: Command, photos: Path, tmp_path: Path
) -> None:
    done = within(*SMALL, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(": 21 training, 2 validation and 11 test examples")
    places = [Path("photos/train/cats/train3.png"), Path("photos/test/dogs/test1.png")]
    note = "Left out, as data.skip_unreadable=true: 2 files."
    assert " ".join([note, *map(web_page, places)]) in lines[:6]
    record = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert record["skipped"] == ["test/dogs/test1.png", "train/cats/train3.png"]
    done = within("evaluate", "run")
    assert (done.returncode, note in done.stdout) == (0, True), done.stderr
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (evaluation["examples"], evaluation["accuracy"]) == (11, result["test_accuracy"])


def test_run_resumes_bit_exactly_while_the_readable_images_are_the_same(
    within: Command, photos: Path, tmp_path: Path
) -> None:
    assert within(*SMALL, "train.epochs=2", "hydra.run.dir=whole").returncode == 0
    assert within(*SMALL, "hydra.run.dir=parts").returncode == 0
    (photos / "test/dogs/test1.png").unlink()
    done = within("resume", "parts", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    whole, parts = (
        checkpoint.load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")
        for name in ("whole", "parts")
    )
    assert all(torch.equal(whole["model"][key], parts["model"][key]) for key in whole["model"])
    shutil.copy(photos / "test/dogs/test2.png", photos / "test/dogs/test1.png")
    done = within("resume", "parts", "train.epochs=3")
    assert (done.returncode, "35 images, not 34." in done.stderr) == (2, True), done.stderr


@pytest.mark.usefixtures("photos")
def test_skipping_is_for_folder_datasets_alone(within: Command, tmp_path: Path) -> None:
    done = within("data=sample", "data.skip_unreadable=true", "model=mlp")
    assert (done.returncode, "data.skip_unreadable" in done.stderr) == (2, True)
    assert "data=folder" in done.stderr
    done = within(*SMALL, "data.skip_unreadable=maybe")
    assert (done.returncode, "data.skip_unreadable=maybe" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "outputs").exists()
