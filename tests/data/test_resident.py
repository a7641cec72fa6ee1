"""Images on the device: uint8, in batches, in an order that seed and epoch determine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mirrors import ByFile

from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.data.resident import Examples, ResidentData, epoch_order

CPU = torch.device("cpu")
COUNT = 10


@pytest.fixture
def examples() -> Examples:
    """Ten examples; every pixel of each image, and its label, is its index."""
    numbers = np.arange(COUNT, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None], (COUNT, 3, 3)).copy()
    return Examples.from_arrays(images, numbers, np.arange(COUNT), CPU)


@pytest.fixture
def resident(data_config: Callable[..., DataConfig], tmp_path: Path) -> ResidentData:
    config = data_config(root=str(tmp_path), validation=500, train_examples=1000, test_examples=200)
    return ResidentData.from_arrays(config, datasets.load(config)[1], 3, CPU)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (10, [10]), (64, [10]), (1, [1] * 10)])
def test_last_batch_holds_what_is_left(examples: Examples, batch_size: int, sizes: list[int]) -> None:
    assert [len(labels) for _, labels in examples.batches(batch_size, epoch_order(COUNT, 0, 1))] == sizes


@pytest.mark.parametrize("epoch", [1, 2])
def test_every_example_is_used_once_in_an_epoch(examples: Examples, epoch: int) -> None:
    labels = torch.cat([labels for _, labels in examples.batches(4, epoch_order(COUNT, 0, epoch))])
    assert sorted(labels.tolist()) == list(range(COUNT))


def test_batches_follow_the_order_given(examples: Examples) -> None:
    order = torch.tensor([9, 0, 8, 1, 7, 2, 6, 3, 5, 4])
    assert [labels.tolist() for _, labels in examples.batches(4, order)] == [[9, 0, 8, 1], [7, 2, 6, 3], [5, 4]]


def test_images_of_a_batch_belong_to_its_labels(examples: Examples) -> None:
    for images, labels in examples.batches(4, epoch_order(COUNT, 0, 1)):
        assert torch.equal(images, labels.to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 3, 3))


def test_batches_are_of_bytes_and_whole_numbers(examples: Examples) -> None:
    images, labels = next(examples.batches(4, epoch_order(COUNT, 0, 1)))
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)


def test_batches_in_order_are_in_the_order_of_the_examples(examples: Examples) -> None:
    assert [labels.tolist() for _, labels in examples.batches_in_order(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_images_of_a_batch_in_order_belong_to_its_labels(examples: Examples) -> None:
    for images, labels in examples.batches_in_order(4):
        assert torch.equal(images[:, 0, 0, 0].to(torch.int64), labels)


def test_examples_are_those_at_the_indices() -> None:
    images, labels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1), np.arange(6, dtype=np.uint8) + 10
    examples = Examples.from_arrays(images, labels, np.array([5, 2]), CPU)
    assert (examples.images.flatten().tolist(), examples.labels.tolist()) == ([5, 2], [15, 12])


def test_length_is_the_number_of_examples(examples: Examples) -> None:
    assert len(examples) == COUNT


def test_order_holds_every_index_once() -> None:
    assert sorted(epoch_order(1000, 0, 1).tolist()) == list(range(1000))


def test_order_is_the_same_for_the_same_seed_and_epoch() -> None:
    assert torch.equal(epoch_order(1000, 5, 3), epoch_order(1000, 5, 3))


@pytest.mark.parametrize(("seed", "epoch"), [(5, 4), (6, 3), (3, 5)])
def test_order_is_another_for_another_seed_or_epoch(seed: int, epoch: int) -> None:
    assert not torch.equal(epoch_order(1000, 5, 3), epoch_order(1000, seed, epoch))


def test_order_does_not_depend_on_the_global_generators() -> None:
    first = epoch_order(1000, 5, 3)
    torch.rand(7)
    np.random.random(7)
    assert torch.equal(epoch_order(1000, 5, 3), first)


def test_order_leaves_the_global_generator_as_it_is() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        epoch_order(1000, 5, 3)
        assert torch.equal(torch.get_rng_state(), before)


def test_order_takes_the_greatest_seed_allowed() -> None:
    assert len(epoch_order(4, 2**63 - 1, 1)) == 4


def test_loaded_images_are_bytes_with_one_channel(resident: ResidentData) -> None:
    parts = (resident.train, resident.validation, resident.test)
    assert [(part.images.dtype, part.images.shape) for part in parts] == [
        (torch.uint8, (1000, 1, 28, 28)),
        (torch.uint8, (500, 1, 28, 28)),
        (torch.uint8, (200, 1, 28, 28)),
    ]


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("validation", "train"), ("test", "t10k")])
def test_loaded_images_are_those_of_the_split(resident: ResidentData, sample: ByFile, part: str, file: str) -> None:
    expected = sample[f"{file}-images-idx3-ubyte"][getattr(resident.split, part)]
    assert np.array_equal(getattr(resident, part).images[:, 0].numpy(), expected)


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("validation", "train"), ("test", "t10k")])
def test_loaded_labels_are_those_of_the_split(resident: ResidentData, sample: ByFile, part: str, file: str) -> None:
    expected = sample[f"{file}-labels-idx1-ubyte"][getattr(resident.split, part)]
    assert getattr(resident, part).labels.tolist() == expected.tolist()


def test_validation_may_be_empty(data_config: Callable[..., DataConfig], tmp_path: Path) -> None:
    config = data_config(root=str(tmp_path), validation=0)
    data = ResidentData.from_arrays(config, datasets.load(config)[1], 0, CPU)
    assert (len(data.train), len(data.validation)) == (5000, 0)
