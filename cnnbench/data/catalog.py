"""The public data sets, with their classes, sizes and digests. Must not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from unicodedata import normalize

import msgspec
from msgspec import Meta

from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["CATALOG", "FILES", "Dataset", "PublicDataset", "get"]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# Fields of dataset.json, which records the data that a network was trained on.
RECORDED_FIELDS = (
    *("name", "title", "classes", "mean", "std"),
    *("image_size", "train_examples", "test_examples", "sha256", "licence"),
    *("validation_examples", "path", "skipped"),  # left out if 0 or empty
)

_Count = Annotated[int, Meta(ge=1)]
_Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
_Positive = Annotated[float, Meta(gt=0, le=1e300)]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Facts about a data set that training on it needs.

    `mean` and `std` are those of the training pixels in [0, 1], one for each channel. `sha256` has
    the digest of each file. If the data set comes with a validation set, it is the last
    `validation_examples` of the `train_examples`. The names of `classes` are in NFC, because
    systems compose the letters of file names in different ways.

    For a folder dataset, `path` is the folder. `skipped` names files in it that could not be read.
    `split_here` is true if its test set was split off the training images. `notes` are to be
    printed. `split_here` and `notes` are not recorded.
    """

    name: str
    title: str
    classes: Annotated[tuple[str, ...], Meta(min_length=2)]
    mean: Annotated[tuple[_Finite, ...], Meta(min_length=1)]
    std: tuple[_Positive, ...]
    image_size: _Count
    train_examples: _Count
    test_examples: _Count
    sha256: Mapping[str, str]
    licence: str
    validation_examples: Annotated[int, Meta(ge=0)] = 0
    path: str = ""
    skipped: tuple[str, ...] = ()
    split_here: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = tuple(normalize("NFC", name) for name in self.classes)
        object.__setattr__(self, "classes", names)
        if len(self.mean) != len(self.std):
            raise ValueError("`mean` and `std` differ in length")

    @property
    def in_channels(self) -> int:
        return len(self.mean)

    @property
    def is_measured(self) -> bool:
        """Return whether `mean` and `std` are known before the images are read."""
        return set(self.std) != {1.0}

    def as_record(self) -> dict[str, Any]:
        """Return the content of dataset.json, without empty fields."""
        return {name: value for name in RECORDED_FIELDS if (value := getattr(self, name))}

    @staticmethod
    def from_record(values: Mapping[str, Any]) -> "Dataset":
        """Return the data set of a record, which may come from an untrusted run directory.

        Raises:
            ValueError: the values are not ones that `as_record` returns.
        """
        recorded = {name: values[name] for name in RECORDED_FIELDS if name in values}
        try:
            return msgspec.convert(recorded, Dataset)
        except msgspec.ValidationError as error:
            raise ValueError(f"cnnbench writes no such record: {error}") from error


@dataclass(frozen=True, kw_only=True)
class PublicDataset(Dataset):
    """A data set found on this machine, or else downloaded by torchvision's class `source`.

    `sha256` has the digests of the unpacked files or, for names of archives, of the published
    archives. All files are needed. But one of the `archives`, which map names to sizes in bytes, is
    enough. `folders` are the data set's names in a folder of data sets; downloads go to the first.
    `options` are arguments of the torchvision class. `hint` names another way to get the files.
    """

    mean: tuple[float, ...] = (0.0,)  # mean and std are measured when the images are read
    std: tuple[float, ...] = (1.0,)
    image_size: _Count = 28  # the sizes of MNIST and most others
    train_examples: _Count = 60_000
    test_examples: _Count = 10_000
    source: str
    options: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...]
    system_folders: tuple[Path, ...] = ()
    archives: Mapping[str, int] = field(default_factory=dict)
    first_label: int = 0
    hint: str = ""

    def max_bytes(self, file: str) -> int:
        """Return the maximum size of a file in bytes: that of its archive, or of its images.

        One percent is added, because gzip adds headers to blocks that it cannot compress.
        """
        num_examples = max(self.train_examples, self.test_examples)
        size = self.archives.get(file) or num_examples * self.image_size**2
        return size + size // 100 + 4096


_DIGITS = tuple("0123456789")

_FASHION_MNIST = PublicDataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    mean=(0.2860,),
    std=(0.3530,),
    sha256={
        FILES[0]: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        FILES[1]: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        FILES[2]: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        FILES[3]: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    licence="MIT",
    source="FashionMNIST",
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
    hint="on Debian or Ubuntu: apt-get install dataset-fashion-mnist",
)

_SAMPLE = PublicDataset(
    name="sample",
    title="part of Fashion-MNIST",
    classes=_FASHION_MNIST.classes,
    mean=_FASHION_MNIST.mean,
    std=_FASHION_MNIST.std,
    train_examples=5_000,
    test_examples=1_000,
    sha256={
        FILES[0]: "444ed5f7ce17397f236f5eba17dd507d3f6912f04edd3e4f1701cdf82f2cc0c5",
        FILES[1]: "35d691216f65485d010cc635af5574a9dc04aa5060de9be64ab6e5cb5ead38e9",
        FILES[2]: "7cee33c3c6414b1b86c25e665a6c4f41584269de3b7cc9768b1d351922845eef",
        FILES[3]: "3128d790775889812b73c4f13923559c8b9e281d112c6ea7862acf60a206a909",
    },
    licence="MIT",
    source="",
    folders=("sample",),
    system_folders=(Path(__file__).parent / "sample",),
)

