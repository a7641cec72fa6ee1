"""What the tests of training share: a small configuration, random images, and an engine."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.devices import MakeEngine
from helpers.paths import CONF
from hydra import compose, initialize_config_dir
from torch import nn

from cnnbench import config as configuration
from cnnbench.config import Config
from cnnbench.data.augment import Augment
from cnnbench.data.device_data import Examples
from cnnbench.data.preprocess import Preprocess
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine
from cnnbench.training.optimizers import make_optimizers

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
def _process_as_it_was() -> Iterator[None]:
    """One thread, as small tensors are quickest; what a test sets for the whole process is undone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matmul, conv = (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
    )
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.deterministic = (
        "ieee",
        True,
    )  # as exact as the CPU
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = (
        matmul,
        conv,
    )
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic


@pytest.fixture(scope="session")
def small_values() -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return configuration.as_dict(
            configuration.load(configuration.to_plain(compose("train", overrides=SMALL)))
        )


@pytest.fixture
def config(small_values: dict[str, Any]) -> Config:
    """A small configuration; a test changes what it is about."""
    return configuration.load(small_values)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Device:
    """The CPU, or the device that a test is parametrised with, in fp32."""
    return Device(torch.device(getattr(request, "param", "cpu")), "fp32", channels_last=False)


@pytest.fixture
def examples(device: Device) -> Examples:
    """21 random images of 4 x 4 pixels in four classes; batches of 8 leave a last one of 5."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (21, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return Examples(images.to(device.torch_device), (torch.arange(21) % 4).to(device.torch_device))


@pytest.fixture
def make_engine() -> MakeEngine:
    """Makes an engine that trains a network as the configuration says, on pixels in [0, 1]."""

    def make(
        model: nn.Module, config: Config, device: Device, kind: type[EagerEngine] = EagerEngine
    ) -> EagerEngine:
        model = model.to(device.torch_device)
        return kind(
            model,
            make_optimizers(
                config.optimizer, model, device.torch_device, config.reference.optimizer
            ),
            Preprocess(config.data.resize, [0.0], [1.0]),
            Augment(config.augment, 4, 0.0),
            device,
            config,
        )

    return make
