"""The configuration: each field with its type, its range and its meaning.

The YAML files in conf/ have the values. msgspec checks types and ranges. `__post_init__` checks
values that depend on each other. A class with a tag is one choice of its group, and the tag is the
value of its key `name`. The choices of optimizer and scheduler are in config/optimizers.py.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

from cnnbench.config.field_types import (
    Auto,
    Group,
    NonNegativeFloat,
    NonNegativeInt,
    Pixels,
    PositiveFloat,
    PositiveInt,
    Ratio,
    Share,
    Text,
)
from cnnbench.config.optimizers import REFERENCE_OPTIMIZERS, OptimizerConfig, SchedulerConfig
from cnnbench.errors import ConfigError

__all__ = [
    "FOLDER",
    "TRACKERS",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "DeviceConfig",
    "MlflowConfig",
    "Recipe",
    "TrackerConfig",
    "TrainConfig",
    "WandbConfig",
]

FOLDER = "folder"  # the dataset whose images the user supplies


class Recipe(Group, frozen=True, kw_only=True):
    """Values that the paper of a network trains it with: the defaults of the other groups."""

    resize: Pixels
    batch_size: PositiveInt
    lr: PositiveFloat
    momentum: Ratio
    epochs: PositiveInt


class ModelConfig(Group, frozen=True, kw_only=True):
    """A network. The arguments of its constructor are keys of the group `model`."""

    name: str  # in the registry, or my_module:MyNet
    recipe: Recipe
    weights: Text | None = None  # run directory or safetensors file to start from; None: new ones
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
    validation: Annotated[  # training examples that form the validation set
        NonNegativeInt | Share,
        Meta(description="at least 0: a whole number of examples, or a share of them below 1"),
    ]
    train_examples: PositiveInt | None  # a class-balanced subset of the rest; None: all
    test_examples: PositiveInt | None
    folds: Annotated[int, Meta(ge=2)] | None  # number of folds of the cross-validation
    fold: int | None  # the fold that is the validation set, from 0
    # the defaults equal conf/data, for runs that were recorded without these keys
    class_weights: Literal["balanced", "none"] = "none"  # weights of the classes in the loss
    root: str | None = None  # folder of the data files, for all datasets but data=folder
    # The following keys are for data=folder.
    path: str | None = None  # folder of the images
    image_size: Pixels | None = None  # size to which images are resized when they are read
    channels: int | None = None  # 1 or 3; None: either
    skip_unreadable: bool = False  # leave out image files that cannot be read

    def __post_init__(self) -> None:
        if (self.folds is None) != (self.fold is None):
            raise ConfigError("Cross-validation needs both keys, such as data.folds=5 data.fold=0.")
        if self.folds is not None and self.fold is not None:
            _check_range("data.fold", self.fold, self.folds - 1)
        if self.name != FOLDER:
            others = f"data=folder, not for data={self.name}"
            for key in ("path", "image_size", "channels"):
                if (value := getattr(self, key)) is not None:
                    raise ConfigError(f"data.{key}={value} is for {others}.")
            if self.skip_unreadable:
                raise ConfigError(f"data.skip_unreadable=true is for {others}.")
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
    """Augmentations, which can be combined. Sizes are in pixels of the resized image."""

    name: Literal["cutmix", "cutout", "hflip_translate", "mixup", "none", "random_erasing"]
    hflip: bool  # mirror left to right, with probability 1/2
    translate: NonNegativeInt  # maximum shift in pixels, in each direction
    cutout: NonNegativeInt  # side in pixels of the square that is masked
    random_erasing: Ratio  # probability of masking a random rectangle
    mixup: NonNegativeFloat  # alpha of Beta(alpha, alpha); 0: off
    cutmix: NonNegativeFloat  # alpha of Beta(alpha, alpha); 0: off

    def __post_init__(self) -> None:
        if self.mixup > 0 and self.cutmix > 0:
            raise ConfigError(
                f"augment.mixup={self.mixup} and augment.cutmix={self.cutmix} both mix images: "
                "one of them must be 0. Set augment.mixup=0 or augment.cutmix=0."
            )


class DeviceConfig(Group, frozen=True, kw_only=True):
    """Device settings. `auto` is the fastest choice that keeps accuracy within noise."""

    name: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "bf16", "fp16", "fp32", "fp64", "tf32"]
    channels_last: bool | Auto
    threads: Annotated[int, Meta(ge=1, le=1024)] | Auto  # CPU threads
    compile: bool
    cuda_graphs: bool | Auto
    deterministic: bool
    sync_batchnorm: bool


class ReferenceConfig(Group, frozen=True, kw_only=True):
    """Parts of training that cnnbench/reference computes in place of PyTorch."""

    layers: bool
    loss: bool
    optimizer: bool
    # the default equals conf/reference, for runs that were recorded without this key
    module: Text | None = None  # a Python file of the user with classes to use in their place


class CheckpointEvery(Group, frozen=True, kw_only=True):
    """Amounts of training between two checkpoints. The first to be reached counts; None: never."""

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
    grad_clip_norm: PositiveFloat | None  # maximum global gradient norm; None: no clipping
    ema_decay: Ratio | None  # decay of the weight average used for evaluation; None: off
    tta: Literal["hflip", "none"]  # test-time augmentation
    fail_if_not_learning: bool
    on_nonfinite_loss: Literal["skip", "stop"]
    checkpoint_every: CheckpointEvery
    # the defaults equal conf/train.yaml, for runs that were recorded without these keys
    last_batch: Literal["weighted", "full", "drop"] = "weighted"
    log_every: PositiveInt | None = None  # training steps
    accumulate: PositiveInt = 1  # micro-batches of a step
    select_by: Literal["accuracy", "loss"] = "accuracy"  # figure that chooses best.pt
    patience: PositiveInt | None = None  # epochs without a better figure that end the run
    max_minutes: PositiveFloat | None = None  # of one process, not of the whole run
    freeze: Literal["backbone", "none"] = "none"  # of the tensors taken from model.weights

    def __post_init__(self) -> None:
        if self.ema_decay == 1:
            advice = "It must be below 1, such as 0.99."
            raise ConfigError(f"train.ema_decay=1 keeps the initial weights forever. {advice}")
        if self.label_smoothing > 0 and self.loss != "cross_entropy":
            given = f"train.label_smoothing={self.label_smoothing}"
            raise ConfigError(f"{given} is for train.loss=cross_entropy, not {self.loss}.")
        if self.fail_if_not_learning and self.epochs < 2:
            needed = "it needs train.epochs=2 or more"
            raise ConfigError(f"train.fail_if_not_learning=true compares epochs: {needed}.")
        if self.accumulate > self.batch_size:
            raise ConfigError(
                f"train.accumulate={self.accumulate} is out of range. It must be at most "
                f"train.batch_size={self.batch_size}: each micro-batch needs an example."
            )


class TensorboardConfig(Group, frozen=True, kw_only=True):
    """TensorBoard. It has no keys: its files are in the run directory."""


class MlflowConfig(Group, frozen=True, kw_only=True):
    """MLflow. The defaults equal conf/tracker, for a run that is resumed with another tracker."""

    uri: Text | None = None
    experiment: Text = "cnnbench"


class WandbConfig(Group, frozen=True, kw_only=True):
    """Weights & Biases. The defaults equal conf/tracker, as in MlflowConfig."""

    project: Text = "cnnbench"
    entity: Text | None = None
    mode: Literal["offline", "online"] | None = None


class TrackerConfig(Group, frozen=True, kw_only=True):
    """Trackers of a run. A tracker that is not used is None."""

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
    sweep: str  # name of the folder of the sweep
    sweep_on_error: Literal["continue", "stop"]

    def __post_init__(self) -> None:
        if self.train.freeze != "none" and self.model.weights is None:
            given = f"train.freeze={self.train.freeze}"
            raise ConfigError(f"{given} is for weights of a trained network: model.weights=RUN.")
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
        if self.reference.module is not None:
            for key in ("compile", "cuda_graphs"):
                if getattr(self.device, key) is True:
                    reason = "Python code that cannot be compiled or captured"
                    raise ConfigError(f"device.{key}=true: reference.module is {reason}.")


def _check_range(key: str, value: int, high: int, reason: str = "") -> None:
    """Check that 0 <= value <= high, where `high` depends on another key.

    `reason` ends the message with the cause of the limit.
    """
    if not 0 <= value <= high:
        allowed = f"at least 0 and at most {high}{reason}"
        raise ConfigError(f"{key}={value} is out of range. It must be {allowed}.")
