"""The exponential moving average of a network's weights."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightEma"]


class WeightEma:
    """A copy of a network with averaged weights and statistics.

    Each update computes average = decay x average + (1 - decay) x value. The average begins with
    the initial weights (Polyak and Juditsky 1992; as an exponential average Izmailov et al. 2018).
    torch.optim.swa_utils.AveragedModel computes the same, but waits for the device in each update
    to find out whether it is the first.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        values = model.state_dict().values()
        pairs = list(zip(self.model.state_dict().values(), values, strict=True))
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._values = [value for _, value in pairs if value.is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights of the network."""
        self._average(self._averages, self._values, None)
        for count, value in self._counts:
            count.copy_(value)
