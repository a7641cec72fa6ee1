"""The configuration: each field once, with its type, its range and its meaning.

The values are the YAML files in conf/. msgspec checks types and ranges, `__post_init__` what values
mean together. A class with a tag is one choice of its group, whose key `name` has the tag.
"""

import sys
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cnnbench.errors import ConfigError

__all__ = [
    "FOLDER",
    "REFERENCE_OPTIMIZERS",
    "TRACKERS",
    "AdagradConfig",
    "AdamConfig",
    "AdamWConfig",
    "AugmentConfig",
    "Config",
    "ConstantConfig",
    "CosineConfig",
    "DataConfig",
    "DeviceConfig",
    "ExponentialConfig",
    "MlflowConfig",
    "MomentumConfig",
    "MultiStepConfig",
    "MuonConfig",
    "NesterovConfig",
    "OneCycleConfig",
    "OptimizerConfig",
    "RMSpropConfig",
    "Recipe",
    "SchedulerConfig",
    "SgdConfig",
    "StepConfig",
    "TrackerConfig",
    "TrainConfig",
    "WandbConfig",
]

FINITE = sys.float_info.max  # bounds a range that has no end of its own: inf and nan are refused
FOLDER = "folder"  # the dataset that is not known beforehand
REFERENCE_OPTIMIZERS = ("adagrad", "adam", "momentum", "sgd")  # those in cnnbench/reference

PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0, le=FINITE)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=FINITE)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Pixels = Annotated[int, Meta(ge=1, le=4096)]
Auto = Literal["auto"]
Text = Annotated[str, Meta(min_length=1)]


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of keys."""


class Choice(Group, frozen=True, tag_field="name"):
    """A group whose keys depend on the choice made."""

    @property
    def name(self) -> str:
        return str(self.__struct_config__.tag)


class Recipe(Group, frozen=True, kw_only=True):
    """What the source of a network trains it with; the other groups default to it."""

    resize: Pixels
    batch_size: PositiveInt
    lr: PositiveFloat
    momentum: Ratio
    epochs: PositiveInt


class ModelConfig(Group, frozen=True, kw_only=True):
    """A network and the arguments of its constructor, which are keys of `model` itself."""

    name: str  # in the registry, or my_module:MyNet
    recipe: Recipe
    arguments: dict[str, Any]

    def __post_init__(self) -> None:
        for key in ("in_channels", "num_classes", "image_size"):
            if key in self.arguments:
                reason = "it follows from the data set and data.resize"
                raise ConfigError(f"model.{key} cannot be set: {reason}.")


class DataConfig(Group, frozen=True, kw_only=True):
    name: str
    resize: Pixels  # size of the square images that the network sees
    normalize: bool  # by mean and std of the training images
    validation: Annotated[  # examples held out of the training set
        NonNegativeInt | Share,
        Meta(description="at least 0: a whole number of examples, or a share of them below 1"),
    ]
    train_examples: PositiveInt | None  # a class-balanced part of the rest; None: all
    test_examples: PositiveInt | None
    folds: Annotated[int, Meta(ge=2)] | None  # of cross-validation
    fold: int | None  # which is held out, from 0
    root: str | None = None  # folder of the data files; not for data=folder
    path: str | None = None  # folder of the images; this and the next two for data=folder alone
    image_size: Pixels | None = None  # that images are resized to when they are read
    channels: int | None = None  # 1 or 3; None: either

    def __post_init__(self) -> None:
        if (self.folds is None) != (self.fold is None):
            raise ConfigError("Cross-validation needs both keys, such as data.folds=5 data.fold=0.")
        if self.folds is not None and self.fold is not None:
            _check_range("data.fold", self.fold, self.folds - 1)
        if self.name != FOLDER:
            for key in ("path", "image_size", "channels"):
                if (value := getattr(self, key)) is not None:
                    others = f"data=folder, not for data={self.name}"
                    raise ConfigError(f"data.{key}={value} is for {others}.")
            return
        if not self.path:
            raise ConfigError(
                "data=folder needs data.path=DIR, the folder of your images: "
                "a folder in it for each class, or IDX files."
            )
        if self.root is not None:
            fetched = "data sets that are fetched. Your images are in data.path"
            raise ConfigError(f"data.root={self.root} is for {fetched}.")
        if self.channels not in (None, 1, 3):
            allowed = "1 for gray, 3 for color, null for either"
            raise ConfigError(f"data.channels={self.channels} is not known. Allowed: {allowed}.")


class AugmentConfig(Group, frozen=True, kw_only=True):
    """Augmentations that can be combined. Pixels are those of the resized image."""

    name: Literal["cutmix", "cutout", "hflip_translate", "mixup", "none", "random_erasing"]
    hflip: bool  # mirror left to right, with probability 1/2
    translate: NonNegativeInt  # move by up to so many pixels in each direction
    cutout: NonNegativeInt  # side in pixels of the square that is masked
    random_erasing: Ratio  # probability of masking a random rectangle
    mixup: NonNegativeFloat  # alpha of Beta(alpha, alpha); 0: off
    cutmix: NonNegativeFloat  # likewise

    def __post_init__(self) -> None:
        if self.mixup > 0 and self.cutmix > 0:
            raise ConfigError(
                f"augment.mixup={self.mixup} and augment.cutmix={self.cutmix} both mix images: "
                "one of them must be 0. Set augment.mixup=0 or augment.cutmix=0."
            )


class SgdConfig(Choice, frozen=True, kw_only=True, tag="sgd"):
    lr: PositiveFloat
    momentum: Ratio
    weight_decay: NonNegativeFloat


class MomentumConfig(SgdConfig, frozen=True, kw_only=True, tag="momentum"):
    """SGD with a momentum of its own instead of the recipe's."""


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
    """Adam with weight decay apart from the gradient."""


