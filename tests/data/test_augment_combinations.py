"""Augmentation: each operation against a plain loop over images or by what must hold, and what a CUDA graph allows."""

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.config import AugmentConfig
from cnnbench.data.augment import Augment

SIZE = 6
CLASSES = 5
BLACK = -0.8
OFF = AugmentConfig(
    name="none", hflip=False, translate=0, cutout=0, random_erasing=0.0, mixup=0.0, cutmix=0.0
)
ALL_BUT_MIXING: dict[str, Any] = {"hflip": True, "translate": 2, "cutout": 3, "random_erasing": 0.5}
COMBINATIONS: list[dict[str, Any]] = [
    {},
    {"hflip": True},
    {"translate": 2},
    {"hflip": True, "translate": 2},
    {"cutout": 3},
    {"random_erasing": 0.5},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    ALL_BUT_MIXING,
    {**ALL_BUT_MIXING, "mixup": 0.2},
    {**ALL_BUT_MIXING, "cutmix": 1.0},
]
EACH_COMBINATION = pytest.mark.parametrize("changes", COMBINATIONS, ids=str)
EACH_BUT_NONE = pytest.mark.parametrize("changes", COMBINATIONS[1:], ids=str)


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def augment_as(**changes: Any) -> Augment:
    return Augment(replace(OFF, **changes), CLASSES, BLACK)


def numbered(count: int, size: int = SIZE) -> torch.Tensor:
    """Images (N, 2, S, S) in which no pixel is like another of its image, and none is black or 0."""
    image = 1 + torch.arange(2 * size * size, dtype=torch.float32).reshape(1, 2, size, size)
    return image.repeat(count, 1, 1, 1)


def constant(count: int, size: int = SIZE) -> torch.Tensor:
    """Image i of (N, 2, S, S) is i + 1 everywhere."""
    return (torch.arange(count) + 1.0)[:, None, None, None].repeat(1, 2, size, size)


def labels_of(count: int) -> torch.Tensor:
    """Labels (N) of which neighbours differ, also the first and the last."""
    return torch.arange(count) % (CLASSES - 1 if count % CLASSES == 1 else CLASSES)


def augmented(images: torch.Tensor, **changes: Any) -> torch.Tensor:
    return augment_as(**changes)(images, labels_of(len(images)))[0]


def targets_of(images: torch.Tensor, **changes: Any) -> torch.Tensor:
    return augment_as(**changes)(images, labels_of(len(images)))[1]


# Mirrored and shifted


def by_hand(image: torch.Tensor, mirrored: bool, down: int, right: int) -> torch.Tensor:
    """One image (C, S, S), mirrored left to right and then moved."""
    _, size, _ = image.shape
    result = torch.full_like(image, BLACK)
    for row, column in product(range(size), repeat=2):
        source = size - 1 - column if mirrored else column
        if 0 <= row + down < size and 0 <= column + right < size:
            result[:, row + down, column + right] = image[:, row, source]
    return result


Move = tuple[bool, int, int]


def moves_of(images: torch.Tensor, flips: Sequence[bool], shift: int) -> list[Move]:
    """What was done to each of the numbered images: of all moves by hand the one that makes it."""
    shifts = range(-shift, shift + 1)
    expected = {move: by_hand(numbered(1)[0], *move) for move in product(flips, shifts, shifts)}
    found = [
        [move for move, image in expected.items() if torch.equal(image, each)] for each in images
    ]
    assert all(len(matches) == 1 for matches in found)
    return [matches[0] for matches in found]


def test_flip_mirrors_half_of_the_images_left_to_right() -> None:
    moves = moves_of(augmented(numbered(400), hflip=True), (False, True), 0)
    assert 0.4 < sum(mirrored for mirrored, _, _ in moves) / 400 < 0.6


def test_shift_moves_by_each_distance_alike_and_fills_with_black() -> None:
    moves = moves_of(augmented(numbered(1000), translate=2), (False,), 2)
    counts = [
        sum((down, right) == to for _, down, right in moves)
        for to in product(range(-2, 3), repeat=2)
    ]
    assert min(counts) > 15  # of 40 expected
    assert max(counts) < 70


def test_flip_and_shift_are_drawn_apart() -> None:
    moves = moves_of(augmented(numbered(600), hflip=True, translate=1), (False, True), 1)
    counts = [moves.count(move) for move in product((False, True), (-1, 0, 1), (-1, 0, 1))]
    assert min(counts) > 10  # of 33 expected


