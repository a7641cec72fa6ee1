"""A step in micro-batches equals that of the whole batch, with train.accumulate."""

import copy

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import EACH_DEVICE, MakeEngine
from helpers.tape_engine import TapeEngine
from torch import nn

from cnnbench.config import Config
from cnnbench.data.device_data import Examples
from cnnbench.training.device import Device
from cnnbench.training.engine import EagerEngine

ORDER = torch.arange(21)  # two batches of 8 examples and one of 5


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))


def train_in_parts(
    parts: int,
    network: nn.Module,
    config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
    engine_class: type[EagerEngine] = EagerEngine,
) -> EagerEngine:
    """Return an engine that has trained one epoch, each step in so many micro-batches."""
    change(config, train__accumulate=parts)
    torch.manual_seed(2)
    engine = make_engine(copy.deepcopy(network), config, device, engine_class)
    engine.prepare(examples, 8)
    assert list(engine.steps(examples, ORDER, 8, [1.0] * 3)) == [8, 8, 5]
    return engine


VARIANTS = {
    "plain": {},
    "clipped": {"train__grad_clip_norm": 0.01},
    "penalized": {"train__l1": 0.01},
    "averaged": {"train__ema_decay": 0.5},
    "skipping": {"train__on_nonfinite_loss": "skip"},
    "mixed": {"augment__mixup": 0.4, "augment__hflip": True},
    "mse": {"train__loss": "mse"},
}


@EACH_DEVICE
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_micro_batches_train_as_the_whole_batch(
    parts: int,
    variant: str,
    network: nn.Module,
    config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    change(config, **VARIANTS[variant])
    whole, split = (
        train_in_parts(number, network, config, device, examples, make_engine)
        for number in (1, parts)
    )
    torch.testing.assert_close(
        split.eval_model.state_dict(), whole.eval_model.state_dict(), rtol=1e-4, atol=1e-6
    )
    measured, expected = split.train_metrics.compute(), whole.train_metrics.compute()
    assert measured.loss == pytest.approx(expected.loss, rel=1e-5)
    assert measured.accuracy == expected.accuracy


@pytest.mark.parametrize(("parts", "expected"), [(1, [8, 8, 5]), (3, [3, 3, 2] * 2 + [2, 2, 1])])
def test_network_sees_micro_batches_of_equal_size(
    parts: int,
    expected: list[int],
    network: nn.Module,
    config: Config,
    device: Device,
    examples: Examples,
    make_engine: MakeEngine,
) -> None:
    sizes: list[int] = []
    change(config, train__accumulate=parts)
    engine = make_engine(network, config, device)
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    list(engine.steps(examples, ORDER, 8, [1.0] * 3))
    assert sizes == expected


def test_a_micro_batch_with_a_nonfinite_loss_skips_the_whole_step(
    network: nn.Module, config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    change(config, train__accumulate=2, train__on_nonfinite_loss="skip")
    network = nn.Sequential(nn.BatchNorm2d(1), *network)
    engine = make_engine(network, config, device)
    before, finite_loss, losses = copy.deepcopy(network.state_dict()), engine.loss, iter([1, 0])

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return finite_loss(logits, targets) * (1.0 if next(losses) else torch.nan)

    engine.loss = loss
    engine.model.train()
    engine.train_step(examples.images, examples.labels)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert engine.train_metrics.compute().num_nonfinite == 21


@EACH_DEVICE
def test_micro_batches_are_replayed_in_a_cuda_graph(
    network: nn.Module, config: Config, device: Device, examples: Examples, make_engine: MakeEngine
) -> None:
    eager, captured = (
        train_in_parts(4, network, config, device, examples, make_engine, engine_class)
        for engine_class in (EagerEngine, TapeEngine)
    )
    assert captured.name == "graph"
    torch.testing.assert_close(
        captured.model.state_dict(), eager.model.state_dict(), rtol=1e-5, atol=1e-6
    )
