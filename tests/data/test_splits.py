"""Splits are seeded, disjoint, class-balanced and no larger than the data set."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cnnbench.config import DataConfig
from cnnbench.data.arrays import Labels
from cnnbench.data.catalog import get
from cnnbench.data.splits import Indices, Split, check_sizes, count_validation, make_split
from cnnbench.errors import ConfigError

ConfigMaker = Callable[..., DataConfig]

CLASSES = 10
TRAIN_LABELS = np.random.default_rng(0).permutation(np.arange(1000) % CLASSES).astype(np.uint8)
TEST_LABELS = np.random.default_rng(1).permutation(np.arange(200) % CLASSES).astype(np.uint8)
PARTS = ("train", "validation", "test")


def split_labels(config: DataConfig, seed: int = 0) -> Split:
    return make_split(config, TRAIN_LABELS, TEST_LABELS, seed)


def measure_imbalance(labels: Labels, indices: Indices) -> int:
    """Return the difference in size between the largest and the smallest class."""
    return int(np.ptp(np.bincount(labels[indices], minlength=CLASSES)))


@pytest.mark.parametrize(
    "asked",
    [{"validation": 100, "train_examples": 300, "test_examples": 50}, {"folds": 5, "fold": 0}],
    ids=str,
)
def test_split_is_determined_by_the_seed(data_config: ConfigMaker, asked: dict[str, int]) -> None:
    config = data_config(**asked)
    first, again, other = (split_labels(config, seed) for seed in (7, 7, 8))
    for part in PARTS if config.test_examples else PARTS[:2]:
        assert np.array_equal(getattr(first, part), getattr(again, part))
        assert set(getattr(first, part)) != set(getattr(other, part))


@pytest.mark.parametrize(
    ("asked", "start"),
    [
        ({"validation": 100}, "9b6ad3d80e57"),
        ({"validation": 100, "train_examples": 300, "test_examples": 50}, "95d39ad4c321"),
        ({"validation": 0, "folds": 5, "fold": 2}, "a0fad7566e65"),
    ],
    ids=str,
)
def test_splits_are_those_of_earlier_versions(
    data_config: ConfigMaker, asked: dict[str, int], start: str
) -> None:
    train_labels, test_labels = np.arange(1000) % CLASSES, np.arange(200) % CLASSES
    summary = make_split(data_config(**asked), train_labels, test_labels, 3).summary()
    assert str(summary["sha256"]).startswith(start)


@pytest.mark.parametrize("validation", [0, 1, 10, 100, 105, 999])
def test_validation_set_has_the_configured_size_and_is_balanced(
    data_config: ConfigMaker, validation: int
) -> None:
    parts = split_labels(data_config(validation=validation))
    assert sorted([*parts.train, *parts.validation]) == list(range(1000))
    assert len(parts.validation) == validation
    assert (
        max(measure_imbalance(TRAIN_LABELS, part) for part in (parts.train, parts.validation)) <= 1
    )
    assert sorted(parts.test) == list(range(200))


@pytest.mark.parametrize(
    ("share", "number"), [(0.25, 250), (0.0006, 1), (0.0001, 1), (0.0, 0), (0.9996, 1000)]
)
def test_validation_share_is_rounded_to_at_least_one_example(
    data_config: ConfigMaker, share: float, number: int
) -> None:
    assert len(split_labels(data_config(validation=share)).validation) == number


@pytest.mark.parametrize("train_examples", [1, 10, 255, 899, 900])
def test_fewer_training_examples_are_balanced_and_keep_the_validation_set(
    data_config: ConfigMaker, train_examples: int
) -> None:
    parts = split_labels(data_config(validation=100, train_examples=train_examples))
    assert len(set(parts.train)) == train_examples
    assert measure_imbalance(TRAIN_LABELS, parts.train) <= 1
    assert not set(parts.train) & set(parts.validation)
    assert np.array_equal(parts.validation, split_labels(data_config(validation=100)).validation)


@pytest.mark.parametrize("test_examples", [1, 10, 55, 199, 200])
def test_fewer_test_examples_are_balanced(data_config: ConfigMaker, test_examples: int) -> None:
    test = split_labels(data_config(validation=100, test_examples=test_examples)).test
    assert len(set(test)) == test_examples
    assert measure_imbalance(TEST_LABELS, test) <= 1


def test_classes_of_unequal_size_keep_their_proportions(data_config: ConfigMaker) -> None:
    labels = np.repeat(np.array([0, 1], np.uint8), [900, 100])
    parts = make_split(data_config(validation=100), labels, TEST_LABELS, 0)
    assert np.bincount(labels[parts.validation]).tolist() == pytest.approx([90, 10], abs=1)


@pytest.mark.parametrize(
    ("folds", "sizes", "max_imbalance"), [(2, {500}, 0), (4, {250}, 0), (7, {142, 143}, 2)]
)
def test_each_example_is_in_the_validation_set_of_one_fold(
    data_config: ConfigMaker, folds: int, sizes: set[int], max_imbalance: int
) -> None:
    configs = [data_config(folds=folds, fold=fold, validation=100 * fold) for fold in range(folds)]
    parts = [split_labels(config) for config in configs]
    validation_sets = [part.validation for part in parts]
    assert sorted(np.concatenate(validation_sets)) == list(range(1000))
    assert set(map(len, validation_sets)) == sizes
    dataset = replace(get("mnist"), train_examples=1000)
    assert [count_validation(config, dataset) for config in configs] == [*map(len, validation_sets)]
    for part in parts:
        assert sorted([*part.train, *part.validation]) == list(range(1000))
        assert measure_imbalance(TRAIN_LABELS, part.train) <= max_imbalance
        assert measure_imbalance(TRAIN_LABELS, part.validation) <= max_imbalance


def test_summary_has_sizes_and_a_digest_that_ignores_order(data_config: ConfigMaker) -> None:
    parts = split_labels(data_config(validation=100, train_examples=300, test_examples=50))
    reversed_parts = Split(parts.train[::-1], parts.validation[::-1], parts.test[::-1])
    summary = parts.summary()
    assert reversed_parts.summary() == summary
    assert [summary[part] for part in PARTS] == [300, 100, 50]
    one, two, none = np.array([1]), np.array([2]), np.array([], np.int64)
    moved = [Split(one, two, none), Split(two, one, none), Split(one, none, two)]
    assert len({split.summary()["sha256"] for split in moved}) == 3


@pytest.mark.parametrize(
    "asked",
    [
        {"validation": 0},
        {"validation": 59_999},
        {"validation": 5000, "train_examples": 55_000},
        {"validation": 0, "train_examples": 60_000},
        {"test_examples": 10_000},
        {"folds": 60_000, "fold": 0},
        {"folds": 7, "fold": 0, "train_examples": 51_428},
        {"folds": 5, "fold": 0, "validation": 60_000},
    ],
    ids=str,
)
def test_sizes_up_to_the_data_set_are_allowed(
    data_config: ConfigMaker, asked: dict[str, int]
) -> None:
    check_sizes(data_config(**asked), get("fashion_mnist"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"validation": 60_000},
            r"data\.validation=60000 leaves nothing to train on.* at most 59999",
        ),
        ({"validation": 0.999999}, r"data\.validation=0\.999999 leaves nothing to train on"),
        ({"validation": 1 / 12, "train_examples": 55_001}, "beside the 5,000 validation examples"),
        (
            {"validation": 5000, "train_examples": 55_001},
            r"data\.train_examples=55001: .* 55,000 of its",
        ),
        ({"validation": 59_999, "train_examples": 2}, r"data\.train_examples=2: "),
        ({"test_examples": 10_001}, r"data\.test_examples=10001: .* 10,000 test examples"),
        ({"folds": 60_001, "fold": 0}, r"data\.folds=60001: .* 60,000 training examples"),
        (
            {"folds": 7, "fold": 0, "train_examples": 51_429},
            r"data\.train_examples=51429: .* 51,428 of its",
        ),
    ],
    ids=str,
)
def test_sizes_beyond_the_data_set_are_refused(
    data_config: ConfigMaker, asked: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_sizes(data_config(**asked), get("fashion_mnist"))
