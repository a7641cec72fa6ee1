"""data=folder: what is known of it at once, and what is measured."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import fill, picture, put_images
from mirrors import ByFile, idx, put
from PIL import Image

from cnnbench.config import DataConfig
from cnnbench.data import cache, datasets, image_folder, images
from cnnbench.data.arrays import mean_and_deviation
from cnnbench.data.catalog import FILES, get
from cnnbench.data.idx import idx_digest
from cnnbench.data.images import KNOWN, read_image
from cnnbench.data.listing import list_images
from cnnbench.data.resident import ResidentData
from cnnbench.data.splits import check_sizes, num_held_out
from cnnbench.errors import ConfigError, DataError

Make = Callable[..., DataConfig]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def of_folder(folder: Path, data_config: Make) -> Make:
    """Makes a configuration of data=folder, with images of 6 pixels unless told otherwise."""

    def make(**changes: object) -> DataConfig:
        return data_config(**{"name": "folder", "path": str(folder), "image_size": 6, "resize": 6, **changes})

    return make


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    cache.clear()


# Facts


def test_facts_are_known_without_reading_a_pixel(
    folder: Path, of_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 12, "dogs": 6})
    monkeypatch.setattr(images, "_read", None)
    facts = datasets.dataset_info(of_folder())
    assert (facts.name, facts.title, facts.classes) == ("folder", "photos", ("cats", "dogs"))
    assert (facts.train_examples, facts.test_examples, facts.in_channels, facts.image_size) == (15, 3, 3, 6)
    assert facts.split_here


@pytest.mark.parametrize(("modes", "channels"), [(("L", "1"), 1), (("L", "RGB"), 3), (("RGB", "L"), 3)], ids=str)
@pytest.mark.parametrize("asked", [None, 1, 3])
def test_channels_are_what_is_asked_for_or_the_files_have(
    folder: Path, of_folder: Make, modes: tuple[str, str], channels: int, asked: int | None
) -> None:
    for name, mode in zip(("cats", "dogs"), modes, strict=True):
        put_images(folder, [f"{name}/{number}.png" for number in range(3)], mode)
    config = of_folder(channels=asked)
    dataset, arrays = datasets.load(config)
    expected = asked or channels
    assert datasets.dataset_info(config).in_channels == dataset.in_channels == arrays.train_images.shape[1] == expected


def test_headers_are_looked_at_once(folder: Path, of_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, {"cats": 3, "dogs": 3}, "L")
    asked: list[int] = []
    monkeypatch.setattr(image_folder, "are_grey", lambda paths: asked.append(len(paths)) or True)
    for _ in range(3):
        datasets.dataset_info(of_folder())
    datasets.load(of_folder())
    assert asked == [6]


def test_images_are_never_enlarged(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    with pytest.raises(ConfigError, match=r"data\.resize=7 would enlarge .*image_size=6\. Set data\.image_size=7"):
        datasets.dataset_info(of_folder(resize=7))


def test_without_a_size_of_their_own_images_have_that_of_the_network(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    assert datasets.dataset_info(of_folder(image_size=None, resize=5)).image_size == 5


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.touch()], ids=["nothing", "a file"])
@pytest.mark.parametrize("of", [datasets.dataset_info, datasets.load])
def test_a_path_that_is_no_folder_is_told(
    folder: Path, of_folder: Make, make: Callable[[Path], None], of: Callable[[DataConfig], object]
) -> None:
    make(folder)
    with pytest.raises(DataError, match=rf"data\.path={folder} is (not there|a file)"):
        of(of_folder())


def test_a_path_that_is_not_there_is_told_with_the_working_folder(
    of_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"data\.path=nowhere is not there \(looked for in {tmp_path}\)"):
        datasets.dataset_info(of_folder(path="nowhere"))


@pytest.mark.parametrize("path", ["~/photos", "{folder}/../photos", "photos", "{folder}/"])
def test_a_path_may_be_written_in_any_way(
    folder: Path, of_folder: Make, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, {"cats": 2, "dogs": 2})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert datasets.dataset_info(of_folder(path=path.format(folder=folder))).title == "photos"


@pytest.mark.parametrize("of", [datasets.dataset_info, datasets.load])
def test_a_path_that_cannot_be_looked_at_is_told(of_folder: Make, of: Callable[[DataConfig], object]) -> None:
    with pytest.raises(DataError, match=r"data\.path=x+ cannot be looked into: File name too long"):
        of(of_folder(path="x" * 5000))


def test_a_home_of_nobody_is_not_there(of_folder: Make) -> None:
    with pytest.raises(DataError, match="is not there"):
        datasets.dataset_info(of_folder(path="~nobody-of-this-name/photos"))


# Content


def test_images_are_those_that_a_single_file_is_read_as(folder: Path, of_folder: Make) -> None:
    put_images(folder, ["cats/1.png", "cats/2.jpg", "dogs/1.JPEG", "dogs/2.png"])
    _, arrays = datasets.load(of_folder())
    listing = list_images(folder)
    for files, pixels in ((listing.train, arrays.train_images), (listing.test, arrays.test_images)):
        assert np.array_equal(pixels, [read_image(Path(file.path), 3, 6) for file in files])


def test_labels_go_with_their_images(folder: Path, of_folder: Make) -> None:
    for number, name in enumerate(("cats", "cows", "dogs")):
        for copy in range(12):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 50 * number + copy).save(folder / name / f"{copy}.png")
    _, arrays = datasets.load(of_folder())
    for pixels, labels in (arrays[:2], arrays[2:4]):
        assert (pixels[:, 0, 0, 0] // 50).tolist() == labels.tolist()


def test_mean_and_deviation_are_those_of_the_training_images_to_four_digits(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    dataset, arrays = datasets.load(of_folder())
    pixels = arrays.train_images / 255
    assert dataset.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=5.1e-5)
    assert dataset.std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=5.1e-5)
    assert all(value == round(value, 4) for value in (*dataset.mean, *dataset.std))


@pytest.mark.parametrize("shape", [(2500, 3, 4, 4), (2500, 1, 4, 4), (2500, 4, 4)], ids=str)
def test_mean_and_deviation_are_numpys(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    by_channel = (pixels[:, None] if len(shape) == 3 else pixels) / 255
    mean, std = mean_and_deviation(pixels)
    assert mean == pytest.approx(by_channel.mean(axis=(0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(by_channel.std(axis=(0, 2, 3)), rel=1e-9)


@pytest.mark.parametrize(
    ("colour", "where"), [((7, 7, 7), "in channel 1 of 3"), ("random red", "in channel 2 of 3")], ids=str
)
def test_images_without_any_difference_are_refused(
    folder: Path, of_folder: Make, colour: tuple[int, int, int] | str, where: str
) -> None:
    for name in ("cats/1", "cats/2", "dogs/1", "dogs/2"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        red = 60 * len(list(folder.rglob("*.png")))
        Image.new("RGB", (4, 4), (red, 0, 0) if isinstance(colour, str) else colour).save(folder / f"{name}.png")
    with pytest.raises(DataError, match=f"{folder} have one and the same value everywhere {where}"):
        datasets.load(of_folder())


def test_more_classes_than_a_byte_tells_apart(folder: Path, of_folder: Make) -> None:
    fill(folder, {f"{number:03d}": 2 for number in range(300)}, "L")
    _, arrays = datasets.load(of_folder())
    assert arrays.train_labels.tolist() == arrays.test_labels.tolist() == list(range(300))


def test_every_file_that_cannot_be_read_is_told(folder: Path, of_folder: Make) -> None:
    fill(folder / "train", {"cats": 8, "dogs": 8})
    fill(folder / "test", {"cats": 8, "dogs": 8})
    bad = [folder / name for name in ("train/cats/003.png", "train/dogs/000.png", "test/cats/007.png")]
    for path in bad:
        path.write_text("I am text")
    with pytest.raises(DataError) as told:
        datasets.load(of_folder())
    lines = [f"There are 3 problems in {folder}:", *(f"  {path} is not a {KNOWN} image." for path in bad)]
    assert str(told.value).splitlines() == lines


def test_two_parts_of_the_images_may_be_held_out(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 24, "dogs": 24})
    config = of_folder(validation=0.25)
    data = ResidentData.from_arrays(config, datasets.load(config)[1], 0, torch.device("cpu"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 10, 8]


def test_everything_that_is_wrong_is_reported_at_once(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 3, "dogs": 3})
    (folder / "cats/000.png").write_text("I am text")
    (folder / "dogs/001.png").write_bytes((folder / "dogs/001.png").read_bytes()[:-60])
    (folder / "dogs/broken.png").symlink_to("nowhere")
    (folder / "cows").mkdir()
    for of in (datasets.dataset_info, datasets.load):
        with pytest.raises(DataError) as told:
            of(of_folder())
        assert str(told.value).splitlines() == [
            f"There are 4 problems in {folder}:",
            f"  {folder}/dogs/broken.png is a link to nothing.",
            f"  {folder}/cows has no image files.",
            f"  {folder}/cats/000.png is not a {KNOWN} image.",
            f"  {folder}/dogs/001.png cannot be read: image file is truncated.",
        ]


# A validation set in files of its own


@pytest.fixture
def three_parts(folder: Path) -> Path:
    for part, number in (("train", 12), ("val", 4), ("test", 2)):
        for name in ("cats", "dogs"):
            put_images(folder, [f"{part}/{name}/{part}{index}.png" for index in range(number)])
    return folder


def parts_of(config: DataConfig, seed: int = 0) -> ResidentData:
    return ResidentData.from_arrays(config, datasets.load(config)[1], seed, torch.device("cpu"))


def pixels(paths: list[Path]) -> list[bytes]:
    return sorted(read_image(path, 3, 6).tobytes() for path in paths)


@pytest.mark.usefixtures("three_parts")
@pytest.mark.parametrize("validation", [0.1, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_parts_are_the_folders_whatever_the_seed(
    folder: Path, of_folder: Make, validation: float, seed: int
) -> None:
    config = of_folder(validation=validation)
    data = parts_of(config, seed)
    for part, name in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        files = [*folder.glob(f"{name}/*/*.png")]
        assert sorted(image.numpy().tobytes() for image in part.images) == pixels(files)
    assert datasets.load(config)[0].notes[0].startswith("Validation set: the 8 images in val/")
    assert check_sizes(config, datasets.dataset_info(config)) == len(data.train)
    assert num_held_out(config, datasets.dataset_info(config)) == len(data.validation)


@pytest.mark.usefixtures("three_parts")
def test_without_validation_the_folder_of_it_is_not_used(folder: Path, of_folder: Make) -> None:
    config = of_folder(validation=0)
    data = parts_of(config)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 0, 4]
    facts = datasets.dataset_info(config)
    assert (check_sizes(config, facts), num_held_out(config, facts)) == (24, 0)


@pytest.mark.usefixtures("three_parts")
def test_folds_are_of_train_and_val_together(folder: Path, of_folder: Make) -> None:
    folds = [of_folder(folds=4, fold=fold) for fold in range(4)]
    parts = [parts_of(config).validation for config in folds]
    images = [image.numpy().tobytes() for part in parts for image in part.images]
    assert sorted(images) == pixels([*folder.glob("train/*/*.png"), *folder.glob("val/*/*.png")])
    assert datasets.dataset_info(folds[0]).notes == (
        "data.folds=4 divides the training images and the 8 images in val/ together.",
    )


@pytest.mark.usefixtures("three_parts")
def test_fewer_training_examples_leave_val_as_it_is(of_folder: Make) -> None:
    data = parts_of(of_folder(train_examples=9))
    assert [len(part) for part in (data.train, data.validation)] == [9, 8]
    with pytest.raises(ConfigError, match=r"data\.train_examples=25: photos has 24 training examples\."):
        check_sizes(of_folder(train_examples=25), datasets.dataset_info(of_folder()))


@pytest.mark.usefixtures("three_parts")
def test_validation_images_do_not_enter_mean_and_deviation(folder: Path, of_folder: Make) -> None:
    dataset, arrays = datasets.load(of_folder())
    shutil.rmtree(folder / "val")
    alone, _ = datasets.load(of_folder())
    assert (dataset.mean, dataset.std) == (alone.mean, alone.std)
    assert (dataset.train_examples, dataset.validation_examples, arrays.num_validation) == (32, 8, 8)


# What people ought to know


def test_images_named_for_another_format_are_reported(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 4, "dogs": 4})
    for name in ("cats/000.png", "dogs/002.png"):
        picture(1 + ord(name[0])).save(folder / name, "WEBP")
    assert datasets.load(of_folder())[0].notes[1] == (
        "2 images are named for another format, such as cats/000.png, which is WebP."
    )


def test_test_images_that_are_trained_on_are_reported(folder: Path, of_folder: Make) -> None:
    fill(folder / "train", {"cats": 4, "dogs": 4})
    put_images(folder, [f"test/{name}/{number}.png" for name in ("cats", "dogs") for number in range(3)])
    assert datasets.load(of_folder())[0].notes == ()
    shutil.copy(folder / "train/cats/000.png", folder / "test/cats/copy.png")
    (note,) = datasets.load(of_folder())[0].notes
    assert note == "1 of the 7 test images are also among the training images."


@pytest.mark.parametrize(("number", "told"), [(8, False), (10, True)])
def test_a_class_that_has_far_more_than_its_share_is_reported(
    folder: Path, of_folder: Make, number: int, told: bool
) -> None:
    fill(folder / "train", {"cats": number, "cows": 4, "dogs": 4})
    put_images(folder, [f"test/{name}/1.png" for name in ("cats", "cows", "dogs")])
    expected = ["56% of the training images are of class cats; an even share is 33%."]
    assert list(datasets.load(of_folder())[0].notes) == (expected if told else [])


# Digests


def test_digests_are_those_of_the_idx_files_of_the_content(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    dataset, arrays = datasets.load(of_folder())
    expected = {file: hashlib.sha256(idx(array)).hexdigest() for file, array in zip(FILES, arrays[:4], strict=True)}
    assert dataset.sha256 == expected


def test_a_digest_tells_apart_large_labels() -> None:
    digests = {idx_digest(np.array(labels, np.int32)) for labels in ([0, 1], [0, 257], [256, 1], [0, 1, 0])}
    assert len(digests) == 4


@pytest.mark.parametrize("parts", [("",), ("train", "val", "test")])
def test_what_is_recorded_comes_back(folder: Path, of_folder: Make, parts: tuple[str, ...]) -> None:
    for part in parts:
        fill(folder / part, {"cats": 9, "dogs": 7})
    dataset, _ = datasets.load(of_folder())
    record = {key: list(value) if isinstance(value, tuple) else value for key, value in dataset.as_record().items()}
    again = type(dataset).from_record(record)
    assert again == dataclasses.replace(dataset, split_here=False, notes=())


# Kept for the next job


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was read, image by image."""
    paths: list[object] = []
    original = images._read
    monkeypatch.setattr(images, "_read", lambda path, *more: paths.append(path) or original(path, *more))
    return paths


