"""Examples on the device: batches of uint8 images, and their order in an epoch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.data_mirrors import ByFile

from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.data.device_data import Examples, ResidentData, epoch_order

CPU = torch.device("cpu")
COUNT = 10


@pytest.fixture
def examples() -> Examples:
    """Return ten examples; all pixels of an image and its label are its index."""
    numbers = np.arange(COUNT, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None], (COUNT, 3, 3)).copy()
    return Examples.from_arrays(images, numbers, np.arange(COUNT), CPU)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 10, 64])
def test_batches_follow_the_order_and_the_last_may_be_smaller(
    examples: Examples, batch_size: int
) -> None:
    order = [9, 0, 8, 1, 7, 2, 6, 3, 5, 4]
    batches = [*examples.batches(batch_size, torch.tensor(order))]
    expected = [order[start : start + batch_size] for start in range(0, COUNT, batch_size)]
    assert [labels.tolist() for _, labels in batches] == expected
    for images, labels in batches:
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert images.shape[1:] == (1, 3, 3)
        assert torch.equal(images, labels.view(-1, 1, 1, 1).expand(-1, 1, 3, 3))


def test_empty_order_gives_no_batches(examples: Examples) -> None:
    assert [*examples.batches(4, torch.arange(0))] == []


def test_batches_in_order_follow_the_stored_order(examples: Examples) -> None:
    batches = [*examples.batches_in_order(4)]
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for images, labels in batches:
        assert torch.equal(images[:, 0, 0, 0].to(torch.int64), labels)


def test_from_arrays_selects_the_indices() -> None:
    images, labels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1), np.arange(6, dtype=np.uint8)
    examples = Examples.from_arrays(images, labels + 10, np.array([5, 2]), CPU)
    assert (examples.images.flatten().tolist(), examples.labels.tolist()) == ([5, 2], [15, 12])
    assert len(examples) == 2


@pytest.mark.parametrize(("seed", "epoch"), [(5, 4), (6, 3), (3, 5), (2**63 - 1, 1)])
def test_epoch_order_is_a_permutation_that_depends_on_seed_and_epoch(seed: int, epoch: int) -> None:
    order = epoch_order(1000, seed, epoch)
    assert sorted(order.tolist()) == list(range(1000))
    assert not torch.equal(epoch_order(1000, 5, 3), order)


def test_epoch_order_is_that_of_earlier_versions() -> None:
    assert epoch_order(12, 3, 5).tolist() == [9, 4, 2, 8, 7, 1, 5, 11, 0, 10, 3, 6]


def test_epoch_order_neither_uses_nor_changes_the_global_generators() -> None:
    first = epoch_order(1000, 5, 3)
    torch.rand(7)
    np.random.random(7)
    before = torch.get_rng_state()
    assert torch.equal(epoch_order(1000, 5, 3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_resident_data_holds_the_examples_of_the_split(
    data_config: Callable[..., DataConfig], sample: ByFile
) -> None:
    config = data_config(validation=500, train_examples=1000, test_examples=200)
    data = ResidentData.from_arrays(config, datasets.load_dataset(config)[1], 3, CPU)
    train_images, train_labels, test_images, test_labels = sample.values()
    parts = (
        (data.train, data.split.train, train_images, train_labels),
        (data.validation, data.split.validation, train_images, train_labels),
        (data.test, data.split.test, test_images, test_labels),
    )
    assert [len(part) for part, *_ in parts] == [1000, 500, 200]
    for part, indices, images, labels in parts:
        assert (part.images.dtype, part.images.shape[1:]) == (torch.uint8, (1, 28, 28))
        assert np.array_equal(part.images[:, 0].numpy(), images[indices])
        assert part.labels.tolist() == labels[indices].tolist()


def test_validation_may_be_empty(data_config: Callable[..., DataConfig]) -> None:
    config = data_config(validation=0)
    data = ResidentData.from_arrays(config, datasets.load_dataset(config)[1], 0, CPU)
    assert (len(data.train), len(data.validation)) == (5000, 0)
