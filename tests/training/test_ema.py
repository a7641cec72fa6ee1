"""The moving average of the weights, and where it is used."""

import torch
from torch import nn

from cnnbench.training.ema import WeightEma


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def change(model: nn.Module) -> None:
    """New weights, new statistics, one more batch counted."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(torch.randn(4, 1, 5, 5))


def test_it_begins_with_the_initial_weights() -> None:
    model = network()
    average = WeightEma(model, 0.9)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(average.model.parameters(), model.parameters(), strict=True)
    )


def test_each_update_moves_weights_and_statistics_by_their_share() -> None:
    model = network()
    average = WeightEma(model, 0.9)
    expected = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    for _ in range(3):
        change(model)
        average.update()
        for name in expected:
            expected[name] = 0.9 * expected[name] + 0.1 * model.state_dict()[name]
    for name, value in expected.items():
        torch.testing.assert_close(average.model.state_dict()[name], value, msg=name)


def test_counts_are_those_of_the_network() -> None:
    model = network()
    average = WeightEma(model, 0.9)
    for _ in range(2):
        change(model)
        average.update()
    assert average.model[1].num_batches_tracked == 2


def test_the_average_has_no_gradients() -> None:
    average = WeightEma(network(), 0.9)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
