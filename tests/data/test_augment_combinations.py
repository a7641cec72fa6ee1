"""Properties of all augmentations and their combinations: randomness, formats, CUDA graphs."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.augmented_images import (
    augment,
    constant_images,
    make_augment,
    make_labels,
    numbered_images,
)
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.usefixtures("seeded_torch")

WITHOUT_MIXING: dict[str, Any] = {
    "hflip": True,
    "translate": 2,
    "cutout": 3,
    "random_erasing": 0.5,
}
COMBINATIONS: list[dict[str, Any]] = [
    {},
    {"hflip": True},
    {"translate": 2},
    {"hflip": True, "translate": 2},
    {"cutout": 3},
    {"random_erasing": 0.5},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    WITHOUT_MIXING,
    {**WITHOUT_MIXING, "mixup": 0.2},
    {**WITHOUT_MIXING, "cutmix": 1.0},
]
EACH_COMBINATION = pytest.mark.parametrize("changes", COMBINATIONS, ids=str)
EACH_BUT_NONE = pytest.mark.parametrize("changes", COMBINATIONS[1:], ids=str)


def has_mixing(changes: dict[str, Any]) -> bool:
    return not {"mixup", "cutmix"}.isdisjoint(changes)


@pytest.mark.parametrize("changes", [c for c in COMBINATIONS if not has_mixing(c)], ids=str)
def test_targets_are_the_labels_without_mixing(changes: dict[str, Any]) -> None:
    labels = make_labels(4)
    assert make_augment(**changes)(numbered_images(4), labels)[1] is labels


def test_without_augmentation_images_stay_and_no_random_numbers_are_drawn() -> None:
    images, state = numbered_images(4), torch.get_rng_state()
    assert augment(images) is images
    assert torch.equal(torch.get_rng_state(), state)


@EACH_BUT_NONE
def test_images_of_a_batch_are_augmented_differently(changes: dict[str, Any]) -> None:
    images = constant_images(200) if has_mixing(changes) else numbered_images(200)
    ratios = augment(images, **changes) / images
    assert len({tuple(ratio.flatten().tolist()) for ratio in ratios}) > 1


@EACH_BUT_NONE
def test_arguments_are_not_changed(changes: dict[str, Any]) -> None:
    images, labels = numbered_images(20), make_labels(20)
    make_augment(**changes)(images, labels)
    assert torch.equal(images, numbered_images(20))
    assert torch.equal(labels, make_labels(20))


@EACH_BUT_NONE
def test_only_the_seed_of_torch_determines_the_random_numbers(changes: dict[str, Any]) -> None:
    results = []
    for other_seed in (1, 2):
        random.seed(other_seed)
        np.random.seed(other_seed)
        torch.manual_seed(7)
        results.append(augment(constant_images(50) * numbered_images(50), **changes))
    assert torch.equal(*results)


@EACH_BUT_NONE
def test_each_call_draws_new_random_numbers(changes: dict[str, Any]) -> None:
    images = constant_images(50) * numbered_images(50)
    assert not torch.equal(augment(images, **changes), augment(images, **changes))


@EACH_BUT_NONE
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_dtype_is_kept(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    assert augment(numbered_images(4).to(dtype), **changes).dtype is dtype


@EACH_BUT_NONE
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_memory_format_is_kept(memory_format: torch.memory_format, changes: dict[str, Any]) -> None:
    images = numbered_images(4).contiguous(memory_format=memory_format)
    assert augment(images, **changes).stride() == images.stride()


@EACH_BUT_NONE
def test_memory_format_does_not_change_the_result(changes: dict[str, Any]) -> None:
    images = constant_images(20) * numbered_images(20)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    transposed = images.mT.contiguous().mT
    results = []
    for batch in (images, channels_last, transposed):
        torch.manual_seed(0)
        results.append(augment(batch, **changes))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


class CudaGraphCheck(TorchDispatchMode):
    """Fails at operations that a CUDA graph cannot hold.

    These have shapes that depend on values, or use tensors on the host.
    """

    FORBIDDEN = (
        torch.ops.aten._local_scalar_dense,
        torch.ops.aten.nonzero,
        torch.ops.aten.masked_select,
        torch.ops.aten.lift_fresh,  # torch.tensor(...)
    )

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in self.FORBIDDEN, func
        if func.overloadpacket is torch.ops.aten.index:
            assert all(index is None or index.dtype is not torch.bool for index in args[1]), func
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            assert tensor.device == self.device, func
        return result


@EACH_COMBINATION
@pytest.mark.parametrize("device", ["cpu", "meta"])  # on meta, tensors on the host are noticed
def test_cuda_graphs_can_hold_every_operation(device: str, changes: dict[str, Any]) -> None:
    images, labels = numbered_images(4).to(device), make_labels(4).to(device)
    with CudaGraphCheck(device):
        augmented, _ = make_augment(**changes)(images, labels)
    assert augmented.shape == images.shape


HOST_OPERATIONS: list[Callable[[torch.Tensor], object]] = [
    lambda images: images.sum().item(),
    lambda images: images[images > 0],
    lambda images: (images > 0).nonzero(),
    lambda images: images * torch.tensor(2.0),
]


@pytest.mark.parametrize("operate", HOST_OPERATIONS, ids=["item", "mask", "nonzero", "copy"])
def test_operations_that_cuda_graphs_cannot_hold_are_noticed(
    operate: Callable[[torch.Tensor], object],
) -> None:
    images = numbered_images(1)
    with pytest.raises(AssertionError), CudaGraphCheck("cpu"):
        operate(images)
