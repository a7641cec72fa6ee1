"""The options and words of each command. This module does not import PyTorch."""

from collections.abc import Callable
from pathlib import Path

from cnnbench.cli import lr_find
from cnnbench.cli.hydra_options import VALUES_HELP, build_hydra_options
from cnnbench.cli.parser import Parser, choice, number, picture
from cnnbench.config import RESUME_OVERRIDES

__all__ = ["EXPORT_FORMATS", "PARSERS"]

EXPORT_FORMATS = ("onnx", "torch_export", "safetensors")

NEEDS_RUN = "a run directory"
RUN_HELP = "a run directory, or latest: the newest under outputs/"
RESUME_HELP = "a run or sweep directory, or latest: the newest run under outputs/"
DATA_HELP = "other data or another device, such as data=mnist or device=cpu"


def _train() -> Parser:
    parser = Parser(
        "train",
        "Train a network (the default command), or with -m a sweep of runs",
        "cnnbench model=alexnet data.resize=96 train.epochs=5",
        "cnnbench -m optimizer.lr=0.1,0.5 seed=0,1,2 sweep=rates",
    )
    parser.hydra = build_hydra_options("a sweep: a run for each combination of values")
    parser.word("KEY=VALUE ...", "values such as train.epochs=5, choices such as model=nin")
    parser.flag("--plot", "draw accuracy and loss on the terminal at the end")
    parser.option("--jobs-file FILE", "with -m: a run for each line of values in FILE, too")
    parser.flag("--dry-run", "with -m: list the runs and estimate their time, start none")
    return parser


def _resume() -> Parser:
    parser = Parser(
        "resume",
        "Resume a run from its last checkpoint, or an unfinished sweep",
        "cnnbench resume latest",
        "cnnbench resume latest train.epochs=20",
    )
    parser.details = "The run ends with the numbers of one that was never interrupted."
    parser.word("RUN", RESUME_HELP, NEEDS_RUN)
    parser.word("KEY=VALUE ...", f"changes of {', '.join(RESUME_OVERRIDES)}")
    parser.flag("--plot", "draw accuracy and loss on the terminal at the end")
    parser.option("--config-dir DIR", "your own groups, for a sweep that uses them")
    _add_custom_model(parser)
    return parser


