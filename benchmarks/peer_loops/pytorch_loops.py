"""Four loops in plain PyTorch, from a tutorial's to the best one."""

import ctypes
import sys

import torch
from task import DATA, EndEpoch, Task, read_images
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from cnnbench import models

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
EVAL_BATCHES = 4  # batches of training in a batch of evaluation


def build_network(task: Task) -> nn.Module:
    """Return the network on the task's device, with Xavier's weights as in the book."""
    net: nn.Module = models.build(task.model, image_size=task.image_size, **task.arguments)
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight)
    return net.to(task.device)


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def read_tensors(task: Task, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, 1, 28, 28) in [0, 1] and labels (N,) in the memory of the device."""
    images, labels = read_images(task, part)
    pixels = torch.tensor(images).unsqueeze(1) / 255
    return pixels.to(task.device), torch.tensor(labels).long().to(task.device)


def resize(images: torch.Tensor, task: Task) -> torch.Tensor:
    """Return images of the task's size; all images of a large size would fill the memory."""
    if images.shape[-1] == task.image_size:
        return images
    return functional.interpolate(images, size=task.image_size, mode="bilinear")


def pytorch(task: Task, end_epoch: EndEpoch) -> int:
    """Train as tutorials do: torchvision's images, converted one by one in two processes."""
    from torchvision import datasets, transforms

    transform = transforms.ToTensor()
    if task.image_size != 28:
        transform = transforms.Compose([transforms.Resize(task.image_size), transform])
    loaders = []
    for is_train, number in ((True, task.num_train), (False, task.num_test)):
        dataset = datasets.FashionMNIST(DATA, train=is_train, transform=transform)
        dataset.data, dataset.targets = dataset.data[:number], dataset.targets[:number]
        loaders.append(DataLoader(dataset, task.batch_size, shuffle=is_train, num_workers=2))
    train_loader, test_loader = loaders
    net, criterion = build_network(task), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=task.lr)
    for _ in range(task.epochs):
        net.train()
        for images, labels in train_loader:
            images, labels = images.to(task.device), labels.to(task.device)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
        net.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in test_loader:
                images, labels = images.to(task.device), labels.to(task.device)
                correct += (net(images).argmax(1) == labels).sum().item()
        end_epoch(correct / task.num_test)
    return count_parameters(net)


def pytorch_memory(task: Task, end_epoch: EndEpoch) -> int:
    """Train with the data in memory, with PyTorch as it comes."""
    images, labels = read_tensors(task, "train")
    test_images, test_labels = read_tensors(task, "t10k")
    net, criterion = build_network(task), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=task.lr)
    for _ in range(task.epochs):
        net.train()
        for batch in torch.randperm(len(images), device=task.device).split(task.batch_size):
            optimizer.zero_grad()
            loss = criterion(net(resize(images[batch], task)), labels[batch])
            loss.backward()
            optimizer.step()
        net.eval()
        correct = 0
        with torch.no_grad():
            for batch in torch.arange(len(test_images)).split(task.batch_size):
                outputs = net(resize(test_images[batch], task))
                correct += (outputs.argmax(1) == test_labels[batch]).sum().item()
        end_epoch(correct / task.num_test)
    return count_parameters(net)


def pytorch_tuned(task: Task, end_epoch: EndEpoch) -> int:
    """Train as fast as a plain loop can in fp32, on a GPU in tf32."""
    return train_tuned(task, end_epoch, uses_bf16=False)


def pytorch_tuned_bf16(task: Task, end_epoch: EndEpoch) -> int:
    """Train as fast as a plain loop can in bf16."""
    return train_tuned(task, end_epoch, uses_bf16=True)


def train_tuned(task: Task, end_epoch: EndEpoch, uses_bf16: bool) -> int:
    """Train with all that helps a plain loop.

    The data are in memory, channels come last, malloc keeps freed memory, SGD is fused, and the
    evaluation has larger batches and waits for the device once.
    """
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    autocast = torch.autocast(task.device, torch.bfloat16, enabled=uses_bf16)
    images, labels = read_tensors(task, "train")
    test_images, test_labels = read_tensors(task, "t10k")
    net = build_network(task).to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=task.lr, fused=True)
    for _ in range(task.epochs):
        net.train()
        for batch in torch.randperm(len(images), device=task.device).split(task.batch_size):
            optimizer.zero_grad()
            with autocast:
                loss = criterion(net(resize(images[batch], task)), labels[batch])
            loss.backward()
            optimizer.step()
        net.eval()
        outputs = []
        with torch.no_grad(), autocast:
            for batch in test_images.split(EVAL_BATCHES * task.batch_size):
                outputs.append(net(resize(batch, task)).argmax(1))
        end_epoch((torch.cat(outputs) == test_labels).float().mean().item())
    return count_parameters(net)


def keep_freed_memory() -> None:
    """Let malloc keep the memory of a step for the next one."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 1024**2)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
