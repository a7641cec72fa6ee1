"""The splits: seeded, disjoint, class-balanced, and no larger than the data set."""

from collections.abc import Callable

import numpy as np
import pytest

from cnnbench.config import DataConfig
from cnnbench.data.arrays import Labels
from cnnbench.data.catalog import get
from cnnbench.data.splits import Indices, Split, check_sizes, make_split
from cnnbench.errors import ConfigError

ConfigMaker = Callable[..., DataConfig]

CLASSES = 10
TRAIN_LABELS = np.random.default_rng(0).permutation(np.arange(1000) % CLASSES).astype(np.uint8)
TEST_LABELS = np.random.default_rng(1).permutation(np.arange(200) % CLASSES).astype(np.uint8)
PARTS = ("train", "validation", "test")


def split(config: DataConfig, seed: int = 0) -> Split:
    return make_split(config, TRAIN_LABELS, TEST_LABELS, seed)


def spread(labels: Labels, indices: Indices) -> int:
    """How many more examples the most frequent class has than the rarest."""
    return int(np.ptp(np.bincount(labels[indices], minlength=CLASSES)))


@pytest.mark.parametrize("part", PARTS)
def test_the_same_seed_gives_the_same_split(data_config: ConfigMaker, part: str) -> None:
    config = data_config(validation=100, train_examples=300, test_examples=50)
    assert np.array_equal(getattr(split(config, 7), part), getattr(split(config, 7), part))


@pytest.mark.parametrize("part", PARTS)
def test_another_seed_gives_another_split(data_config: ConfigMaker, part: str) -> None:
    config = data_config(validation=100, train_examples=300, test_examples=50)
    assert set(getattr(split(config, 7), part)) != set(getattr(split(config, 8), part))


@pytest.mark.parametrize("validation", [0, 1, 100, 999])
def test_training_and_validation_part_are_every_training_example_once(
    data_config: ConfigMaker, validation: int
) -> None:
    parts = split(data_config(validation=validation))
    assert sorted([*parts.train, *parts.validation]) == list(range(1000))


@pytest.mark.parametrize("validation", [0, 1, 100, 999])
def test_validation_part_has_the_size_asked_for(data_config: ConfigMaker, validation: int) -> None:
    assert len(split(data_config(validation=validation)).validation) == validation


@pytest.mark.parametrize(("share", "number"), [(0.25, 250), (0.0006, 1), (0.0001, 1), (0.0, 0), (0.9996, 1000)])
def test_a_share_held_out_is_the_nearest_number_but_not_none(
    data_config: ConfigMaker, share: float, number: int
) -> None:
    assert len(split(data_config(validation=share)).validation) == number


def test_a_share_of_all_but_nothing_leaves_nothing_to_train_on(data_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match=r"data\.validation=0\.999999 leaves nothing to train on"):
        check_sizes(data_config(validation=0.999999), get("fashion_mnist"))


def test_sizes_are_checked_against_a_share(data_config: ConfigMaker) -> None:
    with pytest.raises(ConfigError, match="55,000 of its 60,000 training examples left beside the 5,000 held out"):
        check_sizes(data_config(validation=1 / 12, train_examples=55_001), get("fashion_mnist"))


@pytest.mark.parametrize("train_examples", [1, 255, 900])
def test_training_part_has_the_size_asked_for(data_config: ConfigMaker, train_examples: int) -> None:
    config = data_config(validation=100, train_examples=train_examples)
    assert len(split(config).train) == train_examples


def test_fewer_training_examples_share_none_with_validation(data_config: ConfigMaker) -> None:
    parts = split(data_config(validation=100, train_examples=800))
    assert not set(parts.train) & set(parts.validation)


def test_fewer_training_examples_leave_validation_as_it_is(data_config: ConfigMaker) -> None:
    whole, fewer = data_config(validation=100), data_config(validation=100, train_examples=50)
    assert np.array_equal(split(whole).validation, split(fewer).validation)


def test_all_test_examples_are_used_unless_fewer_are_asked_for(data_config: ConfigMaker) -> None:
    assert sorted(split(data_config(validation=100)).test) == list(range(200))


@pytest.mark.parametrize("test_examples", [1, 55, 200])
def test_test_part_has_the_size_asked_for(data_config: ConfigMaker, test_examples: int) -> None:
    assert len(set(split(data_config(validation=100, test_examples=test_examples)).test)) == test_examples


@pytest.mark.parametrize("validation", [10, 100, 105, 999])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_both_parts_are_class_balanced(data_config: ConfigMaker, part: str, validation: int) -> None:
    indices = getattr(split(data_config(validation=validation)), part)
    assert spread(TRAIN_LABELS, indices) <= 1


