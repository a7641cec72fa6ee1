"""`cnnbench predict`: classes and probabilities of images in three forms, and errors."""

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
from helpers.small_runs import rewrite_checkpoint
from PIL import Image

from cnnbench.commands.predict import BATCH
from cnnbench.data import catalog
from cnnbench.data.scan_folder import FORMATS
from cnnbench.training.load_model import load_trained_model

pytestmark = pytest.mark.usefixtures("finished_run")

CLASSES = catalog.get("sample").classes


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Write three image files; return their names."""
    for index in range(3):
        Image.fromarray(load_sample_images()[index]).save(tmp_path / f"{index}.png")
    return ["0.png", "1.png", "2.png"]


def probabilities(
    finished_run: Path, images: npt.NDArray[np.uint8], *overrides: str
) -> torch.Tensor:
    engine = load_trained_model(finished_run, list(overrides), CONF, "predict").engine
    return engine.classify(torch.tensor(images).view(-1, 1, 28, 28)).double().softmax(dim=1)


def as_json(within: Command, *arguments: str) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = json.loads(
        within("predict", "run", "--json", *arguments).stdout
    )
    return predictions


def test_the_classes_are_those_that_the_network_gives(
    finished_run: Path, images: list[str], within: Command
) -> None:
    predictions = as_json(within, *images, "--topk", "99")
    assert [prediction["image"] for prediction in predictions] == images
    expected = probabilities(finished_run, load_sample_images()[:3])
    for prediction, row in zip(predictions, expected, strict=True):
        assert prediction["class"] == CLASSES[int(row.argmax())]
        assert prediction["probability"] == pytest.approx(float(row.max()))
        classes = prediction["classes"]
        assert classes == pytest.approx(dict(zip(CLASSES, row.tolist(), strict=True)))
        assert list(classes.values()) == sorted(classes.values(), reverse=True)


def test_images_are_resized_to_the_data_set_and_then_to_the_network(
    finished_run: Path, within: Command
) -> None:
    def enlarge(state: dict[str, Any]) -> None:
        state["config"]["data"]["resize"] = 40
        state["model"]["layers.1.weight"] = torch.rand(8, 40 * 40) - 0.5

    rewrite_checkpoint(finished_run / "checkpoints" / "best.pt", enlarge)
    large = Image.fromarray(load_sample_images()[0]).resize((300, 300), Image.Resampling.BICUBIC)
    large.save(finished_run.parent / "large.png")
    small = np.asarray(large.resize((28, 28), Image.Resampling.BILINEAR))
    (prediction,) = as_json(within, "large.png", "--topk", "10")
    expected = dict(zip(CLASSES, probabilities(finished_run, small)[0].tolist(), strict=True))
    assert prediction["classes"] == pytest.approx(expected)


def test_table_json_and_csv_have_the_same_predictions(images: list[str], within: Command) -> None:
    objects = as_json(within, *images)
    rows = list(csv.DictReader(within("predict", "run", "--csv", *images).stdout.splitlines()))
    done = within("predict", "run", *images)
    title, blank, header, *table = done.stdout.splitlines()
    assert (done.returncode, done.stderr, blank, header.split()[0]) == (0, "", "", "image")
    assert title == "mlp (best.pt, epoch 2), trained on part of Fashion-MNIST"
    for prediction, row, line in zip(objects, rows, table, strict=True):
        (first, largest), (second, next_largest), _ = prediction["classes"].items()
        assert (row["class"], float(row["probability"])) == (first, largest)
        assert (row["class_2"], float(row["probability_2"])) == (second, next_largest)
        assert f"{first:<11}  {largest:11.4f}  {second} {next_largest:.4f}, " in line


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_stdout_has_no_messages(form: str, images: list[str], within: Command) -> None:
    done = within("predict", "run", form, images[0], "nothing.png")
    assert "cnnbench:" not in done.stdout
    assert done.stderr.splitlines() == [
        "cnnbench: nothing.png cannot be read: No such file or directory.",
        "cnnbench: 1 of 2 images could not be classified.",
    ]


def test_more_images_than_a_batch_keep_their_order(
    finished_run: Path, within: Command, tmp_path: Path
) -> None:
    count = 2 * BATCH + 3
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", count, 28, 28)
    (tmp_path / "images").write_bytes(header + load_sample_images()[:count].tobytes())
    predictions = as_json(within, "images")
    names = [prediction["image"] for prediction in predictions]
    assert names == [f"images[{index}]" for index in range(count)]
    labels = probabilities(finished_run, load_sample_images()[:count]).argmax(dim=1).tolist()
    classes = [prediction["class"] for prediction in predictions]
    assert classes == [CLASSES[label] for label in labels]


def test_folder_of_unreadable_images_has_an_error_for_each(within: Command, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for index in range(BATCH + 1):
        (tmp_path / "folder" / f"{index:03}.png").write_text("text")
    done = within("predict", "run", "folder", "--json")
    assert done.returncode == 3
    errors = [prediction["error"] for prediction in json.loads(done.stdout)]
    assert errors == [
        f"folder/{index:03}.png is not a {FORMATS} image." for index in range(BATCH + 1)
    ]
    assert len(done.stderr.splitlines()) == BATCH + 2


def test_non_finite_logits_give_no_class(
    finished_run: Path, images: list[str], within: Command
) -> None:
    rewrite_checkpoint(
        finished_run / "checkpoints" / "best.pt",
        lambda state: [value.fill_(torch.nan) for value in state["model"].values()],
    )
    done = within("predict", "run", "--json", images[0])
    assert (done.returncode, json.loads(done.stdout)) == (
        3, [{"image": "0.png", "error": "0.png: the network's output for it is not finite."}]
    )  # fmt: skip


def test_inverted_images_are_reported_once_with_advice(
    images: list[str], within: Command, tmp_path: Path
) -> None:
    for index in range(4):
        Image.fromarray(255 - load_sample_images()[index]).save(tmp_path / f"inverted_{index}.png")
    done = within("predict", "run", *images, *(f"inverted_{index}.png" for index in range(4)))
    assert done.returncode == 0
    assert done.stderr == (
        "cnnbench: 4 of 7 images look inverted "
        "(inverted_0.png, inverted_1.png, inverted_2.png, ...): their background "
        "is light, that of the training images dark. --invert inverts all images first.\n"
    )


def test_invert_flag_gives_the_prediction_of_the_original(
    images: list[str], within: Command, tmp_path: Path
) -> None:
    Image.fromarray(255 - load_sample_images()[0]).save(tmp_path / "inverted.png")
    (plain,), (inverted,) = as_json(within, images[0]), as_json(within, "inverted.png", "--invert")
    assert inverted == {**plain, "image": "inverted.png"}
    assert "Leave out --invert." in within("predict", "run", images[0], "--invert").stderr


def test_device_overrides_change_the_prediction(
    finished_run: Path, images: list[str], within: Command
) -> None:
    (prediction,) = as_json(within, "device=cpu", images[0], "device.precision=bf16")
    expected = probabilities(finished_run, load_sample_images()[:1], "device.precision=bf16")
    assert prediction["probability"] == pytest.approx(float(expected.max()))
    assert prediction["probability"] != pytest.approx(
        float(probabilities(finished_run, load_sample_images()[:1]).max())
    )


def test_a_file_may_be_named_like_an_override(
    images: list[str], within: Command, tmp_path: Path
) -> None:
    (tmp_path / images[0]).rename(tmp_path / "device=cpu")
    (prediction,) = as_json(within, "device=cpu", "device.threads=1")
    assert prediction["image"] == "device=cpu"


def test_tta_of_the_run_is_used(finished_run: Path, images: list[str], within: Command) -> None:
    (plain,) = as_json(within, images[0])
    rewrite_checkpoint(
        finished_run / "checkpoints" / "best.pt",
        lambda state: state["config"]["train"].update(tta="hflip"),
    )
    (averaged,) = as_json(within, images[0])
    assert averaged["probability"] != plain["probability"]


def test_data_root_of_a_run_needs_no_consent(
    finished_run: Path, images: list[str], within: Command
) -> None:
    rewrite_checkpoint(
        finished_run / "checkpoints" / "best.pt",
        lambda state: state["config"]["data"].update(root="elsewhere"),
    )
    assert within("predict", "run", images[0]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
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
        (("nowhere", "0.png"), "nowhere is not a directory"),
        (("0.png", "0.png"), "0.png is not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_arguments_exit_with_2(
    arguments: tuple[str, ...], message: str, images: list[str], within: Command
) -> None:
    done = within("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_run_without_checkpoint_exits_with_5(
    finished_run: Path, images: list[str], within: Command
) -> None:
    (finished_run / "checkpoints").rename(finished_run.parent / "elsewhere")
    done = within("predict", "run", images[0])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (5, "", 1)


def test_control_characters_of_class_names_are_not_printed(
    finished_run: Path, images: list[str], within: Command
) -> None:
    facts = json.loads((finished_run / "dataset.json").read_text())
    hostile = {**facts, "title": "\x1b[31m", "classes": ["\x1b[31m" + name for name in CLASSES]}
    (finished_run / "dataset.json").write_text(json.dumps(hostile))
    done = within("predict", "run", *images)
    assert "\x1b" not in done.stdout + done.stderr
