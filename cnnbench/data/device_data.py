"""Images and labels on the device, uint8 as on disk, gathered into batches by index."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cnnbench.config import DataConfig
from cnnbench.data.arrays import Arrays, Images, Labels
from cnnbench.data.splits import Split, make_split

__all__ = ["Examples", "ResidentData", "epoch_order"]

Batch = tuple[torch.Tensor, torch.Tensor]  # images and labels


@dataclass(frozen=True)
class Examples:
    """Images uint8 (N, C, H, W) and labels int64 (N) on one device."""

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def from_arrays(
        cls,
        images: Images,
        labels: Labels,
        indices: npt.NDArray[np.int64],
        device: torch.device,
    ) -> "Examples":
        """Copy the examples at `indices` of images [N, H, W] or [N, C, H, W] to the device."""
        selected = torch.from_numpy(images[indices])
        if selected.ndim == 3:
            selected = selected.unsqueeze(1)
        targets = torch.from_numpy(labels[indices].astype(np.int64))
        return cls(selected.to(device), targets.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: torch.Tensor) -> Batch:
        """Return the images and labels at `indices` (N), which must be on the same device."""
        return self.images[indices], self.labels[indices]

    def batches(self, batch_size: int, order: torch.Tensor) -> Iterator[Batch]:
        """Yield the examples in the given order; the last batch may be smaller."""
        if len(order) == 0:
            return
        for indices in torch.split(order.to(self.labels.device), batch_size):
            yield self.take(indices)

    def batches_in_order(self, batch_size: int) -> Iterator[Batch]:
        """Return an iterator over the examples in their stored order, without copying them."""
        images, labels = (torch.split(part, batch_size) for part in (self.images, self.labels))
        return zip(images, labels, strict=True)


@dataclass(frozen=True)
class ResidentData:
    """The parts of a data set on one device; `validation` may be empty."""

    train: Examples
    validation: Examples
    test: Examples
    split: Split

    @staticmethod
    def from_arrays(
        config: DataConfig, arrays: Arrays, seed: int, device: torch.device
    ) -> "ResidentData":
        """Split a data set by the configuration and the seed, and copy it to the device."""
        train_images, train_labels, test_images, test_labels, num_validation = arrays
        split = make_split(config, train_labels, test_labels, seed, num_validation)
        return ResidentData(
            Examples.from_arrays(train_images, train_labels, split.train, device),
            Examples.from_arrays(train_images, train_labels, split.validation, device),
            Examples.from_arrays(test_images, test_labels, split.test, device),
            split,
        )


def epoch_order(num_examples: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the order of the examples in one epoch, int64 (num_examples).

    Seed and epoch determine it, the same on every device.
    """
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    generator = torch.Generator().manual_seed(state & (2**63 - 1))
    return torch.randperm(num_examples, generator=generator)