@pytest.mark.parametrize("train_examples", [10, 255, 899])
def test_fewer_training_examples_are_class_balanced(data_config: ConfigMaker, train_examples: int) -> None:
    config = data_config(validation=100, train_examples=train_examples)
    assert spread(TRAIN_LABELS, split(config).train) <= 1


@pytest.mark.parametrize("test_examples", [10, 55, 199])
def test_fewer_test_examples_are_class_balanced(data_config: ConfigMaker, test_examples: int) -> None:
    config = data_config(validation=100, test_examples=test_examples)
    assert spread(TEST_LABELS, split(config).test) <= 1


def test_classes_of_unequal_size_keep_their_proportions(data_config: ConfigMaker) -> None:
    labels = np.repeat(np.array([0, 1], np.uint8), [900, 100])
    parts = make_split(data_config(validation=100), labels, TEST_LABELS, 0)
    assert np.bincount(labels[parts.validation]).tolist() == pytest.approx([90, 10], abs=1)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_the_folds_hold_out_every_example_once(data_config: ConfigMaker, folds: int) -> None:
    held_out = [split(data_config(folds=folds, fold=fold)).validation for fold in range(folds)]
    assert sorted(np.concatenate(held_out)) == list(range(1000))


@pytest.mark.parametrize("fold", range(3))
def test_a_fold_trains_on_all_that_it_does_not_hold_out(data_config: ConfigMaker, fold: int) -> None:
    parts = split(data_config(folds=3, fold=fold))
    assert sorted([*parts.train, *parts.validation]) == list(range(1000))


def test_the_folds_are_of_equal_size_within_one(data_config: ConfigMaker) -> None:
    sizes = [len(split(data_config(folds=7, fold=fold)).validation) for fold in range(7)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("fold", range(4))
def test_every_fold_is_class_balanced(data_config: ConfigMaker, fold: int, part: str) -> None:
    indices = getattr(split(data_config(folds=4, fold=fold)), part)
    assert spread(TRAIN_LABELS, indices) == 0


def test_another_seed_gives_other_folds(data_config: ConfigMaker) -> None:
    config = data_config(folds=5, fold=0)
    assert set(split(config, 0).validation) != set(split(config, 1).validation)


def test_the_folds_do_not_depend_on_the_size_of_validation(data_config: ConfigMaker) -> None:
    one, other = (data_config(folds=5, fold=1, validation=validation) for validation in (0, 100))
    assert np.array_equal(split(one).validation, split(other).validation)


def test_summary_gives_the_sizes(data_config: ConfigMaker) -> None:
    summary = split(data_config(validation=100, train_examples=300, test_examples=50)).summary()
    assert {part: summary[part] for part in PARTS} == {"train": 300, "validation": 100, "test": 50}


def test_summary_digest_does_not_depend_on_the_order(data_config: ConfigMaker) -> None:
    parts = split(data_config(validation=100))
    turned = Split(parts.train[::-1], parts.validation[::-1], parts.test[::-1])
    assert turned.summary() == parts.summary()


def test_summary_digest_tells_apart_examples_that_changed_parts() -> None:
    one, two, none = np.array([1]), np.array([2]), np.array([], np.int64)
    digests = {Split(*parts).summary()["sha256"] for parts in [(one, two, none), (two, one, none), (one, none, two)]}
    assert len(digests) == 3


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
def test_sizes_that_the_data_set_has_are_allowed(data_config: ConfigMaker, asked: dict[str, int]) -> None:
    check_sizes(data_config(**asked), get("fashion_mnist"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"validation": 60_000}, r"data\.validation=60000 leaves nothing to train on.* at most 59999"),
        ({"validation": 60_001}, r"data\.validation=60001 leaves nothing to train on.* at most 59999"),
        ({"validation": 5000, "train_examples": 55_001}, r"data\.train_examples=55001: .* 55,000 of its"),
        ({"validation": 59_999, "train_examples": 2}, r"data\.train_examples=2: "),
        ({"test_examples": 10_001}, r"data\.test_examples=10001: .* 10,000 test examples"),
        ({"folds": 60_001, "fold": 0}, r"data\.folds=60001: .* 60,000 training examples"),
        ({"folds": 7, "fold": 0, "train_examples": 51_429}, r"data\.train_examples=51429: .* 51,428 of its"),
    ],
    ids=str,
)
def test_sizes_beyond_the_data_set_are_refused(data_config: ConfigMaker, asked: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_sizes(data_config(**asked), get("fashion_mnist"))