def test_a_second_load_reads_no_image(folder: Path, of_folder: Make, read: list[object]) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    first = datasets.load(of_folder())
    second = datasets.load(of_folder(validation=3))
    assert (len(read), second[0]) == (16, first[0])
    assert all(one is other for one, other in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("changes", [{"image_size": 7}, {"channels": 1}], ids=str)
def test_images_read_in_another_way_are_read_again(
    folder: Path, of_folder: Make, read: list[object], changes: dict[str, int]
) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    datasets.load(of_folder())
    datasets.load(of_folder(**changes))
    assert len(read) == 32


def test_an_image_that_was_changed_is_seen(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    before, _ = datasets.load(of_folder())
    shutil.copy(folder / "dogs/001.png", folder / "dogs/002.png")
    after, _ = datasets.load(of_folder())
    assert before.sha256 != after.sha256


def test_nobody_can_change_what_others_are_given(folder: Path, of_folder: Make) -> None:
    fill(folder, {"cats": 9, "dogs": 7})
    with pytest.raises(ValueError, match="read-only"):
        datasets.load(of_folder())[1].train_images[0] = 0


# The same as a data set of the catalog


def test_a_folder_of_the_samples_files_is_the_sample(folder: Path, of_folder: Make, sample: ByFile) -> None:
    put(folder, sample)
    dataset, arrays = datasets.load(of_folder())
    known = get("sample")
    assert all(np.array_equal(array, sample[file]) for file, array in zip(FILES, arrays[:4], strict=True))
    assert (dataset.sha256, dataset.in_channels) == (known.sha256, known.in_channels)
    assert (dataset.train_examples, dataset.test_examples, dataset.image_size) == (5000, 1000, 28)


def test_mean_and_deviation_of_fashion_mnist_are_measured_as_the_catalog_has_them(
    folder: Path, of_folder: Make, full_set: ByFile
) -> None:
    put(folder, full_set, packed=False)
    dataset, _ = datasets.load(of_folder())
    known = get("fashion_mnist")
    assert (dataset.mean, dataset.std, dataset.sha256) == (known.mean, known.std, known.sha256)
