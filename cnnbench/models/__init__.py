"""The networks, built by name.

A new network needs a file in this folder, a line in `REGISTRY` and a YAML in conf/model.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnbench.errors import ConfigError, did_you_mean
from cnnbench.models.alexnet import AlexNet
from cnnbench.models.arguments import check_arguments
from cnnbench.models.bn_lenet import BNLeNet
from cnnbench.models.d2l_densenet import D2LDenseNet
from cnnbench.models.d2l_resnet import D2LResNet18
from cnnbench.models.d2l_resnext import D2LRegNetX, D2LResNeXt
from cnnbench.models.densenet import CifarDenseNet, DenseNet
from cnnbench.models.googlenet import GoogLeNet
from cnnbench.models.inception_net import InceptionNet
from cnnbench.models.lenet import LeNet, LeNetReLU
from cnnbench.models.mlp import MLP
from cnnbench.models.nin import NiN
from cnnbench.models.preact_resnet import PreActResNet
from cnnbench.models.residual_net import ResidualNet
from cnnbench.models.resnet import CifarResNet, ResNet
from cnnbench.models.resnet9 import ResNet9
from cnnbench.models.simple_cnn import SimpleCNN, ThreeConv
from cnnbench.models.strided_cnn import StridedCNN
from cnnbench.models.vgg import VGG
from cnnbench.models.wide_resnet import WideResNet

__all__ = ["DEBUG_HINT", "REGISTRY", "ModelSpec", "build", "names"]


@dataclass(frozen=True)
class ModelSpec:
    """A network of the registry.

    `build` takes (in_channels, num_classes, image_size, ...) and returns a module that maps images
    to logits. `source` names the paper or the book.
    """

    build: Callable[..., nn.Module]
    min_image_size: int
    source: str


VGG_SOURCE = "Dive into Deep Learning, 8.2; Simonyan, Zisserman 2015, table 1"
RESNET_SOURCE = "He et al. 2015"
PREACT_SOURCE = "He et al. 2016"
WIDE_SOURCE = "Zagoruyko, Komodakis 2016"
DENSENET_SOURCE = "Huang et al. 2017"

DEBUG_HINT = "CNNBENCH_DEBUG=1 shows where."

DenseNetBC = partial(CifarDenseNet, bottleneck=True, compression=0.5)

REGISTRY = {
    "lenet": ModelSpec(LeNet, 12, "LeCun et al. 1998; Dive into Deep Learning, 7.6"),
    "lenet_relu": ModelSpec(LeNetReLU, 16, "course notes"),
    "bn_lenet": ModelSpec(BNLeNet, 16, "Ioffe, Szegedy 2015; Dive into Deep Learning, 8.5"),
    "alexnet": ModelSpec(
        AlexNet, 67, "Krizhevsky et al. 2012; Dive into Deep Learning, 1st ed., 7.1"
    ),
    "vgg11": ModelSpec(partial(VGG, depth=11), 32, f"{VGG_SOURCE} A"),
    "vgg13": ModelSpec(partial(VGG, depth=13), 32, f"{VGG_SOURCE} B"),
    "vgg16": ModelSpec(partial(VGG, depth=16), 32, f"{VGG_SOURCE} D"),
    "vgg19": ModelSpec(partial(VGG, depth=19), 32, f"{VGG_SOURCE} E"),
    "nin": ModelSpec(NiN, 67, "Lin et al. 2014; Dive into Deep Learning, 8.3"),
    "googlenet": ModelSpec(GoogLeNet, 1, "Szegedy et al. 2015; Dive into Deep Learning, 8.4"),
    "d2l_resnet18": ModelSpec(D2LResNet18, 1, "Dive into Deep Learning, 8.6"),
    "d2l_resnext": ModelSpec(D2LResNeXt, 1, "Xie et al. 2017; Dive into Deep Learning, 8.6.5"),
    "d2l_densenet": ModelSpec(D2LDenseNet, 29, "Dive into Deep Learning, 8.7"),
    "d2l_regnetx": ModelSpec(
        D2LRegNetX, 1, "Radosavovic et al. 2020; Dive into Deep Learning, 8.8"
    ),
    "mlp": ModelSpec(MLP, 1, "course notes"),
    "simple_cnn": ModelSpec(SimpleCNN, 16, "course notes"),
    "three_conv": ModelSpec(ThreeConv, 20, "course notes"),
    "inception_net": ModelSpec(InceptionNet, 16, "course notes"),
    "residual_net": ModelSpec(ResidualNet, 16, "course notes"),
    "resnet18": ModelSpec(partial(ResNet, depth=18), 1, f"{RESNET_SOURCE}, table 1"),
    "resnet34": ModelSpec(partial(ResNet, depth=34), 1, f"{RESNET_SOURCE}, table 1"),
    "resnet50": ModelSpec(partial(ResNet, depth=50), 1, f"{RESNET_SOURCE}, table 1"),
    "resnet101": ModelSpec(partial(ResNet, depth=101), 1, f"{RESNET_SOURCE}, table 1"),
    "resnet152": ModelSpec(partial(ResNet, depth=152), 1, f"{RESNET_SOURCE}, table 1"),
    "resnet20": ModelSpec(partial(CifarResNet, depth=20), 1, f"{RESNET_SOURCE}, 4.2"),
    "resnet56": ModelSpec(partial(CifarResNet, depth=56), 1, f"{RESNET_SOURCE}, 4.2"),
    "resnet110": ModelSpec(partial(CifarResNet, depth=110), 1, f"{RESNET_SOURCE}, 4.2"),
    "preact_resnet110": ModelSpec(
        partial(PreActResNet, depth=110, bottleneck=False), 1, PREACT_SOURCE
    ),
    "preact_resnet164": ModelSpec(partial(PreActResNet, depth=164), 1, PREACT_SOURCE),
    "preact_resnet1001": ModelSpec(partial(PreActResNet, depth=1001), 1, PREACT_SOURCE),
    "wide_resnet16_8": ModelSpec(
        partial(WideResNet, depth=16, width=8), 1, f"{WIDE_SOURCE}, table 5"
    ),
    "wide_resnet28_10": ModelSpec(
        partial(WideResNet, depth=28, width=10), 1, f"{WIDE_SOURCE}, table 5"
    ),
    "wide_resnet40_4": ModelSpec(
        partial(WideResNet, depth=40, width=4), 1, f"{WIDE_SOURCE}, table 5"
    ),
    "resnet9": ModelSpec(ResNet9, 8, "Page 2018, part 4"),
    "strided_cnn": ModelSpec(StridedCNN, 1, "Springenberg et al. 2015"),
    "densenet40": ModelSpec(partial(CifarDenseNet, depth=40), 4, f"{DENSENET_SOURCE}, table 2"),
    "densenet100": ModelSpec(partial(CifarDenseNet, depth=100), 4, f"{DENSENET_SOURCE}, table 2"),
    "densenet_bc100": ModelSpec(partial(DenseNetBC, depth=100), 4, f"{DENSENET_SOURCE}, table 2"),
    "densenet_bc250": ModelSpec(
        partial(DenseNetBC, depth=250, growth_rate=24), 4, f"{DENSENET_SOURCE}, table 2"
    ),
    "densenet_bc190": ModelSpec(
        partial(DenseNetBC, depth=190, growth_rate=40), 4, f"{DENSENET_SOURCE}, table 2"
    ),
    "densenet121": ModelSpec(partial(DenseNet, depth=121), 29, f"{DENSENET_SOURCE}, table 1"),
    "densenet169": ModelSpec(partial(DenseNet, depth=169), 29, f"{DENSENET_SOURCE}, table 1"),
    "densenet201": ModelSpec(partial(DenseNet, depth=201), 29, f"{DENSENET_SOURCE}, table 1"),
    "densenet264": ModelSpec(partial(DenseNet, depth=264), 29, f"{DENSENET_SOURCE}, table 1"),
}


def names() -> list[str]:
    """Return the names in the registry, sorted."""
    return sorted(REGISTRY)


def build(
    name: str, in_channels: int = 1, num_classes: int = 10, image_size: int = 28, **arguments: Any
) -> nn.Module:
    """Build a network from images (N, in_channels, image_size, image_size) to logits.

    The logits are (N, num_classes). `name` is in the registry, or is ``my_module:MyNet`` for a
    custom model.

    Raises:
        ConfigError: the name or an argument is unknown, an argument is out of range, the images are
            too small, the network is too large, or a custom model fails.
    """
    spec = _import_custom(name) if ":" in name else REGISTRY.get(name)
    if spec is None:
        raise ConfigError(f"model.name={name} is not known. {did_you_mean(name, REGISTRY)}")
    if image_size < spec.min_image_size:
        raise ConfigError(
            f"{name} cannot take images of {image_size} pixels. "
            f"The smallest size is data.resize={spec.min_image_size}."
        )
    try:
        check_arguments(name, spec.build, arguments)
        network = spec.build(
            in_channels=in_channels, num_classes=num_classes, image_size=image_size, **arguments
        )
        if isinstance(network, nn.Module) and any(map(is_lazy, network.parameters())):
            with torch.no_grad():  # lazy layers take their sizes from the first batch
                network.eval()(torch.zeros(1, in_channels, image_size, image_size))
            network.train()
        return network
    except ConfigError:
        raise
    except Exception as error:
        if ":" in name:  # errors in a custom model are the user's
            advice = f"It is called with in_channels, num_classes and image_size. {DEBUG_HINT}"
            raise ConfigError(f"model {name}: {error}. {advice}") from error
        # PyTorch raises RuntimeError or TypeError for sizes that are too large.
        if isinstance(error, (ValueError, RuntimeError, TypeError)):
            first_line = str(error).partition("\n")[0]
            raise ConfigError(f"model {name}: {first_line}") from error
        raise


def _import_custom(name: str) -> ModelSpec:
    """Return the spec of a custom model, named ``my_module:MyNet``."""
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # only `python -m cnnbench` puts the working folder on the path
        sys.path.append(here)
    try:
        factory = getattr(importlib.import_module(module_name), class_name)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"model.name={name}: {type(error).__name__}: {error}. "
            "It must name an importable module and a class in it, "
            f"as in my_module:MyNet. {DEBUG_HINT}"
        ) from error
    return ModelSpec(factory, 1, module_name)
