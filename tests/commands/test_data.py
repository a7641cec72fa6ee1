"""`cnnbench data`: the list of data sets, and files that are damaged or missing."""

import gzip
from pathlib import Path

from helpers.command import Command
from helpers.paths import SAMPLE


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
