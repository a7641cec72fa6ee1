"""Learning rates step by step, against PyTorch's own schedulers."""

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


def factors(config: SchedulerConfig, steps_per_epoch: int, epochs: int) -> list[float]:
    total = steps_per_epoch * epochs
    return [lr_factor(config, step, steps_per_epoch, total) for step in range(total)]


def rates_of_torch(make: Callable[[Optimizer], LRScheduler], steps: int) -> list[float]:
    """The learning rate of each step where PyTorch's scheduler is moved on after each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def close(expected: list[float]) -> object:
    return pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
def test_step_is_torchs(steps_per_epoch: int, epochs: int) -> None:
    expected = rates_of_torch(
        lambda optimizer: StepLR(optimizer, 2 * steps_per_epoch, 0.1), steps_per_epoch * epochs
    )
    assert factors(
        StepConfig(step_epochs=2.0, gamma=0.1, warmup_epochs=0.0), steps_per_epoch, epochs
    ) == close(expected)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
@pytest.mark.parametrize("milestones", [[], [1.0], [2.0, 3.0], [3.0, 2.0], [2.0, 2.0]], ids=str)
def test_multistep_is_torchs(steps_per_epoch: int, epochs: int, milestones: list[float]) -> None:
    steps = [int(milestone * steps_per_epoch) for milestone in milestones]
    expected = rates_of_torch(
        lambda optimizer: MultiStepLR(optimizer, steps, 0.2), steps_per_epoch * epochs
    )
    assert factors(
        MultiStepConfig(milestones=milestones, gamma=0.2, warmup_epochs=0.0, warmup_ratio=None),
        steps_per_epoch,
        epochs,
    ) == close(expected)


def test_multistep_falls_at_half_and_three_quarters_of_training_unless_told_where() -> None:
    rates = factors(
        MultiStepConfig(milestones=None, gamma=0.1, warmup_epochs=0.0, warmup_ratio=None), 3, 4
    )
    assert rates == close([1.0] * 6 + [0.1] * 3 + [0.01] * 3)


def test_milestones_may_lie_within_an_epoch() -> None:
    assert (
        factors(
            MultiStepConfig(milestones=[0.07], gamma=0.5, warmup_epochs=0.0, warmup_ratio=None),
            100,
            1,
        )
        == [1.0] * 7 + [0.5] * 93
    )


def test_a_warm_up_with_a_ratio_stays_at_it() -> None:
    rates = factors(
        MultiStepConfig(milestones=[1.5], gamma=0.5, warmup_epochs=1.25, warmup_ratio=0.1), 4, 2
    )
    assert rates == close([0.1] * 5 + [1.0] + [0.5] * 2)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
def test_exponential_is_torchs_where_epochs_begin(steps_per_epoch: int, epochs: int) -> None:
    expected = rates_of_torch(lambda optimizer: ExponentialLR(optimizer, 0.8), epochs)
    assert factors(ExponentialConfig(gamma=0.8, warmup_epochs=0.0), steps_per_epoch, epochs)[
        ::steps_per_epoch
    ] == close(expected)


def test_exponential_falls_by_one_ratio_at_every_step() -> None:
    rates = factors(ExponentialConfig(gamma=0.8, warmup_epochs=0.0), 4, 3)
    assert [after / before for before, after in pairwise(rates)] == close([0.8**0.25] * 11)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
@pytest.mark.parametrize("min_lr_ratio", [0.0, 0.05])
def test_cosine_is_torchs(steps_per_epoch: int, epochs: int, min_lr_ratio: float) -> None:
    steps = steps_per_epoch * epochs
    expected = rates_of_torch(
        lambda optimizer: CosineAnnealingLR(optimizer, steps, eta_min=min_lr_ratio), steps
    )
    assert factors(
        CosineConfig(min_lr_ratio=min_lr_ratio, warmup_epochs=0.0), steps_per_epoch, epochs
    ) == close(expected)


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), LENGTHS)
@pytest.mark.parametrize("pct_start", [0.0, 0.1, 0.3, 0.9])
@pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step"
)  # the last is one too many for OneCycleLR
def test_one_cycle_is_torchs(steps_per_epoch: int, epochs: int, pct_start: float) -> None:
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

    expected = rates_of_torch(one_cycle, steps)
    assert factors(
        OneCycleConfig(pct_start=pct_start, div_factor=20.0, final_div_factor=1e3),
        steps_per_epoch,
        epochs,
    ) == close(expected)


def test_one_cycle_that_only_rises_ends_at_its_peak() -> None:
    rates = factors(OneCycleConfig(pct_start=1.0, div_factor=20.0, final_div_factor=1e3), 5, 2)
    assert rates == sorted(rates)
    assert [rates[0], rates[-1]] == close([0.05, 1.0])


def test_constant_stays() -> None:
    assert factors(ConstantConfig(warmup_epochs=0.0), 3, 2) == [1.0] * 6


def test_warm_up_is_a_straight_line_to_the_full_rate() -> None:
    assert factors(ConstantConfig(warmup_epochs=1.5), 4, 2) == close(
        [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1]
    )


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
def test_the_clock_runs_during_the_warm_up(config: SchedulerConfig) -> None:
    without = factors(config, 4, 5)
    assert not isinstance(config, OneCycleConfig)
    warmed_up = replace(config, warmup_epochs=1.0)
    assert factors(warmed_up, 4, 5)[3:] == without[3:]


def test_a_warm_up_shorter_than_a_step_changes_nothing() -> None:
    assert factors(ConstantConfig(warmup_epochs=0.1), 4, 1) == [1.0] * 4


def test_steps_shorter_than_a_step_of_training_fall_at_each() -> None:
    assert factors(StepConfig(step_epochs=0.01, gamma=0.5, warmup_epochs=0.0), 4, 1) == [
        1.0,
        0.5,
        0.25,
        0.125,
    ]
