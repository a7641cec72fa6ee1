"""Three loops of Keras: LeNet, written in Keras, on TensorFlow and on JAX."""

import os
import sys
from importlib import import_module
from typing import Any

import numpy as np
from task import EndEpoch, Task, read_images


def keras_tensorflow(task: Task, end_epoch: EndEpoch) -> int:
    """Train on TensorFlow; Keras decides on XLA, which it takes for a GPU but not for a CPU."""
    return train_keras(task, end_epoch, "tensorflow", "auto")


def keras_tensorflow_xla(task: Task, end_epoch: EndEpoch) -> int:
    """Train on TensorFlow, compiled by XLA."""
    return train_keras(task, end_epoch, "tensorflow", True)


def keras_jax(task: Task, end_epoch: EndEpoch) -> int:
    """Train on JAX, which always compiles by XLA."""
    return train_keras(task, end_epoch, "jax", "auto")


def train_keras(task: Task, end_epoch: EndEpoch, backend: str, jit_compile: bool | str) -> int:
    """Train the book's LeNet by Model.fit, with arrays in memory."""
    os.environ["KERAS_BACKEND"] = backend
    if task.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import keras
    from keras import layers

    check_device(task, backend)

    class EpochEnd(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            end_epoch(logs["val_accuracy"])

    net = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="sigmoid"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="sigmoid"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="sigmoid"),
            layers.Dense(84, activation="sigmoid"),
            layers.Dense(10),
        ]
    )
    net.compile(
        optimizer=keras.optimizers.SGD(task.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    net.fit(
        *read_arrays(task, "train"),
        batch_size=task.batch_size,
        epochs=task.epochs,
        validation_data=read_arrays(task, "t10k"),
        verbose=0,
        callbacks=[EpochEnd()],
    )
    return net.count_params()


def check_device(task: Task, backend: str) -> None:
    """Exit if the backend finds no GPU though the task is for one: the CPU would be timed."""
    library = import_module(backend)
    if task.device != "cuda":
        return
    if backend == "jax" and library.default_backend() != "gpu":
        sys.exit("JAX finds no GPU: pip install 'jax[cuda12]'")
    if backend == "tensorflow" and not library.config.list_physical_devices("GPU"):
        sys.exit("TensorFlow finds no GPU: pip install 'tensorflow[and-cuda]'")


def read_arrays(task: Task, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28, 1) in [0, 1] and labels (N,)."""
    images, labels = read_images(task, part)
    return images[..., None].astype("float32") / 255, labels
