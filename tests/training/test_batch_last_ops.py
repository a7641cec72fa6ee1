"""The operations on maps (T, C, H, W, N) against PyTorch's, in fp64."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench.training.batch_last_ops import (
    IN_PLACE,
    Activation,
    AvgPool,
    BatchNorm,
    Convolution,
    MaxPool,
    Windows,
)

THREADS, EXAMPLES = 2, 3


def to_batch_last(images: torch.Tensor) -> torch.Tensor:
    """Return images (T N, C, H, W) as maps (T, C, H, W, N)."""
    return images.unflatten(0, (THREADS, EXAMPLES)).permute(0, 2, 3, 4, 1)


def to_images(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 4, 1, 2, 3).flatten(0, 1)


def four_outputs(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (N, C, 2 H, 2 W) as (T, 4, C, H, W, N), the pixels of each 2 x 2 apart."""
    blocks = maps.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # (N, C, H, 2, W, 2)
    return torch.stack(
        [to_batch_last(blocks[:, :, :, row, :, column]) for row in (0, 1) for column in (0, 1)], 1
    )


def random_tensor(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def check_equal(
    ours: Callable[..., torch.Tensor], theirs: Callable[..., torch.Tensor], *inputs: torch.Tensor
) -> None:
    """Check that both have equal outputs, and equal gradients of all inputs."""
    results = []
    for function in (ours, theirs):
        leaves = [value.clone().requires_grad_() for value in inputs]
        outputs = function(*leaves)
        result = outputs.detach().clone()  # the backward pass may overwrite the outputs
        (outputs * random_tensor(*outputs.shape)).sum().backward()
        results.append([result, *(leaf.grad for leaf in leaves)])
    for our, their in zip(*results, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("sides", [(8, 8), (9, 12)])
def test_convolution_equals_torch(kernel: int, padding: int, sides: tuple[int, int]) -> None:
    images = random_tensor(THREADS * EXAMPLES, 2, *sides)
    weight, bias = random_tensor(3, 2, kernel, kernel), random_tensor(3)

    def ours(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        maps = to_batch_last(images)
        return Convolution.apply(maps, weight, bias, Windows(kernel, padding))

    def theirs(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        maps = functional.conv2d(images, weight, bias, padding=padding)
        height, width = (side // 2 * 2 for side in maps.shape[2:])  # 2 x 2 pooling drops the rest
        return four_outputs(maps[:, :, :height, :width])

    check_equal(ours, theirs, images, weight, bias)


def test_batch_norm_equals_torch() -> None:
    images = 3 + 2 * random_tensor(THREADS * EXAMPLES, 4, 6, 6)
    weight, bias = random_tensor(4), random_tensor(4)
    statistics = []

    def ours(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        outputs, *both = BatchNorm.apply(four_outputs(images), weight, bias, 1e-5)
        statistics.extend(both)
        return outputs

    def theirs(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return four_outputs(
            functional.batch_norm(images, None, None, weight, bias, training=True, eps=1e-5)
        )

    check_equal(ours, theirs, images, weight, bias)
    mean, variance = statistics
    torch.testing.assert_close(mean, images.mean((0, 2, 3)))
    torch.testing.assert_close(variance, images.var((0, 2, 3), correction=0))


@pytest.mark.parametrize("layer", IN_PLACE)
def test_activation_equals_torch(layer: type[nn.Module]) -> None:
    maps = random_tensor(THREADS, 4, 2, 3, 3, EXAMPLES)
    check_equal(lambda maps: Activation.apply(maps.clone(), layer), layer(), maps)


@pytest.mark.parametrize(
    "pool", [MaxPool.apply, lambda maps: AvgPool.apply(Activation.apply(maps, nn.Tanh))]
)
def test_second_backward_pass_is_refused(pool: Callable[[torch.Tensor], torch.Tensor]) -> None:
    maps = random_tensor(THREADS, 1, 8, 8, EXAMPLES).requires_grad_()
    weight, bias = random_tensor(3, 1, 5, 5).requires_grad_(), random_tensor(3)
    outputs = Convolution.apply(maps, weight, bias, Windows(5, 2))
    loss = pool(outputs).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("ours", "theirs"), [(AvgPool, nn.AvgPool2d(2)), (MaxPool, nn.MaxPool2d(2))]
)
def test_pooling_equals_torch(ours: type[torch.autograd.Function], theirs: nn.Module) -> None:
    images = random_tensor(THREADS * EXAMPLES, 2, 4, 6)
    check_equal(
        lambda images: to_images(ours.apply(four_outputs(images))),
        lambda images: theirs(images),
        images,
    )


def test_first_of_equal_values_gets_the_gradient() -> None:
    values = torch.arange(3.0, dtype=torch.float64)
    # every window of four of these values: 81, with one, two, three or four equal maxima
    windows = torch.cartesian_prod(values, values, values, values).view(81, 1, 2, 2)
    images = windows[:80].reshape(THREADS * EXAMPLES - 1, 16, 1, 2, 2).flatten(1, 2)
    images = torch.cat([images, images[:1]])
    check_equal(
        lambda images: to_images(MaxPool.apply(four_outputs(images))),
        lambda images: functional.max_pool2d(images, 2),
        images,
    )
