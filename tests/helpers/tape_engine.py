"""An engine that records its step on a tape of operations without a GPU, and a network for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbench.training.cuda_graph import GraphEngine

__all__ = ["Net", "TapeEngine"]

Step = Callable[[], None]


class Tape(TorchDispatchMode):
    """A record of operations with their tensors. `play` repeats them into the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("the step waits for the device")
        outputs = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tensors_in(outputs)))
        return outputs

    def play(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, outputs in self.calls:
                for kept, new in zip(outputs, tensors_in(func(*args, **kwargs)), strict=True):
                    if kept.data_ptr() != new.data_ptr():
                        kept.copy_(new)


def tensors_in(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, (tuple, list)):
        return [tensor for output in outputs for tensor in tensors_in(output)]
    return []


class TapeEngine(GraphEngine):
    """An engine that records on a tape on the CPU, and in a CUDA graph on a GPU."""

    def record(self, step: Step) -> Step:
        if self.device.torch_device.type == "cuda":
            return super().record(step)
        with Tape() as tape:
            step()
        return tape.play


class Net(nn.Sequential):
    """A convolution, batch normalization, dropout and a classifier of four classes."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(
            # a bias before batch normalization has a gradient of rounding errors, enlarged by Adam
            nn.Conv2d(1, 3, 3, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(12, 4),
        )