class RMSpropConfig(Choice, frozen=True, kw_only=True, tag="rmsprop"):
    lr: PositiveFloat
    alpha: Ratio
    eps: PositiveFloat
    momentum: Ratio
    weight_decay: NonNegativeFloat


class MuonConfig(Choice, frozen=True, kw_only=True, tag="muon"):
    """Muon for weights that are matrices; the other parameters get the optimizer `fallback`."""

    lr: PositiveFloat
    momentum: Ratio
    weight_decay: NonNegativeFloat
    fallback: Literal["adamw", "sgd"]
    fallback_lr: PositiveFloat


Sgds = SgdConfig | MomentumConfig | NesterovConfig
OptimizerConfig = Sgds | AdagradConfig | AdamConfig | AdamWConfig | RMSpropConfig | MuonConfig


class Warmup(Choice, frozen=True, kw_only=True):
    warmup_epochs: NonNegativeFloat  # in which the rate grows from 0


class ConstantConfig(Warmup, frozen=True, kw_only=True, tag="constant"):
    """The optimizer's rate throughout."""


class StepConfig(Warmup, frozen=True, kw_only=True, tag="step"):
    step_epochs: PositiveFloat
    gamma: Ratio


class MultiStepConfig(Warmup, frozen=True, kw_only=True, tag="multistep"):
    milestones: list[PositiveFloat] | None  # in epochs; None: after 1/2 and 3/4 of all steps
    gamma: Ratio
    warmup_ratio: Ratio | None  # share of the rate during the warm-up; None: it grows linearly


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


class DeviceConfig(Group, frozen=True, kw_only=True):
    """`auto` is the fastest choice that keeps accuracy within noise."""

    name: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp64", "tf32"]
    channels_last: bool | Auto
    threads: Annotated[int, Meta(ge=1, le=1024)] | Auto  # of the CPU
    compile: bool
    cuda_graphs: bool | Auto
    deterministic: bool
    sync_batchnorm: bool


class ReferenceConfig(Group, frozen=True, kw_only=True):
    """What cnnbench/reference computes in place of PyTorch."""

    layers: bool
    loss: bool
    optimizer: bool


