"""Freeze a part of a network: its weights and statistics keep their bits in training."""

from collections.abc import Collection

from torch import nn

from cnnbench.errors import ConfigError
from cnnbench.training.engine import EagerEngine

__all__ = ["freeze"]


class _FrozenBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization that keeps and uses its running statistics in training, too."""

    def train(self, mode: bool = True) -> "_FrozenBatchNorm":
        return super().train(mode=False)


def freeze(engine: EagerEngine, names: Collection[str]) -> None:
    """Exclude the tensors of these names from training, and their parameters from the optimizers.

    Batch normalization whose tensors are all among them uses its running statistics. Call this
    before the first step, and before a checkpoint is restored.

    Raises:
        ConfigError: no parameter is left to train.
    """
    parameters = engine.model.named_parameters(remove_duplicate=False)
    frozen = {parameter for name, parameter in parameters if name in names}
    for parameter in frozen:
        parameter.requires_grad_(False)
    for optimizer in engine.optimizers:
        for group in optimizer.param_groups:
            group["params"] = [weight for weight in group["params"] if weight not in frozen]
        for parameter in frozen:
            optimizer.state.pop(parameter, None)
    engine.optimizers = [
        optimizer
        for optimizer in engine.optimizers
        if any(group["params"] for group in optimizer.param_groups)
    ]
    if not engine.optimizers:
        raise ConfigError("train.freeze=backbone leaves no parameter to train.")
    for name, module in engine.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = module.state_dict(prefix=f"{name}.")
            if own and own.keys() <= set(names):
                kind = type(module)
                module.__class__ = type(kind.__name__, (_FrozenBatchNorm, kind), {})
