"""The sheet of training images: which are drawn, that they are the network's inputs, and labels."""

import re
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.config_values import compose_values, replace_values
from helpers.inspection_subjects import tick_labels
from matplotlib.figure import Figure

from cnnbench.config import Config, load_config
from cnnbench.data import datasets
from cnnbench.data.arrays import Arrays
from cnnbench.data.catalog import Dataset
from cnnbench.data.device_data import ResidentData, epoch_order
from cnnbench.errors import ConfigError
from cnnbench.reports.batch_sheet import TrainingBatch, draw_training_batch, make_training_batch
from cnnbench.training.build import build_engine

CPU = torch.device("cpu")
COLOR_MEAN, COLOR_STD = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
ALL = {
    "augment__hflip": True,
    "augment__translate": 2,
    "augment__cutout": 1,
    "augment__random_erasing": 0.5,
    "augment__cutmix": 0.5,
}
Loaded = tuple[Config, Dataset, Arrays]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Figure]:
    """Return the list of figures that the test draws. The files are empty."""
    drawn: list[Figure] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    return drawn


@cache
def composed() -> dict[str, Any]:
    cpu = ("device=cpu", "device.precision=fp32", "device.threads=1")
    return compose_values("data=sample", "model=mlp", *cpu)


def load(**by_key: object) -> Loaded:
    """Load the sample with changed values; two underscores in a key stand for a dot."""
    config = load_config(replace_values(deepcopy(composed()), **by_key))
    return config, *datasets.load_dataset(config.data)


def in_color(loaded: Loaded) -> Loaded:
    """Return the data set with images of three channels, each another image."""
    config, dataset, arrays = loaded
    images = arrays.train_images
    colored = np.stack([images, np.roll(images, 1, 0), np.roll(images, 2, 0)], axis=1)
    dataset = replace(dataset, mean=COLOR_MEAN, std=COLOR_STD)
    test_images = arrays.test_images[:, None].repeat(3, axis=1)
    return config, dataset, arrays._replace(train_images=colored, test_images=test_images)


def draw(loaded: Loaded, figures: list[Figure]) -> tuple[Figure, str]:
    """Draw the sheet; return the figure and its caption."""
    caption = draw_training_batch(Path("it.png"), "clothes", make_training_batch(*loaded))
    return figures[-1], caption


def pictures_of(figure: Figure, row: int, rows: int) -> npt.NDArray[Any]:
    """Return the pictures of every `rows`-th row, from `row` on."""
    axes = figure.axes[row::rows]
    return np.stack([image.get_array() for part in axes for image in part.images])