_MNIST = PublicDataset(
    name="mnist",
    title="MNIST",
    classes=_DIGITS,
    mean=(0.1307,),
    std=(0.3081,),
    sha256={
        FILES[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        FILES[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        FILES[2]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        FILES[3]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    licence="CC BY-SA 3.0",
    source="MNIST",
    folders=("mnist", "MNIST/raw"),
)

# TensorFlow Datasets' url_checksums publish the digests of KMNIST's and EMNIST's archives.
# torchvision's prototype datasets publish those of QMNIST.

_KMNIST = PublicDataset(
    name="kmnist",
    title="Kuzushiji-MNIST",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    sha256={
        f"{FILES[0]}.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        f"{FILES[1]}.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        f"{FILES[2]}.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        f"{FILES[3]}.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
    licence="CC BY-SA 4.0",
    source="KMNIST",
    folders=("kmnist", "KMNIST/raw"),
)

_QMNIST = PublicDataset(
    name="qmnist",
    title="QMNIST",
    classes=_DIGITS,
    test_examples=60_000,
    sha256={
        "qmnist-train-images-idx3-ubyte.gz": (
            "9e26a7bf1683614e065d7b76460ccd52807165b3f22561fb782bd9f38c52b51d"
        ),
        "qmnist-train-labels-idx2-int.gz": (
            "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f"
        ),
        "qmnist-test-images-idx3-ubyte.gz": (
            "43fc22bf7498b8fc98de98369d72f752d0deabc280a43a7bcc364ab19e57b375"
        ),
        "qmnist-test-labels-idx2-int.gz": (
            "9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06"
        ),
    },
    licence="BSD",
    source="QMNIST",
    folders=("qmnist", "QMNIST/raw"),
)


def _emnist(split: str, classes: str, train_examples: int, first_label: int = 0) -> PublicDataset:
    return PublicDataset(
        name=f"emnist_{split}",
        title=f"EMNIST {split.title()}",
        classes=tuple(classes),
        train_examples=train_examples,
        test_examples=train_examples // 6,
        archives={"gzip.zip": 561_753_746},
        sha256={"gzip.zip": "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"},
        licence=(
            "not stated (to be cited: Cohen et al., "
            "EMNIST: an extension of MNIST to handwritten letters, 2017)"
        ),
        source="EMNIST",
        options={"split": split},
        folders=("emnist", "EMNIST/raw"),
        first_label=first_label,
    )


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _cifar(name: str, **facts: Any) -> PublicDataset:
    return PublicDataset(
        name=name.lower().replace("-", ""),
        title=name,
        image_size=32,
        train_examples=50_000,
        licence=(
            "not stated (to be cited: Krizhevsky, "
            "Learning Multiple Layers of Features from Tiny Images, 2009)"
        ),
        source=name.replace("-", ""),
        folders=(name.lower().replace("-", ""), name.replace("-", "")),
        **facts,
    )


# Mean and std of CIFAR are the values in common use, not computed from the files.
_CIFAR10 = _cifar(
    "CIFAR-10",
    classes=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    archives={"cifar-10-python.tar.gz": 170_498_071, "cifar-10-binary.tar.gz": 170_052_171},
    sha256={
        "cifar-10-python.tar.gz": (
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
        ),
        "cifar-10-binary.tar.gz": (
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        ),
    },
)

_CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar",
    "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile",
    "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster",
    "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster",
    "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)  # fmt: skip

_CIFAR100 = _cifar(
    "CIFAR-100",
    classes=_CIFAR100_CLASSES,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    archives={"cifar-100-python.tar.gz": 169_001_437, "cifar-100-binary.tar.gz": 168_513_733},
    sha256={
        "cifar-100-python.tar.gz": (
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
        ),
        "cifar-100-binary.tar.gz": (
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
        ),
    },
)

_ALL = (
    *(_FASHION_MNIST, _MNIST, _KMNIST, _QMNIST),
    _emnist("balanced", f"{''.join(_DIGITS)}{_LETTERS}abdefghnqrt", 112_800),
    _emnist("letters", _LETTERS, 124_800, first_label=1),
    _emnist("digits", "".join(_DIGITS), 240_000),
    *(_CIFAR10, _CIFAR100, _SAMPLE),
)
CATALOG = {dataset.name: dataset for dataset in _ALL}


def get(name: str) -> PublicDataset:
    """Return the public data set `name`.

    Raises:
        ConfigError: no data set has this name.
    """
    if name not in CATALOG:
        raise ConfigError(f"data.name={name} is not known. {did_you_mean(name, CATALOG)}")
    return CATALOG[name]
