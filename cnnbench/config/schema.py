"""The types of the configuration; its values are the YAML files in conf/."""

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AUGMENTS",
    "DEVICES",
    "FOLDER",
    "INITS",
    "LOSSES",
    "MUON_FALLBACKS",
    "ON_ERROR",
    "ON_NONFINITE_LOSS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULERS",
    "TRACKERS",
    "TTAS",
    "AdagradConfig",
    "AdamConfig",
    "AugmentConfig",
    "CheckpointEvery",
    "CommonConfig",
    "Config",
    "ConstantConfig",
    "CosineConfig",
    "DataConfig",
    "DeviceConfig",
    "ExponentialConfig",
    "MlflowConfig",
    "ModelConfig",
    "MultiStepConfig",
    "MuonConfig",
    "OneCycleConfig",
    "OptimizerConfig",
    "RMSpropConfig",
    "Recipe",
    "ReferenceConfig",
    "SchedulerConfig",
    "Schema",
    "SgdConfig",
    "StepConfig",
    "TensorboardConfig",
    "TrackerConfig",
    "TrainConfig",
]

INITS = ("default", "kaiming_normal", "normal", "xavier_uniform")
LOSSES = ("cross_entropy", "mse", "nll")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "bf16", "fp16", "fp32", "fp64", "tf32")
AUGMENTS = ("cutmix", "cutout", "hflip_translate", "mixup", "none", "random_erasing")
MUON_FALLBACKS = ("adamw", "sgd")
ON_NONFINITE_LOSS = ("skip", "stop")
TTAS = ("hflip", "none")
ON_ERROR = ("continue", "stop")
FOLDER = "folder"  # the data set that is not known beforehand
TRACKERS = ("mlflow", "tensorboard")


@dataclass
class Recipe:
    """What the network's source trains it with; the other groups default to it."""

    resize: int
    batch_size: int
    lr: float
    momentum: float
    epochs: int


@dataclass
class ModelConfig:
    """A network of the registry, or ``my_module:MyNet``, and the arguments of its constructor."""

    name: str
    recipe: Recipe
    arguments: dict[str, Any]


@dataclass
class DataConfig:
    """`path`, `image_size` and `channels` are of ``folder`` alone; `root` is of all others."""

    name: str
    resize: int
    validation: Any  # int | float: a share below 1
    train_examples: int | None
    test_examples: int | None
    folds: int | None
    fold: int | None
    root: str | None = None
    path: str | None = None  # which a run of an earlier version does not say, nor those below
    image_size: int | None = None
    channels: int | None = None
    normalize: bool = True


@dataclass
class AugmentConfig:
    """A preset, whose keys can be combined; pixels are those of the resized image."""

    name: str
    hflip: bool
    translate: int
    cutout: int
    random_erasing: float
    mixup: float
    cutmix: float


@dataclass
class SgdConfig:
    """Also ``momentum`` and ``nesterov``: stochastic gradient descent with a momentum of its own."""

    name: str
    lr: float
    momentum: float
    weight_decay: float


@dataclass
class AdagradConfig:
    name: str
    lr: float
    eps: float
    weight_decay: float


@dataclass
class AdamConfig:
    """Also ``adamw``."""

    name: str
    lr: float
    betas: list[float]
    eps: float
    weight_decay: float


@dataclass
class RMSpropConfig:
    name: str
    lr: float
    alpha: float
    eps: float
    momentum: float
    weight_decay: float


@dataclass
class MuonConfig:
    """Muon for the weights that are matrices; the others get the optimizer `fallback` with a rate of its own."""

    name: str
    lr: float
    momentum: float
    weight_decay: float
    fallback: str
    fallback_lr: float


OptimizerConfig = SgdConfig | AdagradConfig | AdamConfig | RMSpropConfig | MuonConfig

OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SgdConfig,
    "momentum": SgdConfig,
    "nesterov": SgdConfig,
    "adagrad": AdagradConfig,
    "adam": AdamConfig,
    "adamw": AdamConfig,
    "rmsprop": RMSpropConfig,
    "muon": MuonConfig,
}


@dataclass
class ConstantConfig:
    name: str
    warmup_epochs: float


@dataclass
class StepConfig:
    name: str
    step_epochs: float
    gamma: float
    warmup_epochs: float


@dataclass
class MultiStepConfig:
    """`milestones` in epochs, None for those after half and three quarters of all steps.

    With `warmup_ratio` the warm-up has this share of the rate throughout, instead of a straight line.
    """

    name: str
    milestones: list[float] | None
    gamma: float
    warmup_epochs: float
    warmup_ratio: float | None


@dataclass
class ExponentialConfig:
    name: str
    gamma: float
    warmup_epochs: float


@dataclass
class CosineConfig:
    name: str
    min_lr_ratio: float
    warmup_epochs: float


@dataclass
class OneCycleConfig:
    name: str
    pct_start: float
    div_factor: float
    final_div_factor: float


SchedulerConfig = ConstantConfig | StepConfig | MultiStepConfig | ExponentialConfig | CosineConfig | OneCycleConfig

SCHEDULERS: dict[str, type[SchedulerConfig]] = {
    "constant": ConstantConfig,
    "step": StepConfig,
    "multistep": MultiStepConfig,
    "exponential": ExponentialConfig,
    "cosine": CosineConfig,
    "onecycle": OneCycleConfig,
}


@dataclass
class DeviceConfig:
    name: str
    precision: str
    channels_last: Any  # bool | Literal["auto"]; OmegaConf 2.3 fails to merge unions
    threads: Any  # int | Literal["auto"]
    compile: bool
    cuda_graphs: Any  # bool | Literal["auto"]
    deterministic: bool
    sync_batchnorm: bool = False  # which a run of an earlier version does not say


@dataclass
class ReferenceConfig:
    """What the reference computes in place of PyTorch."""

    layers: bool
    loss: bool
    optimizer: bool


@dataclass
class CheckpointEvery:
    """How much training lies between two checkpoints: whichever comes first; None for never."""

    epochs: int | None
    steps: int | None
    minutes: float | None


@dataclass
class TrainConfig:
    epochs: int
    batch_size: int
    init: str
    loss: str
    label_smoothing: float
    l1: float
    grad_clip_norm: float | None
    ema_decay: float | None
    tta: str
    fail_if_not_learning: bool
    on_nonfinite_loss: str
    checkpoint_every: CheckpointEvery


@dataclass
class TensorboardConfig:
    """There is nothing to choose: the files are in the run directory."""


@dataclass
class MlflowConfig:
    """The defaults are those of conf/, for a run that goes on with a tracker it did not have."""

    uri: str | None = None
    experiment: str = "cnnbench"


@dataclass
class TrackerConfig:
    """The trackers that show a run; None for those that do not."""

    tensorboard: TensorboardConfig | None = None
    mlflow: MlflowConfig | None = None


@dataclass
class CommonConfig:
    data: DataConfig
    augment: AugmentConfig
    device: DeviceConfig
    reference: ReferenceConfig
    train: TrainConfig
    seed: int
    sweep: str
    sweep_on_error: str


@dataclass
class Schema(CommonConfig):
    """What Hydra composes: groups whose fields depend on the choice made are plain mappings."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    tracker: dict[str, Any] = field(default_factory=dict)  # which a run of an earlier version does not say


@dataclass
class Config(CommonConfig):
    """A whole, typed and checked configuration."""

    model: ModelConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    tracker: TrackerConfig
