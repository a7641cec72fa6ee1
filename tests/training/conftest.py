"""Fixtures for tests of training: a small configuration, random images and an engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import MakeEngine
from helpers.paths import CONF
from helpers.resumable_training import NewTraining, ResumableTraining
from helpers.tape_engine import Net
from helpers.training_states import StartTraining, make_state
from hydra import compose, initialize_config_dir
from torch import nn

from cnnbench import config as configuration
from cnnbench.config import Config, CosineConfig, NesterovConfig, SgdConfig
from cnnbench.data.augment import Augment
from cnnbench.data.device_data import Examples
from cnnbench.data.preprocess import Preprocess
from cnnbench.runs.directory import RunDirectory
from cnnbench.training import loop
from cnnbench.training.device import Device, resolve_device, setup_device
from cnnbench.training.engine import EagerEngine
from cnnbench.training.optimizers import make_optimizers
from cnnbench.training.state import Row

SMALL = [
    "model=mlp",
    "model.widths=[16]",
    "data=sample",
    "data.resize=4",
    "data.validation=10",
    "optimizer=momentum",
    "device=cpu",
    "device.threads=1",
    "device.channels_last=false",
    "train.epochs=2",
    "train.batch_size=8",
]


@pytest.fixture(autouse=True)
def _restore_process_settings() -> Iterator[None]:
    """Use one thread and exact convolutions, and undo what a test sets for the whole process."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    cudnn = torch.backends.cudnn
    threads = torch.get_num_threads()
    precisions = matmul.fp32_precision, conv.fp32_precision
    algorithms = cudnn.benchmark, cudnn.deterministic
    torch.set_num_threads(1)  # small tensors are quickest with one
    conv.fp32_precision, cudnn.deterministic = (
        "ieee",
        True,
    )  # convolutions are as exact as on the CPU
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    matmul.fp32_precision, conv.fp32_precision = precisions
    cudnn.benchmark, cudnn.deterministic = algorithms


@pytest.fixture(scope="session")
def small_values() -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = configuration.to_plain(compose("train", overrides=SMALL))
    return configuration.as_dict(configuration.load_config(composed))


@pytest.fixture
def config(small_values: dict[str, Any]) -> Config:
    """Return a small configuration, which a test may change."""
    return configuration.load_config(small_values)


@pytest.fixture
def sgd_config(config: Config) -> Config:
    """Return plain gradient descent: a step adds -0.1 times the gradient to the parameters."""
    change(config, optimizer=SgdConfig(lr=0.1, momentum=0.0, weight_decay=0.0))
    return config


@pytest.fixture
def linear_network() -> nn.Sequential:
    """Return a network whose logits of four classes are a linear function of 16 pixels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Device:
    """Return the CPU, or the device that a test is parametrized with, in fp32."""
    return Device(torch.device(getattr(request, "param", "cpu")), "fp32", channels_last=False)


@pytest.fixture
def examples(device: Device) -> Examples:
    """Return 21 random images of 4 x 4 pixels in four classes; batches of 8 end with one of 5."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (21, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return Examples(images.to(device.torch_device), (torch.arange(21) % 4).to(device.torch_device))


@pytest.fixture
def make_engine() -> MakeEngine:
    """Return a factory of engines that train a network as configured, on pixels in [0, 1]."""

    def make(
        model: nn.Module,
        config: Config,
        device: Device,
        engine_class: type[EagerEngine] = EagerEngine,
    ) -> EagerEngine:
        model = model.to(device.torch_device)
        optimizers = make_optimizers(
            config.optimizer, model, device.torch_device, config.reference.optimizer
        )
        preprocess = Preprocess(config.data.resize, [0.0], [1.0])
        augment = Augment(config.augment, 4, 0.0)
        return engine_class(model, optimizers, preprocess, augment, device, config)

    return make


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def start_training(
    config: Config,
    device: Device,
    examples: Examples,
    run_directory: RunDirectory,
    make_engine: MakeEngine,
) -> StartTraining:
    """Return a function that gives a new engine, of a network with dropout, and its rows.

    The random images are both the training and the validation set.
    """
    change(config, device__name=device.torch_device.type)

    def start() -> tuple[EagerEngine, Iterator[Row]]:
        setup_device(resolve_device(config.device), config.device, config.seed)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4)
        )
        engine = make_engine(network, config, device)
        return engine, loop.fit(make_state(config, engine, examples, run_directory))

    return start


@pytest.fixture
def new_training(
    tmp_path: Path, config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> NewTraining:
    """Return a factory of trainings in which everything with a state takes part.

    That is momentum, a schedule, dropout, batch statistics, augmentation and averaged weights.
    """
    change(config, optimizer=NesterovConfig(lr=0.1, momentum=0.9, weight_decay=0.0))
    change(config, scheduler=CosineConfig(min_lr_ratio=0.0, warmup_epochs=0.5))
    change(config, augment__hflip=True, augment__mixup=0.4)
    change(config, train__epochs=3, train__ema_decay=0.8)

    def new(
        name: str, engine_class: type[EagerEngine] = EagerEngine, precision: str = "fp32"
    ) -> ResumableTraining:
        def make() -> EagerEngine:
            return make_engine(Net(), config, replace(device, precision=precision), engine_class)

        return ResumableTraining(tmp_path / name, config, examples, make)

    return new
