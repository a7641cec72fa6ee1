"""What is known of each data set. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["CATALOG", "FILES", "Dataset", "get"]

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
class Dataset:
    """Facts of one data set.

    `mean` and `std` are of the training pixels in [0, 1], one for each channel. `sha256` gives, for each of `FILES`,
    the digest of its decompressed content. `folders` are the names it goes by inside a folder of data sets.
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

    @property
    def in_channels(self) -> int:
        return len(self.mean)

    def file_size(self, name: str) -> int:
        """Bytes of one of `FILES`, decompressed: the header of its IDX format, a byte per label or value of a pixel."""
        examples = self.train_examples if name.startswith("train") else self.test_examples
        if "labels" in name:
            return 8 + examples
        dimensions = 3 if self.in_channels == 1 else 4
        return 4 + 4 * dimensions + examples * self.in_channels * self.image_size**2

    def as_record(self) -> dict[str, Any]:
        """Plain values of what a network that was trained on it must know, and of which files they were."""
        return {**{fact: getattr(self, fact) for fact in FACTS}, "sha256": dict(self.sha256)}

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
        return cls(**{**facts, "classes": tuple(classes), "mean": tuple(mean), "std": tuple(std), "folders": ()})


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

CATALOG = {dataset.name: dataset for dataset in (_FASHION_MNIST, _MNIST, _SAMPLE)}


def get(name: str) -> Dataset:
    """The facts of the data set `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in CATALOG:
        raise ConfigError(f"data.name={name} is not known. {did_you_mean(name, CATALOG)}")
    return CATALOG[name]