def first_examples(loaded: Loaded, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the examples with which training begins: uint8 images (N, C, H, W) and labels (N)."""
    config, _, arrays = loaded
    train = ResidentData.from_arrays(config.data, arrays, config.seed, CPU).train
    return train.take(epoch_order(len(train), config.seed, 1)[:number])


def test_images_that_are_not_augmented_have_the_pixels_and_labels_that_training_begins_with(
    figures: list[Figure],
) -> None:
    loaded = load(seed=3)
    images, labels = first_examples(loaded, 64)
    figure, _ = draw(loaded, figures)
    drawn = pictures_of(figure, 0, 1) * 255
    np.testing.assert_allclose(drawn, images[:, 0].numpy(), atol=1e-4)
    assert tick_labels(figure.axes) == [loaded[1].classes[label] for label in labels]
    assert {axes.get_ylabel() for axes in figure.axes} == {""}


@pytest.mark.parametrize("is_color", [False, True])
@pytest.mark.parametrize("size", [3, 40])
def test_augmented_pictures_are_the_inputs_of_the_engine_with_mean_and_std_put_back(
    size: int, is_color: bool, figures: list[Figure]
) -> None:
    loaded = load(data__resize=size, **ALL)
    loaded = in_color(loaded) if is_color else loaded
    config, dataset, _ = loaded
    engine = build_engine(config, dataset)
    images, labels = first_examples(loaded, 32)
    torch.manual_seed(config.seed)
    inputs, _ = engine.augment(engine.inputs(images), labels)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (dataset.mean, dataset.std))
    expected = (inputs * std + mean).clamp(0, 1).movedim(1, -1).squeeze(-1)
    figure, _ = draw(loaded, figures)
    drawn = pictures_of(figure, 1, 2)
    assert drawn.shape == (32, size, size, 3)[: 4 if is_color else 3]
    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-6)
    plain = pictures_of(figure, 0, 2)
    assert len(plain) == 32
    assert np.abs(plain - drawn).max() > 0.1
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == ["not augmented", "augmented"]


@pytest.mark.parametrize(
    ("key", "value", "color"),
    [
        ("augment__cutout", 28, COLOR_MEAN),
        ("augment__random_erasing", 1, COLOR_MEAN),
        ("augment__translate", 27, (0, 0, 0)),
    ],
)
def test_masked_pixels_have_the_mean_color_and_uncovered_ones_are_black(
    key: str, value: int, color: tuple[float, ...], figures: list[Figure]
) -> None:
    figure, _ = draw(in_color(load(**{key: value})), figures)
    plain, augmented = (pictures_of(figure, row, 2).reshape(-1, 3) for row in range(2))
    changed = augmented[(plain != augmented).any(axis=1)]
    assert np.isclose(changed, color, atol=1e-6).all(axis=1).mean() > 0.2


def test_labels_that_augmentation_keeps_are_shown_once(figures: list[Figure]) -> None:
    figure, _ = draw(load(augment__cutout=8), figures)
    assert len(tick_labels(figure.axes[0::2])) == 32
    assert tick_labels(figure.axes[1::2]) == []


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_images_have_both_classes_and_their_shares_of_the_loss(
    kind: str, figures: list[Figure]
) -> None:
    loaded = load(**{f"augment__{kind}": 1})
    config, dataset, _ = loaded
    images, labels = first_examples(loaded, 32)
    batch = make_training_batch(*loaded)
    torch.manual_seed(config.seed)
    _, targets = batch.augment(batch.preprocess(images), labels)
    shown = tick_labels(draw(loaded, figures)[0].axes[1::2])
    num_mixed = 0
    for text, target in zip(shown, targets, strict=True):
        found = re.fullmatch(r"(.+) (\d\.\d\d)\n\+ (.+) (\d\.\d\d)", text)
        if found is None:
            assert target[dataset.classes.index(text)] > 0.995
            continue
        num_mixed += 1
        first, second = (dataset.classes.index(found[place]) for place in (1, 3))
        assert first != second
        assert float(found[2]) == pytest.approx(float(target[first]), abs=0.0051)
        assert float(found[4]) == pytest.approx(float(target[second]), abs=0.0051)
        assert float(found[2]) >= float(found[4]) > 0
    assert num_mixed > 16


@pytest.mark.parametrize(
    ("changes", "number", "rows"),
    [
        ({"train__batch_size": 5}, 5, 1),
        ({"data__train_examples": 1, "augment__mixup": 1}, 1, 2),
        ({"data__train_examples": 10}, 10, 2),
        ({"augment__mixup": 1}, 32, 8),
        ({}, 64, 8),
    ],
)
def test_sheet_has_at_most_a_batch_and_at_most_64_pictures(
    changes: dict[str, int], number: int, rows: int, figures: list[Figure]
) -> None:
    figure, caption = draw(load(**changes), figures)
    assert len(figure.axes) == rows
    drawn = sum(len(axes.images) for axes in figure.axes)
    assert drawn == (2 * number if "augment__mixup" in changes else number)
    assert caption.startswith(f"{number} training image{'s' if number > 1 else ''} from the start")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "28 × 28 pixels; normalized by mean 0.29 and std 0.35; not augmented"),
        (
            {"data__resize": 96, "augment__hflip": True, "augment__mixup": 0.2},
            "96 × 96 pixels; normalized by mean 0.29 and std 0.35; hflip, mixup=0.2",
        ),
        ({"data__normalize": False}, "28 × 28 pixels; not normalized; not augmented"),
    ],
)
def test_note_has_size_normalization_and_augmentations(
    changes: dict[str, Any], line: str, figures: list[Figure]
) -> None:
    loaded = load(**changes)
    assert make_training_batch(*loaded).describe() == line
    figure, caption = draw(loaded, figures)
    assert caption.endswith(f" from the start of epoch 1: {line}.")
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["clothes: training images as the network sees them", line]


def test_note_of_color_images_fits_on_the_sheet_with_all_augmentations(
    figures: list[Figure],
) -> None:
    loaded = in_color(load(data__resize=96, **ALL))
    _, line = (text.get_text() for text in draw(loaded, figures)[0].texts)
    color = "normalized by mean 0.2, 0.4, 0.6 and std 0.1, 0.2, 0.3"
    names = "hflip, translate=2, cutout=1, random_erasing=0.5, cutmix=0.5"
    assert line == f"96 × 96 pixels; {color}; {names}"


def test_random_numbers_follow_the_seed_and_leave_the_generator_as_it_was(
    figures: list[Figure],
) -> None:
    torch.manual_seed(5)
    loaded, state = load(augment__random_erasing=0.5), torch.get_rng_state()
    first = pictures_of(draw(loaded, figures)[0], 1, 2)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(6)
    second = pictures_of(draw(loaded, figures)[0], 1, 2)
    np.testing.assert_array_equal(first, second)
    other = make_training_batch(*loaded)
    other = TrainingBatch(other.examples, other.classes, other.preprocess, other.augment, seed=9)
    draw_training_batch(Path("it.png"), "clothes", other)
    assert not np.array_equal(pictures_of(figures[-1], 1, 2), first)


def test_odd_class_names_are_shown_on_a_line(figures: list[Figure]) -> None:
    config, dataset, arrays = load(data__train_examples=20)
    classes = ("$\\frac{", "a\nb", "\ud800", "W" * 99, *"cdefgh")
    figure, _ = draw((config, replace(dataset, classes=classes), arrays), figures)
    assert set(tick_labels(figure.axes)) == {"$\\frac{", "a b", "?", f"{'W' * 19}…", *"cdefgh"}


def test_more_examples_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.train_examples=9999: sample has 4,500 of its"):
        make_training_batch(*load(data__train_examples=9999))
