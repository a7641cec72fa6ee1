"""Folders that are looked through, whatever they are."""

import os
from pathlib import Path

import pytest
from image_folders import fill, put_images

from cnnbench.data import scan_folder
from cnnbench.data.inputs import read_all
from cnnbench.data.listing import list_images
from cnnbench.data.scan_folder import FolderScan
from cnnbench.errors import DataError


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_folder, "MAX_ENTRIES_WITHOUT_IMAGES", 50)


def fill_with_others(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    for index in range(number):
        (folder / f"{index}.txt").touch()


@pytest.mark.usefixtures("few")
def test_a_folder_with_hardly_an_image_is_left(tmp_path: Path) -> None:
    fill_with_others(tmp_path / "bin", 60)
    fill(tmp_path, {"cats": 1, "dogs": 1})
    with pytest.raises(
        DataError, match=f"{tmp_path} is no folder of images: of the first 60 files and folders in it 0"
    ):
        list_images(tmp_path)
    (given,) = read_all([tmp_path], 3, 8)
    assert "is no folder of images: of the first 63" in given.error


@pytest.mark.usefixtures("few")
def test_a_folder_with_some_images_is_looked_through(tmp_path: Path) -> None:
    fill(tmp_path, {"cats": 3, "dogs": 3})
    fill_with_others(tmp_path / "cats" / "more", 60)
    assert list_images(tmp_path).classes == ("cats", "dogs")


def test_a_folder_that_vanishes_is_reported(tmp_path: Path) -> None:
    scan = FolderScan(tmp_path)
    fill(tmp_path, {"1": 1, "2": 1})
    names = []
    for entry in scan.files(tmp_path):
        names.append(entry.path)
        (tmp_path / "2").rename(tmp_path / "gone")
    assert names == [f"{tmp_path}/1/000.png"]
    assert scan.problems == [f"{tmp_path}/2 cannot be looked into: No such file or directory."]


def test_a_file_that_vanishes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"cats": 3, "dogs": 3})
    put_images(tmp_path, ["dogs/last.png"])
    is_image = scan_folder.is_image

    def remove(name: str) -> bool:
        if name == "last.png":
            (tmp_path / "dogs" / name).unlink()
        return is_image(name)

    monkeypatch.setattr(scan_folder, "is_image", remove)
    (problem,) = list_images(tmp_path).problems
    assert problem == f"{tmp_path}/dogs/last.png cannot be read: No such file or directory."


def test_files_of_a_folder_come_before_those_of_its_folders(tmp_path: Path) -> None:
    fill(tmp_path, {"b": 2, "a/c": 1, ".": 1, "@eaDir": 1})
    paths = [os.path.relpath(entry.path, tmp_path) for entry in FolderScan(tmp_path).files(tmp_path)]
    assert paths == ["000.png", "a/c/000.png", "b/000.png", "b/001.png"]