def _again() -> Parser:
    parser = Parser(
        "again",
        "Train a new run with the configuration of a recorded one",
        "cnnbench again latest seed=1",
        "cnnbench again latest optimizer=adam train.epochs=20",
    )
    parser.details = (
        "A choice replaces all values of its group. All other values stay as recorded, those of a "
        "network's recipe too. RUN is only read."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.word("KEY=VALUE ...", "changes, and hydra.run.dir=DIR for another place")
    parser.flag("--plot", "draw accuracy and loss on the terminal at the end")
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
        "The figures are accuracy and its interval, precision, recall and F1 of each class, "
        "confusions and calibration. Writes evaluation.json and confusion.png into RUN; with "
        "KEY=VALUE, under names that hold them."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.word("KEY=VALUE ...", DATA_HELP)
    at_least_1 = number("--topk", 1)
    parser.option(
        "--topk K[,K...]",
        "also count a class among the K most probable (default: 5)",
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
    images = "image files, folders of them with all inside, or IDX files"
    parser.word("IMAGE ...", images, "an image, a folder of images or an IDX file")
    parser.word("KEY=VALUE ...", "another device, such as device=cpu")
    parser.flag("--json", "print one array of objects instead of a table")
    parser.flag("--csv", "print comma-separated values instead of a table")
    topk = number("--topk", 1)
    parser.option("--topk K", "classes to print for each image", default=3, type=topk)
    parser.flag("--invert", "invert all images first: dark becomes light")
    _add_custom_model(parser)
    return parser


def _inspect() -> Parser:
    parser = Parser(
        "inspect",
        "Draw the mistakes, saliency, feature maps and filters of a network",
        "cnnbench inspect latest",
        "cnnbench inspect latest --images 3,17 --layers features.0,features.3",
    )
    parser.details = (
        "Writes pictures of these, and of activations, weights, gradients and receptive fields, "
        "into the folder inspect of RUN, with a page that shows them."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.word("KEY=VALUE ...", DATA_HELP)
    parser.option("--images I[,I...]", "test images to look at, counted from 0 (default: some)")
    parser.option("--layers NAME[,NAME...]", "layers whose feature maps are shown (default: some)")
    mistakes = number("--mistakes", 1, 200)
    parser.option("--mistakes N", "mistakes to show", default=25, type=mistakes)
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
        "The file computes in single precision, for batches of any size. Its logits are compared "
        "with the network's before it is kept."
    )
    parser.word("RUN", RUN_HELP, NEEDS_RUN)
    parser.option(
        "--format FORMAT",
        "onnx, torch_export, or safetensors: the weights alone",
        default="onnx",
        type=choice("--format", EXPORT_FORMATS),
    )
    parser.flag(
        "--preprocessing",
        "take uint8 images of the data set's size, not normalized ones of the network's",
    )
    parser.option("--output FILE", "where to write (default: export/MODEL.onnx in RUN)", type=Path)
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
        "Runs are sorted by validation accuracy, with mean and standard deviation over seeds and "
        "folds. Writes report.html, report.csv and report.md."
    )
    text = "runs, sweeps, or folders of them; latest is the newest run under outputs/"
    parser.word("DIR ...", text, "a run, a sweep, or a folder of them")
    output = "where to write (default: DIR if it is one, otherwise here)"
    parser.option("--output DIR", output, type=Path)
    return parser


def _summary() -> Parser:
    parser = Parser(
        "summary",
        "List the layers of a network, their cost and its memory",
        "cnnbench summary model=vgg16 data.resize=96 train.batch_size=64 optimizer=adam",
        "cnnbench summary model=lenet --layer features.3 --diagram lenet.svg",
    )
    parser.hydra = build_hydra_options()
    parser.word("KEY=VALUE ...", VALUES_HELP)
    depth = "combine layers whose names have more than N parts (default: none)"
    parser.option("--depth N", depth, type=number("--depth", 1))
    layer = (
        "one convolution: its multiplications and additions by the formula, and how channels, "
        "kernel, stride and padding change them; or the formula of one pooling layer"
    )
    parser.option("--layer NAME", layer)
    diagram = "draw the network into FILE.svg or FILE.png: boxes with shapes, branches and sums"
    parser.option("--diagram FILE", diagram, type=picture("--diagram"))
    _add_json(parser)
    return parser


def _benchmark() -> Parser:
    parser = Parser(
        "benchmark",
        "Measure how fast networks train and infer on this machine",
        "cnnbench benchmark model=alexnet",
        "cnnbench benchmark -m model=lenet,nin device.precision=fp32,bf16",
    )
    parser.hydra = build_hydra_options("measure several: one for each combination of values")
    parser.details = (
        "Each network leaves a benchmark.json, with its share of the chip's peak. A batch that "
        "does not fit into memory is reported, and never made smaller."
    )
    parser.word("KEY=VALUE ...", VALUES_HELP)
    rounds = "time each step in N rounds of at least 0.3 s; the median counts"
    parser.option("--rounds N", rounds, default=7, type=number("--rounds", 1))
    limit = "time a whole epoch, with evaluation, if it takes no longer than this"
    seconds = number("--epoch-limit", 0, kind=float)
    parser.option("--epoch-limit SECONDS", limit, default=60, type=seconds, dest="epoch_limit_s")
    return parser


def _gradcheck() -> Parser:
    parser = Parser(
        "gradcheck",
        "Compare the reference implementation of layers with PyTorch's",
        "cnnbench gradcheck model=alexnet data.resize=96",
        "cnnbench gradcheck model=lenet reference.module=my_layers.py",
    )
    parser.hydra = build_hydra_options()
    parser.details = (
        "Prints the largest differences of each layer and of the network in float64: of outputs, "
        "of gradients from those of autograd, and of gradients from numerical derivatives. The "
        "exit code is 6 if one is beyond its tolerance. reference.module=FILE adds your classes."
    )
    parser.word("KEY=VALUE ...", VALUES_HELP)
    batch = number("--batch", 2, why=", to be normalized")
    parser.option("--batch N", "examples", default=2, type=batch, dest="batch_size")
    limit = number("--time-limit", 1, 86_400, kind=float)
    parser.option("--time-limit S", "seconds for a call", default=60, type=limit, dest="limit_s")
    _add_json(parser)
    return parser


def _reproduce() -> Parser:
    parser = Parser(
        "reproduce",
        "Repeat the experiments of the book and the notes, and judge them",
        "cnnbench reproduce claims --scale pixels",
        "cnnbench reproduce book device.compile=on --dry-run",
    )
    parser.details = (
        "Trains the networks of the book and of the course, and runs the experiments of the "
        "notes' claims, as one sweep in outputs/sweeps/reproduce-SCALE. Adds its runs to "
        "results.csv and makes results.md of it. The same command resumes after an interruption."
    )
    parser.word("PART", "book, claims, course, an experiment of these or all (default: all)")
    parser.word("KEY=VALUE ...", "values for this machine, such as device.compile=on")
    parser.option("--scale SCALE", "full, pixels or smoke", default="full")
    output = "folder of results.csv and results.md (default: docs; at smoke scale the sweep)"
    parser.option("--output DIR", output, type=Path)
    parser.flag("--dry-run", "list the runs and estimate their time, start none")
    parser.more["scales"] = [
        (
            "full",
            "what the experiments say, three seeds of most. Estimated, not run yet: 40 minutes on "
            "an H100, two days on two CPU cores. Its checkpoints take about 15 GB.",
        ),
        (
            "pixels",
            "about six and a half hours on two CPU cores, estimated: smaller images for large "
            "networks, one seed of these; all else as the experiments say. Times are not judged.",
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
        "List or download data sets, or draw training images",
        "cnnbench data fashion_mnist mnist",
        "cnnbench data --show batch.png data=sample augment=mixup",
    )
    parser.word("NAME ...", ", ".join(CATALOG))
    parser.option("--root DIR", f"the cache folder (default: {cache_folder(None)})")
    show = (
        "draw training images as the network sees them, into FILE.png or FILE.svg; takes KEY=VALUE "
        "as cnnbench train does"
    )
    parser.option("--show FILE", show, type=picture("--show"))
    return parser


def _doctor() -> Parser:
    parser = Parser(
        "doctor",
        "Check this machine, and report what is unusual",
        "cnnbench doctor",
        "cnnbench doctor --json",
    )
    parser.details = "The exit code is 2 if a run could not work here."
    _add_json(parser)
    return parser


def _add_json(parser: Parser) -> None:
    parser.flag("--json", "print JSON", dest="as_json")


def _add_match_by_order(parser: Parser) -> None:
    parser.flag("--match-by-order", "match classes of other names by their order")


def _add_custom_model(parser: Parser) -> None:
    parser.flag("--allow-custom-model", "import and run the custom model that RUN names")


PARSERS: dict[str, Callable[[], Parser]] = {
    "train": _train,
    "resume": _resume,
    "again": _again,
    "evaluate": _evaluate,
    "predict": _predict,
    "inspect": _inspect,
    "export": _export,
    "report": _report,
    "summary": _summary,
    "benchmark": _benchmark,
    "lr-find": lr_find.build_parser,
    "gradcheck": _gradcheck,
    "reproduce": _reproduce,
    "models": _models,
    "data": _data,
    "doctor": _doctor,
}
