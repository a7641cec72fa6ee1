"""The learning rate of each step, against PyTorch's schedulers."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from msgspec.structs import replace
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    StepLR,
)

from cnnbench.config import (
    ConstantConfig,
    CosineConfig,
    ExponentialConfig,
    MultiStepConfig,
    OneCycleConfig,
    SchedulerConfig,
    StepConfig,
)
from cnnbench.training.schedules import lr_factor

LENGTHS = [(7, 5), (5, 3), (10, 10), (1, 4), (3, 1)]  # steps per epoch, epochs


def compute_factors(config: SchedulerConfig, steps_per_epoch: int, epochs: int) -> list[float]:
    total = steps_per_epoch * epochs
    return [lr_factor(config, step, steps_per_epoch, total) for step in range(total)]


def compute_torch_lrs(make: Callable[[Optimizer], LRScheduler], steps: int) -> list[float]:
    """Return the learning rate of each step if PyTorch's scheduler steps after it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    lrs = []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def approximately(expected: list[float]) -> object:
    return pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
def test_step_equals_pytorch(steps_per_epoch: int, epochs: int) -> None:
    expected = compute_torch_lrs(
        lambda optimizer: StepLR(optimizer, 2 * steps_per_epoch, 0.1), steps_per_epoch * epochs
    )
    config = StepConfig(step_epochs=2.0, gamma=0.1, warmup_epochs=0.0)
    assert compute_factors(config, steps_per_epoch, epochs) == approximately(expected)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
@pytest.mark.parametrize("milestones", [[], [1.0], [2.0, 3.0], [3.0, 2.0], [2.0, 2.0]], ids=str)
def test_multistep_equals_pytorch(
    steps_per_epoch: int, epochs: int, milestones: list[float]
) -> None:
    steps = [int(milestone * steps_per_epoch) for milestone in milestones]
    expected = compute_torch_lrs(
        lambda optimizer: MultiStepLR(optimizer, steps, 0.2), steps_per_epoch * epochs
    )
    config = MultiStepConfig(milestones=milestones, gamma=0.2, warmup_epochs=0.0, warmup_ratio=None)
    assert compute_factors(config, steps_per_epoch, epochs) == approximately(expected)


def test_multistep_default_milestones_are_half_and_three_quarters() -> None:
    config = MultiStepConfig(milestones=None, gamma=0.1, warmup_epochs=0.0, warmup_ratio=None)
    assert compute_factors(config, 3, 4) == approximately([1.0] * 6 + [0.1] * 3 + [0.01] * 3)


def test_milestones_may_be_within_an_epoch() -> None:
    config = MultiStepConfig(milestones=[0.07], gamma=0.5, warmup_epochs=0.0, warmup_ratio=None)
    assert compute_factors(config, 100, 1) == [1.0] * 7 + [0.5] * 93


def test_warmup_ratio_keeps_lr_constant_during_warmup() -> None:
    config = MultiStepConfig(milestones=[1.5], gamma=0.5, warmup_epochs=1.25, warmup_ratio=0.1)
    assert compute_factors(config, 4, 2) == approximately([0.1] * 5 + [1.0] + [0.5] * 2)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
def test_exponential_equals_pytorch_at_epoch_starts(steps_per_epoch: int, epochs: int) -> None:
    expected = compute_torch_lrs(lambda optimizer: ExponentialLR(optimizer, 0.8), epochs)
    config = ExponentialConfig(gamma=0.8, warmup_epochs=0.0)
    factors = compute_factors(config, steps_per_epoch, epochs)
    assert factors[::steps_per_epoch] == approximately(expected)


def test_exponential_decays_by_the_same_ratio_at_every_step() -> None:
    factors = compute_factors(ExponentialConfig(gamma=0.8, warmup_epochs=0.0), 4, 3)
    ratios = [after / before for before, after in pairwise(factors)]
    assert ratios == approximately([0.8**0.25] * 11)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
@pytest.mark.parametrize("min_lr_ratio", [0.0, 0.05])
def test_cosine_equals_pytorch(steps_per_epoch: int, epochs: int, min_lr_ratio: float) -> None:
    steps = steps_per_epoch * epochs
    expected = compute_torch_lrs(
        lambda optimizer: CosineAnnealingLR(optimizer, steps, eta_min=min_lr_ratio), steps
    )
    config = CosineConfig(min_lr_ratio=min_lr_ratio, warmup_epochs=0.0)
    assert compute_factors(config, steps_per_epoch, epochs) == approximately(expected)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 0.3, 0.9])
@pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step"
)  # OneCycleLR warns at the end
def test_one_cycle_equals_pytorch(steps_per_epoch: int, epochs: int, pct_start: float) -> None:
    steps = steps_per_epoch * epochs

    def one_cycle(optimizer: Optimizer) -> LRScheduler:
        return OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=steps,
            pct_start=pct_start,
            anneal_strategy="cos",
            cycle_momentum=False,
            div_factor=20.0,
            final_div_factor=1e3,
            three_phase=False,
        )

    expected = compute_torch_lrs(one_cycle, steps)
    config = OneCycleConfig(pct_start=pct_start, div_factor=20.0, final_div_factor=1e3)
    assert compute_factors(config, steps_per_epoch, epochs) == approximately(expected)


def test_one_cycle_without_decay_ends_at_its_maximum() -> None:
    config = OneCycleConfig(pct_start=1.0, div_factor=20.0, final_div_factor=1e3)
    factors = compute_factors(config, 5, 2)
    assert factors == sorted(factors)
    assert [factors[0], factors[-1]] == approximately([0.05, 1.0])


def test_constant_does_not_change() -> None:
    assert compute_factors(ConstantConfig(warmup_epochs=0.0), 3, 2) == [1.0] * 6


def test_warmup_is_linear() -> None:
    factors = compute_factors(ConstantConfig(warmup_epochs=1.5), 4, 2)
    assert factors == approximately([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1])


@pytest.mark.parametrize(
    "config",
    [
        StepConfig(step_epochs=2.0, gamma=0.1, warmup_epochs=0.0),
        MultiStepConfig(milestones=[2.0, 3.0], gamma=0.1, warmup_epochs=0.0, warmup_ratio=None),
        ExponentialConfig(gamma=0.8, warmup_epochs=0.0),
        CosineConfig(min_lr_ratio=0.0, warmup_epochs=0.0),
    ],
    ids=lambda config: config.name,
)
def test_schedule_advances_during_warmup(config: SchedulerConfig) -> None:
    assert not isinstance(config, OneCycleConfig)
    without_warmup = compute_factors(config, 4, 5)
    with_warmup = compute_factors(replace(config, warmup_epochs=1.0), 4, 5)
    assert with_warmup[3:] == without_warmup[3:]


def test_warmup_shorter_than_a_step_changes_nothing() -> None:
    assert compute_factors(ConstantConfig(warmup_epochs=0.1), 4, 1) == [1.0] * 4


def test_step_epochs_below_one_step_decay_at_every_step() -> None:
    config = StepConfig(step_epochs=0.01, gamma=0.5, warmup_epochs=0.0)
    assert compute_factors(config, 4, 1) == [1.0, 0.5, 0.25, 0.125]
