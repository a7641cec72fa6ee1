"""The options and words of each command: reading them, their errors, and the help that shows them.

Nothing here imports torch.
"""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from cnnbench.analysis.format import printable
from cnnbench.config import RESUME_OVERRIDES
from cnnbench.errors import ConfigError, did_you_mean
from cnnbench.runs.reading import find_latest

__all__ = ["EXPORT_FORMATS", "PARSERS", "Parser", "format_rows", "locate_run"]

EXPORT_FORMATS = ("onnx", "torch_export", "safetensors")
CFG_PARTS = ("job", "hydra", "all")
INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
LATEST = "latest"
MAX_MISTAKES = 200
MIN_WIDTH, MAX_WIDTH = 40, 100
LABEL = 24  # columns of a name in the help

NEEDS_RUN = "a run directory"
RUN_HELP = "a run directory, or latest: the newest under outputs/"
VALUES_HELP = "values and choices, as for cnnbench train"
DATA_HELP = "other data or another device, such as data=mnist or device=cpu"

Rows = list[tuple[str, str]]


class Parser(argparse.ArgumentParser):
    """The options of one command, and the words beside them.

    argparse reads the options, wherever they are. The other words keep their order. Hydra gets
    them, and its own options, if the command has a parser `hydra`; otherwise their number is
    checked.
    """

    def __init__(self, command: str, summary: str, *examples: str, hydra: "Parser | None" = None) -> None:
        super().__init__(f"cnnbench {command}", add_help=False, allow_abbrev=False, exit_on_error=False)
        self.summary = summary
        self.examples = examples
        self.hydra = hydra
        self.details = ""
        self.words: Rows = []
        self.options: Rows = []
        self.more: dict[str, Rows] = {}  # further sections of the help
        self._needs: dict[str, str] = {}
        self._flags = ["--help"]
        self._metavars: dict[str, str] = {}
        self._lists: list[str] = []

    def word(self, name: str, text: str, needs: str = "") -> None:
        """Declare a word, or several if its name ends in dots. `needs` says what a required one is."""
        self.words.append((name, text))
        if needs:
            self._needs[name] = needs

    def flag(self, *names: str, text: str = "", **how: Any) -> None:
        """Declare an option without a value. Without a text it is not in the help."""
        self.add_argument(*names, action="store_true", **how)
        self._describe(names[0], names, text)

    def option(self, *names: str, metavar: str, text: str = "", is_list: bool = False, **how: Any) -> None:
        """Declare an option with a value, or values if `is_list`. Without a text it is not in the help."""
        self.add_argument(*names, **how)
        self._metavars |= dict.fromkeys(names, metavar)
        self._lists += names if is_list else []
        default = f" (default: {how['default']})" if "default" in how else ""
        self._describe(f"{names[0]} {metavar}", names, text and text + default)

    def _describe(self, label: str, names: Sequence[str], text: str) -> None:
        if text:
            self.options.append((label, text))
            self._flags += [name for name in names if name.startswith("--")]

    def read(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Return the options, and the words in their order.

        Raises:
            ConfigError: an option is not known, or has no value or a wrong one, or there are too
                few or too many words.
        """
        options, words = self._read_options(self._join_lists(arguments))
        left = words
        if self.hydra is not None:
            words = _complete_info(words)
            left = self.hydra._read_options(words)[1]
        end = left.index("--") if "--" in left else len(left)
        for word in left[:end]:
            if word.startswith("-"):
                flag = word.partition("=")[0]
                known = self._flags if self.hydra is None else [*self._flags, *self.hydra._flags]
                raise ConfigError(f"There is no option {flag} of {self.prog}. {did_you_mean(flag, known)}")
        if self.hydra is None:
            words = [*left[:end], *left[end + 1 :]]
            self._check_words(words)
        return options, words

    def _join_lists(self, arguments: Sequence[str]) -> list[str]:
        """Join the numbers after an option with several values, as in --topk 2 3, by commas."""
        joined: list[str] = []
        for word in arguments:
            if joined[-2:-1] and joined[-2] in self._lists and word.isdecimal():
                joined[-1] += f",{word}"
            else:
                joined.append(word)
        return joined

    def _read_options(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        try:
            return self.parse_known_args(arguments)
        except argparse.ArgumentError as error:  # types raise their own
            flag = str(error.argument_name).partition("/")[0]
            metavar = self._metavars.get(flag)
            wrong = "takes no value" if metavar is None else f"needs a value: {flag} {metavar}"
            raise ConfigError(f"{flag} {wrong}.") from error

    def _check_words(self, words: Sequence[str]) -> None:
        for name, _ in self.words[len(words) :]:
            if name in self._needs:
                raise ConfigError(f"Name {self._needs[name]}: {' '.join([self.prog, *self._needs])}")
        takes_more = bool(self.words) and self.words[-1][0].endswith("...")
        if len(words) > len(self.words) and not takes_more:
            raise ConfigError(f"'{words[len(self.words)]}' is one word too many: {self.usage_line()}")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}.")

    def usage_line(self) -> str:
        """Return the form of a command line."""
        words = [name if name in self._needs else f"[{name}]" for name, _ in self.words]
        return " ".join([self.prog, *words, "[options]"])

    def format_help(self) -> str:
        """Return the help, as wide as the terminal, in one form for all commands."""
        options = [*self.options, *(() if self.hydra is None else self.hydra.options)]
        options.append(("-h, --help", "print this help"))
        parts = [f"usage: {self.usage_line()}", _fill(f"{self.summary}. {self.details}")]
        for title, rows in {"arguments": self.words, "options": options, **self.more}.items():
            if rows:
                parts.append(f"{title}:\n{format_rows(rows)}")
        parts.append("\n  ".join(["examples:", *self.examples]))
        return "\n\n".join(parts) + "\n"


def format_rows(rows: Rows) -> str:
    """Return names with their texts beside them, or below long names."""
    lines = []
    for name, text in rows:
        label = f"  {name}".ljust(LABEL)
        if not label.endswith("  "):
            lines.append(label.rstrip())
            label = " " * LABEL
        lines.append(_fill(text, initial_indent=label, subsequent_indent=" " * LABEL))
    return "\n".join(lines)


def _fill(text: str, initial_indent: str = "", subsequent_indent: str = "") -> str:
    width = max(MIN_WIDTH, min(shutil.get_terminal_size().columns, MAX_WIDTH))
    return textwrap.fill(
        text,
        width,
        initial_indent=initial_indent,
        subsequent_indent=subsequent_indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def locate_run(word: str) -> Path:
    """Return the directory that a word names; print which run `latest` is.

    Raises:
        ConfigError: there is no run yet.
    """
    if word != LATEST or Path(word).is_dir():
        return Path(word)
    run = find_latest()
    print(printable(f"cnnbench: latest is {run}"), file=sys.stderr)
    return run


def _number(flag: str, least: int, most: int | None = None, why: str = "", kind: type = int) -> Callable[[str], Any]:
    """Return what reads a number in a range."""
    allowed = f"at least {least}{why}" if most is None else f"from {least} to {most}"

    def read(word: str) -> Any:
        try:
            number = kind(word)
        except ValueError:
            a_number = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{flag} {word} is not {a_number}. It must be {allowed}.") from None
        if not number >= least or (most is not None and number > most):  # NaN is neither
            raise ConfigError(f"{flag} {word} is out of range. It must be {allowed}.")
        return number

    return read


def _choice(flag: str, allowed: Iterable[str]) -> Callable[[str], str]:
    """Return what reads one of the allowed words."""

    def read(word: str) -> str:
        if word not in allowed:
            raise ConfigError(f"{flag} {word} is not known. {did_you_mean(word, allowed)}")
        return word

    return read


def _hydra_options(multirun: str = "") -> Parser:
    """Return the options that Hydra documents; `multirun` is the help of -m."""
    parser = Parser("", "")
    parser.flag("-m", "--multirun", text=multirun)
    cfg = "print the configuration alone; --resolve fills in references"
    parser.option("--cfg", "-c", metavar="job", text=cfg, type=_choice("--cfg", CFG_PARTS))
    info = "print how the configuration is composed"
    parser.option("--info", "-i", metavar="defaults", text=info, type=_choice("--info", INFO_TOPICS))
    parser.option("--config-dir", "-cd", metavar="DIR", text="add groups and choices of your own")
    parser.flag("-sc", "--shell-completion", text='complete words: eval "$(cnnbench -sc install=bash)"')
    parser.flag("--hydra-help", text="print Hydra's help")
    for name in ("--resolve", "--version"):
        parser.flag(name)
    parser.flag("--run", "-r")
    for name, short in (("--config-path", "-cp"), ("--config-name", "-cn"), ("--package", "-p")):
        parser.option(name, short, metavar="NAME")
    parser.option("--experimental-rerun", metavar="FILE")
    return parser


def _complete_info(words: Sequence[str]) -> list[str]:
    """Return the words with a topic for --info, for which Hydra would take the next override."""
    followed = pairwise([*words, ""])
    bare = ("--info", "-i")
    return ["--info=all" if word in bare and after not in INFO_TOPICS else word for word, after in followed]


def _train() -> Parser:
    parser = Parser(
        "train",
        "Train a network (the default command), or with -m a sweep of runs",
        "cnnbench model=alexnet data.resize=96 train.epochs=5",
        "cnnbench -m optimizer.lr=0.1,0.5 seed=0,1,2 sweep=rates",
        hydra=_hydra_options("a sweep: a run for each combination of values"),
    )
    parser.word("KEY=VALUE ...", "values such as train.epochs=5, choices such as model=nin")
    parser.flag("--plot", text="draw accuracy and loss on the terminal at the end")
    parser.option("--jobs-file", metavar="FILE", text="with -m: a run for each line of values in FILE, too")
    parser.flag("--dry-run", text="with -m: list the runs and estimate their time, start none")
    return parser


def _resume() -> Parser:
    parser = Parser(
        "resume",
        "Resume a run from its last checkpoint, or an unfinished sweep",
        "cnnbench resume latest",
        "cnnbench resume latest train.epochs=20",
    )
    parser.details = "The run ends with the numbers of one that was never interrupted."
    parser.word("RUN", "a run or sweep directory, or latest: the newest run under outputs/", NEEDS_RUN)
    parser.word("KEY=VALUE ...", f"changes of {', '.join(RESUME_OVERRIDES)}")
    parser.flag("--plot", text="draw accuracy and loss on the terminal at the end")
    parser.option("--config-dir", metavar="DIR", text="the folder of your own groups, for a sweep that was given one")
    _add_custom_model(parser)
    return parser


def _evaluate() -> Parser:
    parser = Parser(
        "evaluate",
        "Measure a trained network on the test set",
        "cnnbench evaluate latest",
        "cnnbench evaluate latest data=folder data.path=photos --match-by-order",
    )
    parser.details = (
        "The figures are accuracy and its interval, precision, recall and F1 of each class, confusions and "
        "calibration. Writes evaluation.json and confusion.png into RUN; with KEY=VALUE, under names that hold them."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.word("KEY=VALUE ...", DATA_HELP)
    at_least_1 = _number("--topk", 1)
    parser.option(
        "--topk",
        metavar="K[,K...]",
        is_list=True,
        text="also count a class among the K most probable (default: 5)",
        type=lambda word: [at_least_1(part) for part in word.split(",")],
    )
    _add_match_by_order(parser)
    _add_custom_model(parser)
    return parser


def _predict() -> Parser:
    parser = Parser(
        "predict",
        "Classify images with a trained network",
        "cnnbench predict latest shirt.png photos",
        "cnnbench predict latest photos --csv --topk 5",
    )
    parser.details = (
        "Images may have any size and colors. Those that cannot be read are reported and left out; "
        "the exit code is then 3."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.word(
        "IMAGE ...",
        "image files, folders of them with all folders inside, or IDX files; also the device, as in device=cpu",
        "an image, a folder of images or an IDX file",
    )
    parser.flag("--json", text="print one array of objects instead of a table")
    parser.flag("--csv", text="print comma-separated values instead of a table")
    parser.option("--topk", metavar="K", text="classes to print for each image", default=3, type=_number("--topk", 1))
    parser.flag("--invert", text="invert all images first: dark becomes light")
    _add_custom_model(parser)
    return parser


def _inspect() -> Parser:
    parser = Parser(
        "inspect",
        "Picture what a network has learnt and where it is wrong",
        "cnnbench inspect latest",
        "cnnbench inspect latest --images 3,17 --layers features.0,features.3",
    )
    parser.details = (
        "Writes its mistakes, saliency, feature maps, filters, activations, weights and receptive fields into the "
        "folder inspect of RUN, with a page that shows them."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.word("KEY=VALUE ...", DATA_HELP)
    parser.option("--images", metavar="I[,I...]", text="test images to look at, counted from 0 (default: some)")
    parser.option("--layers", metavar="NAME[,NAME...]", text="layers whose feature maps are shown (default: some)")
    mistakes = _number("--mistakes", 1, MAX_MISTAKES)
    parser.option("--mistakes", metavar="N", text="mistakes to show", default=25, type=mistakes)
    _add_match_by_order(parser)
    _add_custom_model(parser)
    return parser


def _export() -> Parser:
    parser = Parser(
        "export",
        "Write a trained network as a file for other programs",
        "cnnbench export latest",
        "cnnbench export latest --format torch_export --preprocessing",
    )
    parser.details = (
        "The file computes in single precision, for batches of any size. Its logits are compared with the network's "
        "before it is kept."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.option(
        "--format",
        metavar="FORMAT",
        text="onnx, torch_export, or safetensors: the weights alone",
        default="onnx",
        type=_choice("--format", EXPORT_FORMATS),
    )
    parser.flag(
        "--preprocessing",
        text="take uint8 images of the data set's size, not normalized ones of the network's",
    )
    parser.option("--output", metavar="FILE", type=Path, text="the file to write (default: export/MODEL.onnx in RUN)")
    _add_custom_model(parser)
    return parser


def _report() -> Parser:
    parser = Parser(
        "report",
        "Compare runs, in a table and on a page",
        "cnnbench report outputs",
        "cnnbench report outputs/sweeps/rates --output rates",
    )
    parser.details = (
        "Runs are sorted by validation accuracy, with mean and standard deviation over seeds and folds. Writes "
        "report.html, report.csv and report.md."
    )
    text = "runs, sweeps, or folders of them; latest is the newest run under outputs/"
    parser.word("DIR ...", text, "a run, a sweep, or a folder of them")
    parser.option(
        "--output", metavar="DIR", type=Path, text="where to write (default: DIR if it is one, otherwise here)"
    )
    return parser


def _summary() -> Parser:
    parser = Parser(
        "summary",
        "List the layers of a network, their cost and its memory",
        "cnnbench summary model=vgg16 data.resize=96 train.batch_size=64 optimizer=adam",
        "cnnbench summary model=lenet --layer features.3",
        hydra=_hydra_options(),
    )
    parser.word("KEY=VALUE ...", VALUES_HELP)
    depth = "put layers together that are more than N parts deep (default: all apart)"
    parser.option("--depth", metavar="N", text=depth, type=_number("--depth", 1))
    layer = (
        "one convolution: its multiplications and additions by the formula, and how channels, kernel, stride and "
        "padding change them"
    )
    parser.option("--layer", metavar="NAME", text=layer)
    _add_json(parser)
    return parser


def _benchmark() -> Parser:
    parser = Parser(
        "benchmark",
        "Measure how fast networks train and infer on this machine",
        "cnnbench benchmark model=alexnet",
        "cnnbench benchmark -m model=lenet,nin device.precision=fp32,bf16",
        hydra=_hydra_options("measure several: one for each combination of values"),
    )
    parser.details = (
        "Each network leaves a benchmark.json, with its share of the chip's peak. A batch that does not fit into "
        "memory is reported, and never made smaller."
    )
    parser.word("KEY=VALUE ...", VALUES_HELP)
    rounds = "time each step in N rounds of at least 0.3 s; the median counts"
    parser.option("--rounds", metavar="N", text=rounds, default=7, type=_number("--rounds", 1))
    limit = "time a whole epoch, with evaluation, if it takes no longer than this"
    number = _number("--epoch-limit", 0, kind=float)
    parser.option("--epoch-limit", metavar="SECONDS", text=limit, default=60, type=number, dest="epoch_limit_s")
    return parser


def _gradcheck() -> Parser:
    parser = Parser(
        "gradcheck",
        "Compare the layers written by hand with PyTorch's",
        "cnnbench gradcheck model=alexnet data.resize=96",
        "cnnbench gradcheck model=lenet model.padding_mode=reflect train.loss=mse",
        hydra=_hydra_options(),
    )
    parser.details = (
        "Prints the largest differences of each layer and of the network in float64: of outputs, of gradients from "
        "those of autograd, and of gradients from numerical derivatives. The exit code is 6 if one is beyond its "
        "tolerance."
    )
    parser.word("KEY=VALUE ...", VALUES_HELP)
    batch = _number("--batch", 2, why=", to be normalized")
    parser.option("--batch", metavar="N", text="examples", default=2, type=batch, dest="batch_size")
    _add_json(parser)
    return parser


def _reproduce() -> Parser:
    parser = Parser(
        "reproduce",
        "Repeat the experiments of the book and the notes, and judge them",
        "cnnbench reproduce claims --scale reduced",
        "cnnbench reproduce book device.compile=on --dry-run",
    )
    parser.details = (
        "Trains the book's nine networks and runs the experiments of the notes' ten claims, each over several seeds, "
        "as one sweep in outputs/sweeps/reproduce-SCALE. Writes results.md. The same command resumes after an "
        "interruption."
    )
    parser.word("PART", "book, claims or all (default: all)")
    parser.word("KEY=VALUE ...", "values for this machine, such as device.compile=on")
    parser.option("--scale", metavar="SCALE", text="full, reduced or smoke", default="full")
    parser.option(
        "--output", metavar="DIR", type=Path, text="where to write results.md (default: docs; at smoke scale the sweep)"
    )
    parser.flag("--dry-run", text="list the runs and estimate their time, start none")
    parser.more["scales"] = [
        (
            "full",
            "what the experiments say, three seeds of most. Estimated, not run yet: 40 minutes on an H100, two days "
            "on two CPU cores. Its checkpoints take about 15 GB.",
        ),
        (
            "reduced",
            "a good hour on two CPU cores, as measured: the large networks with smaller images, fewer examples, "
            "epochs and seeds, as the results say beside each figure",
        ),
        ("smoke", "half a minute on two CPU cores, no network: does everything work?"),
    ]
    return parser


def _models() -> Parser:
    return Parser("models", "List the networks", "cnnbench models", "cnnbench models | grep resnet")


def _data() -> Parser:
    from cnnbench.data.catalog import CATALOG
    from cnnbench.data.public_files import cache_folder

    parser = Parser(
        "data",
        "List the data sets, or fetch and verify those named",
        "cnnbench data",
        "cnnbench data fashion_mnist mnist",
    )
    parser.word("NAME ...", ", ".join(CATALOG))
    parser.option("--root", metavar="DIR", text=f"the cache folder (default: {cache_folder(None)})")
    return parser


def _doctor() -> Parser:
    parser = Parser(
        "doctor",
        "Check what a run finds on this machine, and what is unusual",
        "cnnbench doctor",
        "cnnbench doctor --json",
    )
    parser.details = "The exit code is 2 if a run could not work here."
    _add_json(parser)
    return parser


def _add_json(parser: Parser) -> None:
    parser.flag("--json", text="print it for programs", dest="as_json")


def _add_match_by_order(parser: Parser) -> None:
    parser.flag("--match-by-order", text="match classes of other names by their order")


def _add_custom_model(parser: Parser) -> None:
    parser.flag("--allow-custom-model", text="let it run a network that is not cnnbench's")


PARSERS: dict[str, Callable[[], Parser]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "predict": _predict,
    "inspect": _inspect,
    "export": _export,
    "report": _report,
    "summary": _summary,
    "benchmark": _benchmark,
    "gradcheck": _gradcheck,
    "reproduce": _reproduce,
    "models": _models,
    "data": _data,
    "doctor": _doctor,
}
