"""Configuration fields of the optimizers and the learning-rate schedulers."""

from typing import Annotated, Literal

from msgspec import Meta

from cnnbench.config.field_types import Choice, NonNegativeFloat, PositiveFloat, Ratio, Share

__all__ = [
    "REFERENCE_OPTIMIZERS",
    "AdagradConfig",
    "AdamConfig",
    "AdamWConfig",
    "ConstantConfig",
    "CosineConfig",
    "ExponentialConfig",
    "MomentumConfig",
    "MultiStepConfig",
    "MuonConfig",
    "NesterovConfig",
    "OneCycleConfig",
    "OptimizerConfig",
    "RMSpropConfig",
    "SchedulerConfig",
    "SgdConfig",
    "StepConfig",
]

REFERENCE_OPTIMIZERS = ("adagrad", "adam", "momentum", "sgd")  # implemented in cnnbench/reference


class SgdConfig(Choice, frozen=True, kw_only=True, tag="sgd"):
    lr: PositiveFloat
    momentum: Ratio
    weight_decay: NonNegativeFloat


class MomentumConfig(SgdConfig, frozen=True, kw_only=True, tag="momentum"):
    """SGD whose default momentum does not come from the recipe."""


class NesterovConfig(SgdConfig, frozen=True, kw_only=True, tag="nesterov"):
    momentum: Annotated[float, Meta(gt=0, le=1)]


class AdagradConfig(Choice, frozen=True, kw_only=True, tag="adagrad"):
    lr: PositiveFloat
    eps: PositiveFloat
    weight_decay: NonNegativeFloat


class AdamConfig(Choice, frozen=True, kw_only=True, tag="adam"):
    lr: PositiveFloat
    betas: Annotated[
        list[Share],
        Meta(min_length=2, max_length=2, description="two numbers from 0 up to, not including, 1"),
    ]
    eps: PositiveFloat
    weight_decay: NonNegativeFloat


class AdamWConfig(AdamConfig, frozen=True, kw_only=True, tag="adamw"):
    """Adam with decoupled weight decay."""


class RMSpropConfig(Choice, frozen=True, kw_only=True, tag="rmsprop"):
    lr: PositiveFloat
    alpha: Ratio
    eps: PositiveFloat
    momentum: Ratio
    weight_decay: NonNegativeFloat


class MuonConfig(Choice, frozen=True, kw_only=True, tag="muon"):
    """Muon for weights that are matrices. The optimizer `fallback` updates other parameters."""

    lr: PositiveFloat
    momentum: Ratio
    weight_decay: NonNegativeFloat
    fallback: Literal["adamw", "sgd"]
    fallback_lr: PositiveFloat


Sgds = SgdConfig | MomentumConfig | NesterovConfig
OptimizerConfig = Sgds | AdagradConfig | AdamConfig | AdamWConfig | RMSpropConfig | MuonConfig


class Warmup(Choice, frozen=True, kw_only=True):
    warmup_epochs: NonNegativeFloat  # epochs in which the learning rate grows from 0


class ConstantConfig(Warmup, frozen=True, kw_only=True, tag="constant"):
    """A constant learning rate, after the warm-up."""


class StepConfig(Warmup, frozen=True, kw_only=True, tag="step"):
    step_epochs: PositiveFloat
    gamma: Ratio


class MultiStepConfig(Warmup, frozen=True, kw_only=True, tag="multistep"):
    milestones: list[PositiveFloat] | None  # epochs; None: after 1/2 and 3/4 of all steps
    gamma: Ratio
    warmup_ratio: Ratio | None  # constant share of the rate in the warm-up; None: linear growth


class ExponentialConfig(Warmup, frozen=True, kw_only=True, tag="exponential"):
    gamma: Ratio  # per epoch


class CosineConfig(Warmup, frozen=True, kw_only=True, tag="cosine"):
    min_lr_ratio: Ratio


class OneCycleConfig(Choice, frozen=True, kw_only=True, tag="onecycle"):
    pct_start: Ratio
    div_factor: PositiveFloat
    final_div_factor: PositiveFloat


Steps = StepConfig | MultiStepConfig
SchedulerConfig = ConstantConfig | Steps | ExponentialConfig | CosineConfig | OneCycleConfig
