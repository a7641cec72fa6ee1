"""What is known of each data set. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["CATALOG", "FILES", "Dataset", "Form", "get"]

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


# of a data set, that a network which was trained on it must know
FACTS = (
    *("name", "title", "classes", "mean", "std"),
    *("image_size", "train_examples", "test_examples", "sha256", "licence"),
)


@dataclass(frozen=True)
class Form:
    """A file as it may lie in a folder: its name, and the bytes and digest of its content, unpacked if `gzipped`."""

    name: str
    size: int
    sha256: str
    gzipped: bool


@dataclass(frozen=True)
class Dataset:
    """Facts of one data set.

    `mean` and `std` are of the training pixels in [0, 1], one for each channel. The files are the four of `FILES`, or
    one of `archives`, whose sizes in bytes it gives, the one to be fetched last. `sha256` has the digest of each, of
    `FILES` that of the decompressed content. `folders` are the names it goes by inside a folder of data sets.
    Of `train_examples` the last `validation_examples` are the validation set, if it was given.
    Of a folder of one's own, `path` says where it is; `split_here`, that the test part was not apart there; `notes`,
    what people ought to know. The last two are not recorded. The names of `classes` are in
    NFC, as some systems compose the accented letters of a file's name and others take them apart.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_examples: int
    test_examples: int
    sha256: Mapping[str, str]
    licence: str
    folders: tuple[str, ...]
    places: tuple[Path, ...] = ()
    mirrors: tuple[str, ...] = ()
    hint: str = ""
    image_size: int = 28
    archives: Mapping[str, int] = field(default_factory=dict)
    path: str = ""
    validation_examples: int = 0
    split_here: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = tuple(normalize("NFC", name) for name in self.classes)
        object.__setattr__(self, "classes", names)

    @property
    def in_channels(self) -> int:
        return len(self.mean)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what must be had."""
        return tuple(self.archives)[-1:] or FILES

    def forms(self, file: str) -> list[Form]:
        """The forms in which one of `files` may lie in a folder; the last is what mirrors have."""
        if self.archives:
            return [Form(name, size, self.sha256[name], False) for name, size in self.archives.items()]
        content = self._idx_size(file), self.sha256[file]
        return [Form(file, *content, False), Form(f"{file}.gz", *content, True)]

    def _idx_size(self, file: str) -> int:
        """Bytes of one of `FILES`: the header of its IDX format, then a byte for each label or pixel."""
        examples = self.train_examples if file.startswith("train") else self.test_examples
        return 8 + examples if "labels" in file else 16 + examples * self.image_size**2

    def as_record(self) -> dict[str, Any]:
        """Plain values of what a network that was trained on it must know, and of which files they were."""
        record = {fact: getattr(self, fact) for fact in FACTS} | {"sha256": dict(self.sha256)}
        given = {"validation_examples": self.validation_examples, "path": self.path}
        return record | {key: value for key, value in given.items() if value}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> "Dataset":
        """What `as_record` gave, from a file that may be anyone's. It is nowhere to be found by this alone.

        Raises:
            ValueError: they are not such values.
        """
        facts: dict[str, Any] = {fact: values.get(fact) for fact in FACTS}
        classes, mean, std = (facts[fact] for fact in ("classes", "mean", "std"))
        sound = {
            **{fact: isinstance(facts[fact], str) for fact in ("name", "title", "licence")},
            **{fact: _is_count(facts[fact]) for fact in ("image_size", "train_examples", "test_examples")},
            "classes": isinstance(classes, list)
            and all(isinstance(each, str) for each in classes)
            and len(classes) > 1,
            "mean": _are_finite(mean),
            "std": _are_finite(std) and min(std) > 0 and len(std) == len(mean or ()),
            "sha256": isinstance(facts["sha256"], dict),
        }
        wrong = [fact for fact, is_sound in sound.items() if not is_sound]
        if wrong:
            raise ValueError(f"cnnbench writes no such {' and '.join(wrong)}")
        path = values.get("path", "")
        plain = {"classes": tuple(classes), "mean": tuple(mean), "std": tuple(std), "folders": ()}
        given = values.get("validation_examples")
        facts |= {"validation_examples": given if _is_count(given) else 0}
        return cls(**{**facts, **plain, "path": path if isinstance(path, str) else ""})


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_finite(values: Any) -> bool:
    """Whether it is a list of one or more numbers."""
    numbers = isinstance(values, list) and bool(values) and all(type(each) in (int, float) for each in values)
    return numbers and all(abs(each) < 1e300 for each in values)


_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def _digests(*digests: str) -> Mapping[str, str]:
    return dict(zip(FILES, digests, strict=True))


_FASHION_MNIST = Dataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=_CLOTHES,
    mean=(0.2860,),
    std=(0.3530,),
    train_examples=60_000,
    test_examples=10_000,
    sha256=_digests(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    licence="MIT",
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    places=(Path("/usr/share/datasets/fashion-mnist"),),
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    hint="on Debian or Ubuntu: apt-get install dataset-fashion-mnist",
)

_MNIST = Dataset(
    name="mnist",
    title="MNIST",
    classes=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
    train_examples=60_000,
    test_examples=10_000,
    sha256=_digests(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    licence="CC BY-SA 3.0",
    folders=("mnist", "MNIST/raw"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)

_SAMPLE = Dataset(
    name="sample",
    title="part of Fashion-MNIST",
    classes=_CLOTHES,
    mean=(0.2860,),
    std=(0.3530,),
    train_examples=5_000,
    test_examples=1_000,
    sha256=_digests(
        "444ed5f7ce17397f236f5eba17dd507d3f6912f04edd3e4f1701cdf82f2cc0c5",
        "35d691216f65485d010cc635af5574a9dc04aa5060de9be64ab6e5cb5ead38e9",
        "7cee33c3c6414b1b86c25e665a6c4f41584269de3b7cc9768b1d351922845eef",
        "3128d790775889812b73c4f13923559c8b9e281d112c6ea7862acf60a206a909",
    ),
    licence="MIT",
    folders=("sample",),
    places=(Path(__file__).parent / "sample",),
)

_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_LICENCE = "not stated (to be cited: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009)"

# Mean and deviation of both are those that are in common use; they were not computed anew from the files.
_CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    image_size=32,
    train_examples=50_000,
    test_examples=10_000,
    archives={"cifar-10-python.tar.gz": 170_498_071, "cifar-10-binary.tar.gz": 170_052_171},
    sha256={
        "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    },
    licence=_CIFAR_LICENCE,
    folders=("cifar10", "CIFAR10"),
    mirrors=(_CIFAR,),
)

_CIFAR100 = Dataset(
    name="cifar100",
    title="CIFAR-100",
    classes=(
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
        "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
        "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
        "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
        "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
        "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
        "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
        "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
        "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
        "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    ),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    image_size=32,
    train_examples=50_000,
    test_examples=10_000,
    archives={"cifar-100-python.tar.gz": 169_001_437, "cifar-100-binary.tar.gz": 168_513_733},
    sha256={
        "cifar-100-python.tar.gz": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        "cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    },
    licence=_CIFAR_LICENCE,
    folders=("cifar100", "CIFAR100"),
    mirrors=(_CIFAR,),
)  # fmt: skip

CATALOG = {dataset.name: dataset for dataset in (_FASHION_MNIST, _MNIST, _CIFAR10, _CIFAR100, _SAMPLE)}


def get(name: str) -> Dataset:
    """The facts of the data set `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in CATALOG:
        raise ConfigError(f"data.name={name} is not known. {did_you_mean(name, CATALOG)}")
    return CATALOG[name]
