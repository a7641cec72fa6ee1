"""`cnnbench predict`: classes and probabilities of images, in three forms; what is wrong with some; exit codes."""

import csv
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.command import Command
from helpers.paths import CONF
from helpers.sample_images import load_sample_images
from helpers.small_runs import Runs, rewrite_checkpoint
from PIL import Image

from cnnbench.commands.predict import BATCH
from cnnbench.data import catalog
from cnnbench.data.scan_folder import FORMATS
from cnnbench.training.load_model import load_trained_model

CLASSES = catalog.get("sample").classes


@pytest.fixture(autouse=True)
def run(runs: Runs, tmp_path: Path) -> Path:
    return runs.copy("finished", tmp_path / "run")


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Three image files."""
    for index in range(3):
        Image.fromarray(load_sample_images()[index]).save(tmp_path / f"{index}.png")
    return ["0.png", "1.png", "2.png"]


def probabilities(run: Path, images: npt.NDArray[np.uint8], *overrides: str) -> torch.Tensor:
    engine = load_trained_model(run, list(overrides), CONF, "predict").engine
    return engine.classify(torch.tensor(images).view(-1, 1, 28, 28)).double().softmax(dim=1)


def as_json(within: Command, *arguments: str) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = json.loads(
        within("predict", "run", "--json", *arguments).stdout
    )
    return predictions


def test_the_classes_are_those_that_the_network_gives(
    run: Path, images: list[str], within: Command
) -> None:
    predictions = as_json(within, *images, "--topk", "99")
    assert [each["image"] for each in predictions] == images
    expected = probabilities(run, load_sample_images()[:3])
    for each, row in zip(predictions, expected, strict=True):
        assert each["class"] == CLASSES[int(row.argmax())]
        assert each["probability"] == pytest.approx(float(row.max()))
        assert each["classes"] == pytest.approx(dict(zip(CLASSES, row.tolist(), strict=True)))
        assert list(each["classes"].values()) == sorted(each["classes"].values(), reverse=True)


def test_images_are_first_brought_to_the_size_of_the_data_set_and_then_to_that_of_the_network(
    run: Path, within: Command
) -> None:
    def enlarge(state: dict[str, Any]) -> None:
        state["config"]["data"]["resize"] = 40
        state["model"]["layers.1.weight"] = torch.rand(8, 40 * 40) - 0.5

    rewrite_checkpoint(run / "checkpoints" / "best.pt", enlarge)
    large = Image.fromarray(load_sample_images()[0]).resize((300, 300), Image.Resampling.BICUBIC)
    large.save(run.parent / "large.png")
    small = np.asarray(large.resize((28, 28), Image.Resampling.BILINEAR))
    (prediction,) = as_json(within, "large.png", "--topk", "10")
    expected = dict(zip(CLASSES, probabilities(run, small)[0].tolist(), strict=True))
    assert prediction["classes"] == pytest.approx(expected)


def test_table_json_and_csv_tell_the_same(images: list[str], within: Command) -> None:
    objects = as_json(within, *images)
    rows = list(csv.DictReader(within("predict", "run", "--csv", *images).stdout.splitlines()))
    done = within("predict", "run", *images)
    title, blank, header, *table = done.stdout.splitlines()
    assert (done.returncode, done.stderr, blank, header.split()[0]) == (0, "", "", "image")
    assert title == "mlp (best.pt, epoch 2), trained on part of Fashion-MNIST"
    for each, row, line in zip(objects, rows, table, strict=True):
        (first, most), (second, more), _ = each["classes"].items()
        assert (row["class"], float(row["probability"])) == (first, most)
        assert (row["class_2"], float(row["probability_2"])) == (second, more)
        assert f"{first:<11}  {most:11.4f}  {second} {more:.4f}, " in line


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_stdout_is_for_programs_alone(form: str, images: list[str], within: Command) -> None:
    done = within("predict", "run", form, images[0], "nothing.png")
    assert "cnnbench:" not in done.stdout
    assert done.stderr.splitlines() == [
        "cnnbench: nothing.png cannot be read: No such file or directory.",
        "cnnbench: 1 of 2 images could not be classified.",
    ]


def test_a_set_of_more_than_a_batch_keeps_its_order(
    run: Path, within: Command, tmp_path: Path
) -> None:
    count = 2 * BATCH + 3
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", count, 28, 28)
    (tmp_path / "images").write_bytes(header + load_sample_images()[:count].tobytes())
    predictions = as_json(within, "images")
    assert [each["image"] for each in predictions] == [f"images[{index}]" for index in range(count)]
    expected = [
        CLASSES[place]
        for place in probabilities(run, load_sample_images()[:count]).argmax(dim=1).tolist()
    ]
    assert [each["class"] for each in predictions] == expected


def test_a_folder_of_nothing_but_unreadable_images_gives_an_error_for_each(
    within: Command, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    for index in range(BATCH + 1):
        (tmp_path / "folder" / f"{index:03}.png").write_text("text")
    done = within("predict", "run", "folder", "--json")
    assert done.returncode == 3
    assert [each["error"] for each in json.loads(done.stdout)] == [
        f"folder/{index:03}.png is not a {FORMATS} image." for index in range(BATCH + 1)
    ]
    assert len(done.stderr.splitlines()) == BATCH + 2


def test_without_a_network_that_gives_numbers_an_image_has_no_class(
    run: Path, images: list[str], within: Command
) -> None:
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: [value.fill_(torch.nan) for value in state["model"].values()],
    )
    done = within("predict", "run", "--json", images[0])
    assert (done.returncode, json.loads(done.stdout)) == (
        3, [{"image": "0.png", "error": "0.png: the network's output for it is not finite."}]
    )  # fmt: skip


# inverted images


def test_inverted_images_are_told_once_with_what_to_do(
    images: list[str], within: Command, tmp_path: Path
) -> None:
    for index in range(4):
        Image.fromarray(255 - load_sample_images()[index]).save(tmp_path / f"inverted_{index}.png")
    done = within("predict", "run", *images, *(f"inverted_{index}.png" for index in range(4)))
    assert done.returncode == 0
    assert done.stderr == (
        "cnnbench: 4 of 7 images look inverted (inverted_0.png, inverted_1.png, inverted_2.png, ...): their background "
        "is light, that of the training images dark. --invert inverts all images first.\n"
    )


def test_inverting_gives_what_the_image_itself_gives(
    images: list[str], within: Command, tmp_path: Path
) -> None:
    Image.fromarray(255 - load_sample_images()[0]).save(tmp_path / "inverted.png")
    (plain,), (inverted,) = as_json(within, images[0]), as_json(within, "inverted.png", "--invert")
    assert inverted == {**plain, "image": "inverted.png"}
    assert "Leave out --invert." in within("predict", "run", images[0], "--invert").stderr


# the device


def test_the_device_may_be_another(run: Path, images: list[str], within: Command) -> None:
    (prediction,) = as_json(within, "device=cpu", images[0], "device.precision=bf16")
    expected = probabilities(run, load_sample_images()[:1], "device.precision=bf16")
    assert prediction["probability"] == pytest.approx(float(expected.max()))
    assert prediction["probability"] != pytest.approx(
        float(probabilities(run, load_sample_images()[:1]).max())
    )


def test_a_file_may_be_named_like_an_override(
    images: list[str], within: Command, tmp_path: Path
) -> None:
    (tmp_path / images[0]).rename(tmp_path / "device=cpu")
    assert [each["image"] for each in as_json(within, "device=cpu", "device.threads=1")] == [
        "device=cpu"
    ]


def test_flips_are_averaged_if_the_run_has_them(
    run: Path, images: list[str], within: Command
) -> None:
    (plain,) = as_json(within, images[0])
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt", lambda state: state["config"]["train"].update(tta="hflip")
    )
    (averaged,) = as_json(within, images[0])
    assert averaged["probability"] != plain["probability"]


def test_data_in_a_folder_of_its_own_need_no_consent_as_none_are_read(
    run: Path, images: list[str], within: Command
) -> None:
    rewrite_checkpoint(
        run / "checkpoints" / "best.pt",
        lambda state: state["config"]["data"].update(root="elsewhere"),
    )
    assert within("predict", "run", images[0]).returncode == 0


# what is wrong


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Name a run directory: cnnbench predict RUN IMAGE ..."),
        (
            ("run",),
            "Name an image, a folder of images or an IDX file: cnnbench predict RUN IMAGE ...",
        ),
        (("run", "device=cpu"), "Name an image, a folder of images or an IDX file"),
        (("run", "0.png", "--topk", "0"), "--topk 0 is out of range. It must be at least 1."),
        (
            ("run", "0.png", "--topk", "two"),
            "--topk two is not a whole number. It must be at least 1.",
        ),
        (("run", "0.png", "--json", "--csv"), "--json and --csv are two forms: choose one."),
        (("run", "0.png", "device=tpu"), "device=tpu is not known"),
        (("run", "0.png", "device.speed=1"), "There is no key 'device.speed'"),
        (("run", "0.png", "optimizer.lr=1"), "optimizer.lr cannot be changed by predict"),
        (("nowhere", "0.png"), "nowhere is no directory"),
        (("0.png", "0.png"), "0.png is no directory"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_wrong_usage_is_told_with_code_2(
    arguments: tuple[str, ...], told: str, images: list[str], within: Command
) -> None:
    done = within("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_run_without_checkpoint_is_told_with_code_5(
    run: Path, images: list[str], within: Command
) -> None:
    (run / "checkpoints").rename(run.parent / "elsewhere")
    done = within("predict", "run", images[0])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (5, "", 1)


def test_names_of_classes_do_not_steer_the_terminal(
    run: Path, images: list[str], within: Command
) -> None:
    facts = json.loads((run / "dataset.json").read_text())
    hostile = {**facts, "title": "\x1b[31m", "classes": ["\x1b[31m" + name for name in CLASSES]}
    (run / "dataset.json").write_text(json.dumps(hostile))
    done = within("predict", "run", *images)
    assert "\x1b" not in done.stdout + done.stderr
