"""Errors in options and words, which all commands report in one form."""

import pytest
from helpers.command import Command

from cnnbench.cli.options import PARSERS

MISTAKES = {
    "evaluate": "Name a run directory: cnnbench evaluate RUN",
    "evaluate --topk 3": "Name a run directory: cnnbench evaluate RUN",
    "resume": "Name a run directory: cnnbench resume RUN",
    "again": "Name a run directory: cnnbench again RUN",
    "inspect device=cpu --images": "--images needs a value: --images I[,I...].",
    "export run --formt x": (
        "There is no option --formt of cnnbench export. Did you mean '--format'?"
    ),
    "export run --format": "--format needs a value: --format FORMAT.",
    "export run --preprocessing=yes": "--preprocessing takes no value.",
    "report --output": "--output needs a value: --output DIR.",
    "reproduce --scal x": (
        "There is no option --scal of cnnbench reproduce. Did you mean '--scale'?"
    ),
    "models lenet": "'lenet' is one word too many: cnnbench models [options]",
    "doctor --jsn": "There is no option --jsn of cnnbench doctor. Did you mean '--json'?",
    "data --rot /tmp": "There is no option --rot of cnnbench data. Did you mean '--root'?",
    "inspect run --mistakes 201": "--mistakes 201 is out of range. It must be from 1 to 200.",
    "summary --dept 3": "There is no option --dept of cnnbench summary. Did you mean '--depth'?",
    "summary --depth": "--depth needs a value: --depth N.",
    "benchmark --epoch-limit soon": "--epoch-limit soon is not a number. It must be at least 0.",
    "resume run --epochs 20": (
        "There is no option --epochs of cnnbench resume. Values are KEY=VALUE: train.epochs=20"
    ),
    "predict run shirt.png --device cpu": (
        "There is no option --device of cnnbench predict. Values are KEY=VALUE: device=cpu"
    ),
    "--plott": "There is no option --plott of cnnbench train. Did you mean '--plot'?",
    "--multrun seed=0": (
        "There is no option --multrun of cnnbench train. Did you mean '--multirun'?"
    ),
    "--cfg": "--cfg needs a value: --cfg job.",
    "--cfg jobs": "--cfg jobs is not known. Did you mean 'job'?",
    "--cfg model=mlp": "--cfg model=mlp is not known. Allowed: all, hydra, job.",
    "model=mlp --multirun=yes": "-m takes no value.",
    "-m seed=0,1 -": "There is no option - of cnnbench train.",
}


@pytest.mark.parametrize(("line", "message"), MISTAKES.items(), ids=MISTAKES)
def test_wrong_options_or_words_are_reported_in_one_block(
    line: str, message: str, within: Command
) -> None:
    done = within(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cnnbench: {message}"), done.stderr
    assert "argument" not in done.stderr


@pytest.mark.parametrize(
    ("line", "topk", "words"),
    [
        ("run --topk 1,3", [1, 3], ["run"]),
        ("--topk 3 run device=cpu", [3], ["run", "device=cpu"]),
        ("run --topk 1 3 device=cpu", [1, 3], ["run", "device=cpu"]),
        ("--topk=2 run -- --odd", [2], ["run", "--odd"]),
        ("run", None, ["run"]),
    ],
)
def test_options_and_words_may_be_mixed(
    line: str, topk: list[int] | None, words: list[str]
) -> None:
    options, read = PARSERS["evaluate"]().read(line.split())
    assert (options.topk, read) == (topk, words)


def test_hydra_gets_its_own_options_and_all_words() -> None:
    line = "model=mlp --info --plot -m ~tracker -c job --jobs-file jobs.txt"
    options, words = PARSERS["train"]().read(line.split())
    assert (options.plot, options.jobs_file) == (True, "jobs.txt")
    assert words == ["model=mlp", "--info=all", "-m", "~tracker", "-c", "job"]