def test_an_image_can_be_shifted_out_but_for_one_row_or_column() -> None:
    moves_of(augmented(numbered(50), hflip=True, translate=SIZE - 1), (False, True), SIZE - 1)


# Erased and cut out


def hole_of(image: torch.Tensor) -> list[tuple[int, int]]:
    """Where both channels of an image (2, S, S) are 0; elsewhere it must be numbered."""
    hole = (image == 0).all(dim=0)
    assert torch.equal(image[:, ~hole], numbered(1, image.shape[-1])[0][:, ~hole])
    return [(int(row), int(column)) for row, column in hole.nonzero()]


def sides_of(hole: list[tuple[int, int]]) -> tuple[int, int]:
    """Height and width of a hole, which must be a full rectangle."""
    rows, columns = {row for row, _ in hole}, {column for _, column in hole}
    assert sorted(hole) == list(
        product(range(min(rows), max(rows) + 1), range(min(columns), max(columns) + 1))
    )
    return len(rows), len(columns)


def square_by_hand(size: int, side: int, centre: tuple[int, int]) -> frozenset[tuple[int, int]]:
    rows, columns = (
        [c - side // 2 + i for i in range(side) if 0 <= c - side // 2 + i < size] for c in centre
    )
    return frozenset(product(rows, columns))


@pytest.mark.parametrize("side", [1, 2, 3, SIZE])
def test_cutout_takes_the_clipped_squares_around_every_pixel_alike(side: int) -> None:
    expected = [square_by_hand(SIZE, side, centre) for centre in product(range(SIZE), repeat=2)]
    holes = [frozenset(hole_of(image)) for image in augmented(numbered(3600), cutout=side)]
    assert set(holes) == set(expected)
    assert all(
        50 < holes.count(hole) / expected.count(hole) < 165 for hole in set(expected)
    )  # of 100 expected


@pytest.fixture(scope="module")
def erased_sides() -> list[tuple[int, int]]:
    """Height and width of 2,000 rectangles erased from images of 40 x 40 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            sides_of(hole_of(image)) for image in augmented(numbered(2000, 40), random_erasing=1.0)
        ]


def test_erased_shares_lie_where_the_paper_has_them(erased_sides: list[tuple[int, int]]) -> None:
    shares = [height * width / 1600 for height, width in erased_sides]
    assert 0.015 < min(shares) < 0.03
    assert 0.36 < max(shares) < 0.42  # sides are rounded


def test_erased_shares_are_0_21_in_the_mean_less_what_does_not_fit(
    erased_sides: list[tuple[int, int]],
) -> None:
    shares = [height * width / 1600 for height, width in erased_sides]
    assert 0.19 < sum(shares) / len(shares) < 0.212


def test_erased_aspects_lie_between_0_3_and_its_inverse(
    erased_sides: list[tuple[int, int]],
) -> None:
    aspects = [
        height / width for height, width in erased_sides if height * width > 200
    ]  # rounding tells less
    assert 0.28 < min(aspects) < 0.4
    assert 2.8 < max(aspects) < 3.6


def test_erased_aspects_are_uniform_as_in_the_paper(erased_sides: list[tuple[int, int]]) -> None:
    tall = sum(height > width for height, width in erased_sides) / len(erased_sides)
    assert tall == pytest.approx((1 / 0.3 - 1) / (1 / 0.3 - 0.3), abs=0.04)


def test_erased_rectangles_reach_opposite_borders_alike() -> None:
    erased = (augmented(numbered(2000), random_erasing=1.0) == 0)[:, 0].float()
    rows, columns = erased.amax(dim=2).mean(dim=0), erased.amax(dim=1).mean(dim=0)
    assert rows[0].item() == pytest.approx(rows[-1].item(), abs=0.05)
    assert columns[0].item() == pytest.approx(columns[-1].item(), abs=0.05)


def test_erasing_a_tall_rectangle_does_not_pass_the_border(
    erased_sides: list[tuple[int, int]],
) -> None:
    heights = [height for height, _ in erased_sides]
    assert max(heights) == 40  # one would be 46 pixels high: clamped, it fits exactly


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_erase_is_the_probability_that_an_image_is_erased_in(probability: float) -> None:
    erased = (augmented(numbered(1000), random_erasing=probability) == 0).flatten(1).any(dim=1)
    assert erased.float().mean().item() == pytest.approx(probability, abs=0.05)


def test_an_image_of_one_pixel_can_be_erased() -> None:
    assert augmented(numbered(1, 1), random_erasing=1.0).tolist() == [[[[0.0]], [[0.0]]]]


# Mixed


def test_mixup_fades_each_image_into_the_one_before_by_the_share_of_its_label() -> None:
    images, labels = numbered(20) * constant(20), labels_of(20)
    mixed, targets = augment_as(mixup=1.0)(images, labels)
    for i in range(20):
        own, other = targets[i, labels[i]], targets[i, labels[i - 1]]
        torch.testing.assert_close(
            mixed[i], own * images[i] + other * images[i - 1], rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_leaves_an_image_the_larger_share(alpha: float) -> None:
    own = targets_of(numbered(1000), mixup=alpha).gather(1, labels_of(1000)[:, None])
    assert own.min() >= 0.5


# Of the smaller of lambda and 1 - lambda, lambda from Beta(alpha, alpha): P(share < x) is twice the beta's
BETAS: list[tuple[float, Callable[[float], float]]] = [
    (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
    (1.0, lambda x: x),
    (2.0, lambda x: 3 * x**2 - 2 * x**3),
]


@pytest.mark.parametrize(
    ("alpha", "distribution"), BETAS, ids=[f"alpha={alpha}" for alpha, _ in BETAS]
)
@pytest.mark.parametrize("x", [0.01, 0.1, 0.25, 0.4])
def test_mixup_shares_are_distributed_as_beta(
    alpha: float, distribution: Callable[[float], float], x: float
) -> None:
    count = 20_000
    shares = 1 - targets_of(numbered(count, 1), mixup=alpha).gather(1, labels_of(count)[:, None])
    assert (shares < x).float().mean().item() == pytest.approx(2 * distribution(x), abs=0.012)


@pytest.mark.parametrize(("alpha", "share"), [(1e-300, 0.0), (1e9, 0.5)])
def test_extreme_alphas_mix_not_at_all_or_half_and_half(alpha: float, share: float) -> None:
    own = targets_of(numbered(100), mixup=alpha).gather(1, labels_of(100)[:, None])
    torch.testing.assert_close(own, torch.full((100, 1), 1 - share), rtol=0, atol=1e-3)


def test_cutmix_replaces_a_clipped_square_by_that_of_the_image_before() -> None:
    squares = {
        square_by_hand(SIZE, side, to)
        for side in range(SIZE + 1)
        for to in product(range(SIZE), repeat=2)
    }
    images = numbered(200) + 100 * constant(200)
    mixed = augmented(images, cutmix=1.0)
    for i in range(200):
        theirs = (mixed[i] == images[i - 1]).all(dim=0)
        assert torch.equal(mixed[i][:, ~theirs], images[i][:, ~theirs])
        assert frozenset((int(row), int(column)) for row, column in theirs.nonzero()) in squares


def test_cutmix_shares_of_the_labels_are_those_of_the_pixels() -> None:
    images, labels = constant(200), labels_of(200)
    mixed, targets = augment_as(cutmix=1.0)(images, labels)
    pixels = (mixed == images).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(targets.gather(1, labels[:, None])[:, 0], pixels)


def test_cutmix_squares_have_the_share_of_beta_before_they_are_clipped() -> None:
    size, count = 64, 2000
    mixed = augmented(constant(count, size)[:, :1], cutmix=1.0)
    taken = mixed != constant(count, size)[:, :1]
    inside = ~(
        taken[..., 0].any(-1)
        | taken[..., -1].any(-1)
        | taken[..., 0, :].any(-1)
        | taken[..., -1, :].any(-1)
    )
    sides = taken[inside[:, 0]].any(dim=-1).sum(dim=-1).float() / size
    # sides are roots of uniform shares, density 2 side; a square of that side fits with (1 - side)^2: Beta(2, 3)
    assert sides.mean().item() == pytest.approx(0.4, abs=0.03)


def test_cutmix_can_leave_an_image_less_than_half() -> None:
    own = targets_of(numbered(100), cutmix=1.0).gather(1, labels_of(100)[:, None])
    assert 0 <= own.min() < 0.5


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_targets_are_probabilities_of_the_own_label_and_that_of_the_image_before(mix: str) -> None:
    labels = labels_of(50)
    targets = targets_of(numbered(50), **{mix: 1.0})
    theirs = targets.gather(1, torch.stack([labels, labels.roll(1)], dim=1))
    assert (targets.dtype, targets.shape) == (torch.float32, (50, CLASSES))
    torch.testing.assert_close(theirs.sum(dim=1), torch.ones(50))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(50))


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_batch_of_one_mixes_with_itself(mix: str) -> None:
    mixed, targets = augment_as(**{mix: 1.0})(numbered(1), torch.tensor([3]))
    torch.testing.assert_close(mixed, numbered(1))
    assert targets.tolist() == [[0, 0, 0, 1, 0]]


@pytest.mark.parametrize(
    "changes", [c for c in COMBINATIONS if not {"mixup", "cutmix"} & set(c)], ids=str
)
def test_targets_are_the_labels_themselves_where_nothing_is_mixed(changes: dict[str, Any]) -> None:
    labels = labels_of(4)
    assert augment_as(**changes)(numbered(4), labels)[1] is labels


# Of every combination


def test_nothing_is_done_and_nothing_drawn_when_all_is_off() -> None:
    images, state = numbered(4), torch.get_rng_state()
    assert augmented(images) is images
    assert torch.equal(torch.get_rng_state(), state)


@EACH_BUT_NONE
def test_images_are_augmented_each_in_its_own_way(changes: dict[str, Any]) -> None:
    images = numbered(200) if not {"mixup", "cutmix"} & set(changes) else constant(200)
    changed = augmented(images, **changes)
    assert len({tuple((each / images[i]).flatten().tolist()) for i, each in enumerate(changed)}) > 1


@EACH_BUT_NONE
def test_the_argument_is_left_as_it_is(changes: dict[str, Any]) -> None:
    images, labels = numbered(20), labels_of(20)
    augment_as(**changes)(images, labels)
    assert torch.equal(images, numbered(20))
    assert torch.equal(labels, labels_of(20))


@EACH_BUT_NONE
def test_the_seed_of_torch_alone_decides_what_is_drawn(changes: dict[str, Any]) -> None:
    results = []
    for others in (1, 2):
        random.seed(others)
        np.random.seed(others)
        torch.manual_seed(7)
        results.append(augmented(constant(50) * numbered(50), **changes))
    assert torch.equal(*results)


@EACH_BUT_NONE
def test_each_call_draws_anew(changes: dict[str, Any]) -> None:
    images = constant(50) * numbered(50)
    assert not torch.equal(augmented(images, **changes), augmented(images, **changes))


@EACH_BUT_NONE
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_the_type_of_the_images_stays(dtype: torch.dtype, changes: dict[str, Any]) -> None:
    assert augmented(numbered(4).to(dtype), **changes).dtype is dtype


@EACH_BUT_NONE
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_memory_format_of_the_images_stays(
    memory_format: torch.memory_format, changes: dict[str, Any]
) -> None:
    images = numbered(4).contiguous(memory_format=memory_format)
    assert augmented(images, **changes).stride() == images.stride()


@EACH_BUT_NONE
def test_the_memory_format_decides_no_values(changes: dict[str, Any]) -> None:
    images = constant(20) * numbered(20)
    results = []
    for each in (
        images,
        images.contiguous(memory_format=torch.channels_last),
        images.mT.contiguous().mT,
    ):
        torch.manual_seed(0)
        results.append(augmented(each, **changes))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


class ForACudaGraph(TorchDispatchMode):
    """Fails at what a CUDA graph cannot hold: shapes that depend on values, and anything of the host's."""

    FORBIDDEN = (
        torch.ops.aten._local_scalar_dense,
        torch.ops.aten.nonzero,
        torch.ops.aten.masked_select,
        torch.ops.aten.lift_fresh,  # torch.tensor(...)
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in self.FORBIDDEN, func
        if func.overloadpacket is torch.ops.aten.index:
            assert all(index is None or index.dtype is not torch.bool for index in args[1]), func
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            assert each.device == self.device, func
        return result

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)


@EACH_COMBINATION
@pytest.mark.parametrize("device", ["cpu", "meta"])  # on meta, what is made on the host shows
def test_a_cuda_graph_could_hold_every_operation(device: str, changes: dict[str, Any]) -> None:
    images, labels = numbered(4).to(device), labels_of(4).to(device)
    with ForACudaGraph(device):
        augmented, _ = augment_as(**changes)(images, labels)
    assert augmented.shape == images.shape


HOST_WORK: list[Callable[[torch.Tensor], object]] = [
    lambda images: images.sum().item(),
    lambda images: images[images > 0],
    lambda images: (images > 0).nonzero(),
    lambda images: images * torch.tensor(2.0),
]


@pytest.mark.parametrize("work", HOST_WORK, ids=["item", "mask", "nonzero", "copy"])
def test_what_a_cuda_graph_cannot_hold_is_caught(work: Callable[[torch.Tensor], object]) -> None:
    images = numbered(1)
    with pytest.raises(AssertionError), ForACudaGraph("cpu"):
        work(images)
