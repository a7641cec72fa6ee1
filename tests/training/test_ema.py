"""The exponential moving average of weights and batch statistics."""

import torch
from torch import nn

from cnnbench.training.ema import WeightEma


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def train_step(model: nn.Module) -> None:
    """Change the weights and the statistics, and count one more batch."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(torch.randn(4, 1, 5, 5))


def test_average_starts_with_the_initial_weights() -> None:
    model = make_network()
    average = WeightEma(model, 0.9)
    torch.testing.assert_close(average.model.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_update_averages_weights_and_statistics() -> None:
    model = make_network()
    average = WeightEma(model, 0.9)
    expected = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    for _ in range(3):
        train_step(model)
        average.update()
        for name in expected:
            expected[name] = 0.9 * expected[name] + 0.1 * model.state_dict()[name]
    for name, value in expected.items():
        torch.testing.assert_close(average.model.state_dict()[name], value, msg=name)


def test_integer_buffers_are_copied() -> None:
    model = make_network()
    average = WeightEma(model, 0.9)
    for _ in range(2):
        train_step(model)
        average.update()
    assert average.model[1].num_batches_tracked == 2


def test_average_requires_no_gradients() -> None:
    average = WeightEma(make_network(), 0.9)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
