"""A loop of Lightning, with its defaults but for what it writes and checks beside training."""

from dataclasses import replace

import lightning
import torch
from pytorch_loops import build_network, count_parameters, read_tensors, resize
from task import EndEpoch, Task
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):
    """The network with its steps and its optimizer."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.net = build_network(task)

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        images, labels = batch
        return functional.cross_entropy(self.net(resize(images, self.task)), labels)

    def validation_step(self, batch: list[torch.Tensor], _index: int) -> None:
        images, labels = batch
        is_correct = self.net(resize(images, self.task)).argmax(1) == labels
        self.log("accuracy", is_correct.float().mean(), batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), lr=self.task.lr)


def train_lightning(task: Task, end_epoch: EndEpoch) -> int:
    """Train by Lightning's Trainer, with a DataLoader over tensors in memory."""

    class EpochEnd(lightning.Callback):
        def on_train_epoch_end(
            self, trainer: lightning.Trainer, _module: lightning.LightningModule
        ) -> None:
            end_epoch(trainer.callback_metrics["accuracy"].item())

    host = replace(task, device="cpu")
    train_set, test_set = (TensorDataset(*read_tensors(host, part)) for part in ("train", "t10k"))
    trainer = lightning.Trainer(
        accelerator="gpu" if task.device == "cuda" else task.device,
        devices=1,
        max_epochs=task.epochs,
        callbacks=[EpochEnd()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    classifier = Classifier(task)
    loaders = (
        DataLoader(train_set, task.batch_size, shuffle=True),
        DataLoader(test_set, task.batch_size),
    )
    trainer.fit(classifier, *loaders)
    return count_parameters(classifier)
