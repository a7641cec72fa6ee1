"""The loop of Dive into Deep Learning, in the book's package."""

import torch
from d2l import torch as d2l
from pytorch_loops import build_network, count_parameters
from task import EndEpoch, Task


def train_d2l(task: Task, end_epoch: EndEpoch) -> int:
    """Train by the book's functions, unchanged, except that they plot nothing."""

    class SilentAnimator:
        def __init__(self, **axes: object) -> None: ...

        def add(self, epoch: float, figures: tuple[float | None, ...]) -> None:
            if figures[2] is not None:  # the test accuracy, which ends an epoch
                end_epoch(figures[2])

    d2l.Animator = SilentAnimator
    resize = None if task.image_size == 28 else task.image_size
    loaders = d2l.load_data_fashion_mnist(task.batch_size, resize=resize)
    for loader, number in zip(loaders, (task.num_train, task.num_test), strict=True):
        dataset = loader.dataset
        dataset.data, dataset.targets = dataset.data[:number], dataset.targets[:number]
    net = build_network(task)
    d2l.train_ch6(net, *loaders, task.epochs, task.lr, torch.device(task.device))
    return count_parameters(net)
