"""`cnnbench data`: the list of data sets, damaged or missing files, and the sheet of images."""

import gzip
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.image_folders import fill
from helpers.paths import SAMPLE
from PIL import Image


def test_data_lists_present_and_missing_files(cnnbench: Command) -> None:
    done = cnnbench("data")
    assert done.returncode == 0
    assert "sample: part of Fashion-MNIST, license MIT" in done.stdout
    assert "mnist: MNIST, license CC BY-SA 3.0" in done.stdout
    assert "not on this machine: train-images-idx3-ubyte" in done.stdout


def test_file_of_another_data_set_is_reported_and_not_used(
    cnnbench: Command, tmp_path: Path
) -> None:
    swapped = tmp_path / "mine" / "train-images-idx3-ubyte.gz"
    swapped.parent.mkdir()
    swapped.write_bytes((SAMPLE / swapped.name).read_bytes())
    done = cnnbench("data", "mnist", CNNBENCH_DATA=str(swapped.parent))
    assert done.returncode == 3
    content = "part of Fashion-MNIST's train-images-idx3-ubyte, not MNIST's"
    assert f"{swapped}: holds {content}" in done.stderr
    assert swapped.exists()


def test_truncated_file_is_reported_and_not_used(cnnbench: Command, tmp_path: Path) -> None:
    truncated = tmp_path / "mine" / "t10k-images-idx3-ubyte.gz"
    truncated.parent.mkdir()
    truncated.write_bytes(gzip.compress(bytes(range(256)) * 100)[:-20])
    done = cnnbench("data", "mnist", CNNBENCH_DATA=str(truncated.parent))
    assert done.returncode == 3
    assert f"{truncated}: damaged or truncated" in done.stderr


def test_unknown_name_is_answered_with_the_nearest(cnnbench: Command) -> None:
    done = cnnbench("data", "fashion-mnist")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "cnnbench: There is no data set 'fashion-mnist'. Did you mean 'fashion_mnist'?"
    )


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures at a low resolution, which takes less time."""
    monkeypatch.setattr("cnnbench.reports.figures.DOTS_PER_INCH", 30)


FEW = ("data=sample", "data.train_examples=3")


@pytest.mark.parametrize(
    ("file", "start", "arguments", "line"),
    [
        (
            "it.png",
            b"\x89PNG",
            [*FEW, "model=vgg11", "data.resize=224", "augment=mixup"],
            "3 training images from the start of epoch 1: 224 × 224 pixels; normalized by mean "
            "0.29 and std 0.35; mixup=0.2.",
        ),
        (
            "it.svg",
            b"<?xml",
            [*FEW, "model=mlp", "data.resize=3", "data.normalize=false"],
            "3 training images from the start of epoch 1: 3 × 3 pixels; not normalized; "
            "not augmented.",
        ),
    ],
)
def test_show_draws_the_batch_of_a_configuration_and_leaves_no_other_file(
    file: str,
    start: bytes,
    arguments: list[str],
    line: str,
    within: Command,
    coarse: None,
    tmp_path: Path,
) -> None:
    done = within("data", "--show", file, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"part of Fashion-MNIST\n{line}\n\n{file}\n"
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_bytes().startswith(start)


def test_show_draws_images_of_a_color_folder_and_prints_its_notes(
    within: Command, coarse: None, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", {"cat": 6, "dog": 6})
    done = within("data", "--show=it.png", "data=folder", "data.path=photos", "augment=cutmix")
    assert done.returncode == 0, done.stderr
    title, caption, note, *_ = done.stdout.splitlines()
    assert title == "photos"
    assert caption.startswith("9 training images from the start of epoch 1: 28 × 28 pixels; ")
    assert note == "Set apart for testing: 2 images, a sixth of each class, the same with any seed."
    pixels = Image.open(tmp_path / "it.png").convert("HSV")
    assert max(pixels.getchannel("S").tobytes()) > 100  # colors, not gray


def test_root_is_where_show_looks_for_the_data(within: Command) -> None:
    done = within("data", "--show", "it.png", "--root", "root", "data=sample", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "  root: root\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--show", "it.gif"], "--show it.gif must end in .svg or .png."),
        (["--show", "no/it.png"], "--show no/it.png: there is no folder no. Create it first."),
        (["--show"], "--show needs a value: --show FILE."),
        (["--show", "it.png", "mnist"], "'mnist' is not an override. Did you mean data=mnist?"),
        (["--show", "it.png", "-m", "seed=1,2"], "cnnbench data --show draws one batch: -m is for"),
        (["--show", "it.png", "augment=mixxup"], "augment=mixxup is not known. Did you mean"),
        (["--show", "it.png", *FEW, "data.validation=5000"], "data.validation=5000"),
        (["augment=mixup"], "augment=mixup is for --show FILE, which draws training images."),
    ],
)
def test_wrong_arguments_of_show_are_reported(
    arguments: list[str], message: str, within: Command, tmp_path: Path
) -> None:
    done = within("data", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_sheet_that_cannot_be_written_is_an_error(
    within: Command, coarse: None, tmp_path: Path
) -> None:
    (tmp_path / "it.png").mkdir()
    done = within("data", "--show", "it.png", *FEW)
    assert done.returncode == 2
    assert "it.png cannot be written: Is a directory. Name another place: --show FILE." in (
        done.stderr
    )
