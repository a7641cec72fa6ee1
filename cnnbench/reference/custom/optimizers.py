"""Optimizers that are computed by the user's classes, as optimizers of PyTorch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cnnbench.config import AdagradConfig, AdamConfig, OptimizerConfig, SgdConfig
from cnnbench.reference.custom.module import CustomCodeError, CustomModule

__all__ = ["CustomOptimizer", "make_custom_optimizer"]


class CustomOptimizer(Optimizer):
    """An optimizer of PyTorch that calls the `update` of the user's class in each step.

    `update(params, grads)` gets two dictionaries of arrays with the same names. It changes the
    arrays of the first, or replaces them. The gradients include `weight_decay`. The learning rate
    is the instance's `lr`, which is set before each step.

    The other attributes of the instance are its state: numbers, None, and dictionaries of arrays in
    the shapes of the parameters. They are saved and restored with a run. In the state of each
    weight a number is a tensor without dimensions, and the name of an array ends with [].
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        custom: CustomModule,
        kind: str,
        settings: tuple[float, ...],
        weight_decay: float = 0.0,
    ) -> None:
        """Make the user's class from `settings`, in the order of its signature: lr first.

        Raises:
            CustomCodeError: its `__init__` fails, or it does not keep `lr`.
        """
        self.custom, self.kind = custom, kind
        self.instance = custom.make(kind, *settings)
        if not hasattr(self.instance, "lr"):
            raise CustomCodeError(f"{kind} must keep self.lr, which schedules change.")
        self.initial = vars(self.instance).keys() - {"lr"}
        super().__init__(params, {"lr": settings[0], "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure
        """Update all weights that have a gradient."""
        params, grads, weights = {}, {}, self._weights()
        for name, (weight, group) in weights.items():
            if weight.grad is None:
                continue
            gradient = weight.grad
            if group["weight_decay"] > 0:
                gradient = gradient + group["weight_decay"] * weight
            params[name], grads[name] = self._to_array(weight), self._to_array(gradient)
            self.instance.lr = float(group["lr"])
        self.custom.call(self.kind, self.instance, "update", params, grads)
        for name, value in params.items():
            weight, _ = weights[name]
            tensor = torch.as_tensor(value)
            if tensor.shape != weight.shape:
                raise CustomCodeError(
                    f"{self.kind}.update gave params['{name}'] the shape {tuple(tensor.shape)}. "
                    f"It must stay {tuple(weight.shape)}."
                )
            weight.copy_(tensor)
        self._attributes()  # raises the error of one that cannot be saved

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the instance by parameter, in the form of torch.optim.

        Each weight has all numbers. A weight without arrays, which had no gradient, has no state
        if others have some.

        Raises:
            CustomCodeError: an attribute of the instance cannot be saved.
        """
        attributes = self._attributes()
        arrays = {key: value for key, value in attributes.items() if isinstance(value, dict)}
        numbers = {key: value for key, value in attributes.items() if _is_number(value)}
        state: dict[int, dict[str, torch.Tensor]] = {}
        for index, name in enumerate(self._weights()):
            if any(value and name not in value for value in arrays.values()):
                continue
            state[index] = {
                key: torch.tensor(float(number), dtype=torch.float64)
                for key, number in numbers.items()
            }
            for key, value in arrays.items():
                if value:
                    state[index][f"{key}[]"] = torch.as_tensor(value[name]).clone()
        return {**super().state_dict(), "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the instance. The settings remain.

        Raises:
            ValueError: it is the state of another optimizer.
        """
        attributes, names = self._attributes(), list(self._weights())
        states = {names[index]: state for index, state in state_dict["state"].items()}
        keys = {key.removesuffix("[]") for state in states.values() for key in state}
        if foreign := keys - attributes.keys():
            raise ValueError(f"another optimizer has the state {', '.join(sorted(foreign))}")
        # A weight without arrays may have the numbers from before the first step.
        trained = [state for state in states.values() if any("[]" in key for key in state)]
        numbers = (trained or list(states.values()))[0]
        for key, initial in attributes.items():
            arrays = {
                name: self._to_array(state[f"{key}[]"].clone())
                for name, state in states.items()
                if f"{key}[]" in state
            }
            if arrays:
                setattr(self.instance, key, arrays)
            elif key in numbers:
                number = numbers[key].item()
                is_whole = isinstance(initial, int) and number.is_integer()
                setattr(self.instance, key, type(initial)(number) if is_whole else number)

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes of the instance that are its state.

        Raises:
            CustomCodeError: one cannot be saved.
        """
        state = {name: value for name, value in vars(self.instance).items() if name in self.initial}
        for name, value in vars(self.instance).items():
            if name not in self.initial and name != "lr":
                raise CustomCodeError(
                    f"{self.kind}.__init__ must set self.{name}, to None at first: "
                    "what update keeps is saved, so that a run can be resumed."
                )
            if not (value is None or isinstance(value, dict) or _is_number(value)):
                raise CustomCodeError(
                    f"{self.kind}: self.{name} is a {type(value).__name__}, which cannot be saved. "
                    "Allowed: numbers, None, and dictionaries of arrays as grads."
                )
        return state

    def _weights(self) -> dict[str, tuple[torch.Tensor, dict[str, Any]]]:
        """Return each weight and its group, by the name that `update` sees."""
        pairs = [(weight, group) for group in self.param_groups for weight in group["params"]]
        return {f"w{index}": pair for index, pair in enumerate(pairs)}

    def _to_array(self, tensor: torch.Tensor) -> Any:
        return tensor if self.custom.uses_torch else tensor.detach().cpu().numpy()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def make_custom_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], custom: CustomModule
) -> CustomOptimizer | None:
    """Return the optimizer of `config` by the user's class, or None if the file has none for it."""
    kind: str
    settings: tuple[float, ...]
    match config:
        case SgdConfig(momentum=0.0):
            kind, settings = "SGD", (config.lr,)
        case SgdConfig():
            kind, settings = "Momentum", (config.lr, config.momentum)
        case AdagradConfig():
            kind, settings = "AdaGrad", (config.lr, config.eps)
        case AdamConfig():
            kind, settings = "Adam", (config.lr, *config.betas, config.eps)
        case _:
            return None
    if kind not in custom.classes:
        return None
    return CustomOptimizer(parameters, custom, kind, settings, config.weight_decay)