class CheckpointEvery(Group, frozen=True, kw_only=True):
    """How much training lies between two checkpoints: whichever comes first; None: never."""

    epochs: PositiveInt | None
    steps: PositiveInt | None
    minutes: NonNegativeFloat | None


class TrainConfig(Group, frozen=True, kw_only=True):
    epochs: PositiveInt
    batch_size: Annotated[int, Meta(ge=1, le=100_000)]
    init: Literal["default", "kaiming_normal", "normal", "xavier_uniform"]
    loss: Literal["cross_entropy", "mse", "nll"]
    label_smoothing: Ratio
    l1: NonNegativeFloat
    grad_clip_norm: PositiveFloat | None
    ema_decay: Ratio | None
    tta: Literal["hflip", "none"]
    fail_if_not_learning: bool
    on_nonfinite_loss: Literal["skip", "stop"]
    checkpoint_every: CheckpointEvery

    def __post_init__(self) -> None:
        if self.ema_decay == 1:
            advice = "It must be below 1, such as 0.99."
            raise ConfigError(f"train.ema_decay=1 keeps the initial weights for ever. {advice}")
        if self.label_smoothing > 0 and self.loss != "cross_entropy":
            given = f"train.label_smoothing={self.label_smoothing}"
            raise ConfigError(f"{given} is for train.loss=cross_entropy, not {self.loss}.")
        if self.fail_if_not_learning and self.epochs < 2:
            needed = "it needs train.epochs=2 or more"
            raise ConfigError(f"train.fail_if_not_learning=true compares epochs: {needed}.")


class TensorboardConfig(Group, frozen=True, kw_only=True):
    """There is nothing to choose: the files are in the run directory."""


class MlflowConfig(Group, frozen=True, kw_only=True):
    """The defaults are those of conf/, for a run that is resumed with a tracker it did not have."""

    uri: Text | None = None
    experiment: Text = "cnnbench"


class WandbConfig(Group, frozen=True, kw_only=True):
    """The defaults are those of conf/, as in MlflowConfig."""

    project: Text = "cnnbench"
    entity: Text | None = None
    mode: Literal["offline", "online"] | None = None


class TrackerConfig(Group, frozen=True, kw_only=True):
    """The trackers that show a run; None for those that do not."""

    tensorboard: TensorboardConfig | None = None
    mlflow: MlflowConfig | None = None
    wandb: WandbConfig | None = None


TRACKERS = TrackerConfig.__struct_fields__


class Config(Group, frozen=True, kw_only=True):
    """A whole, typed and checked configuration."""

    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    device: DeviceConfig
    reference: ReferenceConfig
    tracker: TrackerConfig = TrackerConfig()
    train: TrainConfig
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    sweep: str  # name of the sweep's folder
    sweep_on_error: Literal["continue", "stop"]

    def __post_init__(self) -> None:
        size = self.data.resize
        of_size = f", with images of data.resize={size}"
        _check_range("augment.translate", self.augment.translate, size - 1, of_size)
        _check_range("augment.cutout", self.augment.cutout, size, of_size)
        if self.reference.optimizer and self.optimizer.name not in REFERENCE_OPTIMIZERS:
            known = ", ".join(REFERENCE_OPTIMIZERS)
            name = self.optimizer.name
            raise ConfigError(f"reference.optimizer=true is for {known}, not for {name}.")
        if self.reference.layers and self.device.precision in ("bf16", "fp16"):
            raise ConfigError(
                "reference.layers=true computes in fp32, tf32 or fp64, not in "
                f"device.precision={self.device.precision}: "
                "autocast knows PyTorch's own operations alone."
            )
        if self.reference.layers and self.device.sync_batchnorm:
            both = "reference.layers=true and device.sync_batchnorm=true"
            raise ConfigError(f"{both} both replace batch normalization.")


def _check_range(key: str, value: int, high: int, reason: str = "") -> None:
    """Check that 0 <= value <= high, where `high` depends on another key."""
    if not 0 <= value <= high:
        allowed = f"at least 0 and at most {high}{reason}"
        raise ConfigError(f"{key}={value} is out of range. It must be {allowed}.")
