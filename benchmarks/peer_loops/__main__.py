"""Train by one tool, and print the seconds of each epoch but the first, as JSON.

Usage: python benchmarks/peer_loops TOOL TASK, as benchmarks/peers.py calls it.
"""

import json
import sys
import time
from importlib import import_module
from itertools import pairwise

from task import Task

# module and function of each tool; only that module is imported
LOOPS = {
    "d2l": ("d2l_loop", "train_d2l"),
    "pytorch": ("pytorch_loops", "pytorch"),
    "pytorch_memory": ("pytorch_loops", "pytorch_memory"),
    "pytorch_tuned": ("pytorch_loops", "pytorch_tuned"),
    "pytorch_tuned_bf16": ("pytorch_loops", "pytorch_tuned_bf16"),
    "lightning": ("lightning_loop", "train_lightning"),
    "keras_tensorflow": ("keras_loops", "keras_tensorflow"),
    "keras_tensorflow_xla": ("keras_loops", "keras_tensorflow_xla"),
    "keras_jax": ("keras_loops", "keras_jax"),
}
PACKAGES = ("d2l", "torch", "torchvision", "lightning", "keras", "tensorflow", "jax")


def main() -> None:
    tool, task = sys.argv[1], Task(**json.loads(sys.argv[2]))
    ends: list[float] = []
    accuracies: list[float] = []

    def end_epoch(test_accuracy: float) -> None:
        accuracies.append(test_accuracy)
        ends.append(time.perf_counter())

    module, function = LOOPS[tool]
    parameters = getattr(import_module(module), function)(task, end_epoch)
    result = {
        "epoch_s": [end - begin for begin, end in pairwise(ends)],
        "test_accuracy": accuracies[-1],
        "parameters": parameters,
        "versions": {
            name: sys.modules[name].__version__.partition("+")[0]
            for name in PACKAGES
            if name in sys.modules
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
