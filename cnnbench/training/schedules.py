"""Learning rate schedules: pure functions of the step, without state to save and restore."""

import math

from cnnbench.config import (
    ConstantConfig,
    CosineConfig,
    ExponentialConfig,
    MultiStepConfig,
    OneCycleConfig,
    SchedulerConfig,
    StepConfig,
)

__all__ = ["lr_factor"]


def lr_factor(config: SchedulerConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the factor of the learning rate at `step`, counted from 0 over the whole run.

    A warm-up multiplies the schedule by a factor that rises linearly to 1, or by `warmup_ratio`.
    The schedule itself starts at step 0, not after the warm-up.
    """
    if isinstance(config, OneCycleConfig):
        return _one_cycle(config, step, total_steps)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    factor = _decay(config, step, steps_per_epoch, total_steps)
    if isinstance(config, MultiStepConfig) and config.warmup_ratio is not None:
        return factor * (config.warmup_ratio if step < round(warmup_steps) else 1.0)
    return factor * min(1.0, (step + 1) / max(1.0, warmup_steps))


def _decay(config: SchedulerConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the factor of a schedule without its warm-up."""
    match config:
        case StepConfig():
            step_size = max(1, round(config.step_epochs * steps_per_epoch))
            return math.pow(config.gamma, step // step_size)
        case MultiStepConfig(milestones=None):
            passed = sum(step >= round(share * total_steps) for share in (0.5, 0.75))
            return math.pow(config.gamma, passed)
        case MultiStepConfig(milestones=list(milestones)):
            passed = sum(step >= round(epoch * steps_per_epoch) for epoch in milestones)
            return math.pow(config.gamma, passed)
        case ExponentialConfig():
            return math.pow(config.gamma, step / steps_per_epoch)
        case CosineConfig():
            return _cosine(1.0, config.min_lr_ratio, step / total_steps)
        case _:
            assert isinstance(config, ConstantConfig)
            return 1.0


def _one_cycle(config: OneCycleConfig, step: int, total_steps: int) -> float:
    start, last = 1 / config.div_factor, total_steps - 1
    end = start / config.final_div_factor
    peak = config.pct_start * total_steps - 1
    if step <= peak:
        return _cosine(start, 1.0, step / peak if peak > 0 else 1.0)
    return _cosine(1.0, end, (step - peak) / (last - peak) if last > peak else 1.0)


def _cosine(start: float, end: float, progress: float) -> float:
    """Return the value between `start` and `end` on half a cosine, for progress from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
