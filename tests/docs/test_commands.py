"""Every command that README and docs show, run: where it trains or measures, on little data and for one epoch.

What takes longer than two seconds even so is slow, and has a quick form: its configuration or its jobs.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.doc_commands import PAGES, ROOT, DocCommand, find_commands
from helpers.image_folders import fill
from helpers.in_process import run_in_process
from helpers.sample_images import load_sample_images
from PIL import Image

SHOWN = list(
    {(each.text, each.output): each for each in reversed(list(find_commands()))}.values()
)  # README wins
OF_CNNBENCH = [each for each in SHOWN if each.words[0] in ("cnnbench", "torchrun")]
OTHERS = [each for each in SHOWN if each not in OF_CNNBENCH]

LITTLE_DATA = (
    "data=sample",
    "data.train_examples=40",
    "data.test_examples=20",
    "data.validation=10",
)
LITTLE = {
    "train": (
        *LITTLE_DATA,
        "train.epochs=1",
        "train.batch_size=20",
        "device=cpu",
        "device.threads=1",
    ),
    "benchmark": (
        "data=sample",
        "train.batch_size=2",
        "device=cpu",
        "--rounds",
        "1",
        "--epoch-limit",
        "0",
    ),
}
# of these the configuration is composed, or their jobs are listed, and that is all
COMPOSED = {
    "device.compile=on": "compiling takes half a minute; tests/training/test_compile.py does it",
    "hydra/launcher=slurm": "needs a cluster; tests/sweeps/test_slurm_cluster.py starts one",
    "hydra/launcher=joblib": "16 jobs; tests/sweeps/test_sweep_runs.py runs some",
    "tracker=mlflow": "MLflow takes seconds to start; tests/trackers/test_mlflow.py does",
    "tracker=wandb": "needs an account; tests/trackers/test_wandb.py runs it offline",
    "tracker=[tensorboard,mlflow]": "likewise",
}
NOT_RUN = {
    "tracker.mlflow.uri=http://HOST:5000": "there is no such server; tests/trackers/test_mlflow.py starts one",
    "outputs/sweeps/seeds": "goes on with the jobs of a cluster; tests/sweeps/test_slurm_cluster.py does",
    "model=tiny": "once the network is added: see the test below",
    "install=fish": "prints a script for fish to read; tests/cli/test_completion.py asks what the script asks",
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands speak of."""
    folder = tmp_path_factory.mktemp("documented")
    for arguments in (["hydra.run.dir=RUN"], ["-m", "optimizer.lr=0.1", "sweep=rates"]):
        done = run_in_process("model=lenet", *LITTLE["train"], *arguments, folder=folder)
        assert done.returncode == 0, done.stderr
    for copy in ("DIR", "outputs/resnet18-fashion_mnist-224px/2026-11-24_10-00-00"):
        shutil.copytree(folder / "RUN", folder / copy)
    for copy in ("NAME", "seeds", "baseline"):
        shutil.copytree(folder / "outputs/sweeps/rates", folder / "outputs/sweeps" / copy)
    fill(folder / "photos", {"Bag": 12, "Sandal": 12}, "L")
    Image.fromarray(load_sample_images()[7]).save(folder / "shirt.png")
    (folder / "notes.png").write_text("these are notes")
    page = (ROOT / "docs" / "sweeps.md").read_text()
    (folder / "rates.txt").write_text(re.search(r"# rates.txt.*\n((?: {4}\S.*\n)+)", page)[1])
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "rates.yaml").write_text(
        textwrap.dedent(re.search(r" {4}# @package _global_\n(?: {4}.*\n)+", page)[0])
    )
    (folder / "my_module.py").write_text(tiny("python"))
    return folder


def tiny(language: str) -> str:
    """The network that the README adds, or its YAML."""
    section = (ROOT / "README.md").read_text().partition("## Add a network")[2]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def verb_of(words: list[str]) -> str:
    return words[0] if words and not re.search(r"[=.@/-]", words[0]) else "train"


def as_run(command: DocCommand) -> list[str]:
    """The arguments of cnnbench: those of the page, with what cuts them down."""
    words = command.words[command.words.index("cnnbench") + 1 :]
    words = [word.replace("$RUN", "RUN").removesuffix("...") for word in words if word != "..."]
    if any(word in COMPOSED for word in words):
        return (
            [*words, *LITTLE["train"], "--dry-run"] if "-m" in words else [*words, "--cfg", "job"]
        )
    if words[0:1] == ["reproduce"]:  # tests/cli/test_reproduce.py runs it to its end
        return [word for word in words if word not in ("--scale", "reduced")] + [
            "--scale",
            "smoke",
            "--dry-run",
        ]
    verb = verb_of(words)
    little = (
        [] if {"--help", "--cfg", "experiment=smoke"}.intersection(words) else LITTLE.get(verb, ())
    )
    if {"data=folder", "experiment=photos"}.intersection(words):
        little = [word for word in little if not word.startswith("data")]
    swept = {word.partition("=")[0] for word in words if "," in word}
    swept |= {"train.batch_size"} if "--jobs-file" in words else set()
    little = [word for word in little if word.partition("=")[0] not in swept]
    fixed = {word.partition("=")[0] for word in little if "=" in word}
    return [*(word for word in words if word.partition("=")[0] not in fixed), *little]


def quick_form(command: DocCommand) -> list[str] | None:
    """Return arguments that compose the configuration of a slow command, or None if the command itself is quick.

    Slow are sweeps, reproduce, measuring, large networks, and training and pictures as pages other than the README
    have them.
    """
    words = as_run(command)
    if words[:1] == ["reproduce"]:
        return ["reproduce", "--help"]
    if words[:1] == ["inspect"] and command.page != "README.md":
        return ["inspect", "--help"]
    only_composes = {"--cfg", "--info", "--help"}.intersection(words) or command.output.startswith(
        "cnnbench: "
    )
    large = {
        "-m",
        "model=preact_resnet164",
        "model=alexnet",
        "experiment=book/alexnet",
    }.intersection(words)
    elsewhere = verb_of(words) == "train" and command.page != "README.md"
    if only_composes or not (large or elsewhere or words[:1] == ["benchmark"]):
        return None
    return [*first_job(words), "--cfg", "job"]


def first_job(words: list[str]) -> Iterator[str]:
    """Yield the words without flags of sweeps and benchmarks, and with the first of several values."""
    left = iter(words)
    for word in left:
        if word in ("--jobs-file", "--rounds", "--epoch-limit"):
            next(left)
        elif word not in ("-m", "--dry-run", "--plot"):
            yield re.sub(r"range\(\d+\)", "0", word).partition(",")[0] if "-m" in words else word


RUN = [command for command in OF_CNNBENCH if not any(word in NOT_RUN for word in command.words)]
SLOW = [command for command in RUN if quick_form(command) is not None]


@pytest.mark.parametrize("command", SLOW, ids=str)
def test_a_slow_command_of_the_docs_composes(
    command: DocCommand, within: Command, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    result = within(*quick_form(command))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.parametrize(
    "command",
    [pytest.param(each, marks=pytest.mark.slow) if each in SLOW else each for each in RUN],
    ids=str,
)
def test_a_command_of_the_docs_does_what_they_say(
    command: DocCommand,
    within: Command,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = shutil.copytree(prepared, tmp_path / "place")
    monkeypatch.chdir(place)
    said = command.output.partition("\n")[0] if command.output.startswith("cnnbench: ") else ""
    if "problems in photos" in said:
        shutil.rmtree(place / "photos")
        fill(place / "photos", {"cat": 8, "dog": 8})
        cat = place / "photos" / "cat" / "003.png"
        cat.with_name("3.png").write_bytes(cat.read_bytes()[:150])
        (place / "photos" / "dog" / "7.png").write_text("not a picture")
    result = within(*as_run(command))
    assert "Traceback" not in result.stderr
    if said:
        assert said in result.stderr
        assert result.returncode in (2, 3)
    elif command.text == "cnnbench data fashion_mnist" and result.returncode == 3:
        assert (
            "fashion_mnist" in result.stderr
        )  # where it is neither on this machine nor to be fetched
    else:
        assert result.returncode == 0, result.stderr
    if command.words[1:2] == ["summary"] and command.output:  # which says the same on every machine
        assert result.stdout.strip() == command.output


def test_the_network_that_the_readme_adds_trains_once_it_is_added(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnbench import models

    names: dict[str, object] = {}
    exec(tiny("python"), names)
    monkeypatch.setitem(models.REGISTRY, "tiny", models.ModelSpec(names["Tiny"], 3, "my own"))
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text(tiny("yaml"))
    (command,) = (each for each in OF_CNNBENCH if "model=tiny" in each.words)
    result = within("--config-dir", "mine", *as_run(command))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_what_is_not_cnnbenchs_own_is_there(command: DocCommand) -> None:
    words = command.words
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "python" and words[1] != "-m":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "pip":
        named = re.search(r"\[(.*)\]", command.text)
        for extra in named[1].split(",") if named else ():
            assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


LINKS = [
    (page, target)
    for page in PAGES
    for target in dict.fromkeys(re.findall(r"\]\(([^)]+)\)", page.read_text()))
    if "://" not in target
]


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=lambda each: each.name if isinstance(each, Path) else each
)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, heading = target.partition("#")
    linked = page.parent / path if path else page
    assert linked.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        assert heading in [
            re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings
        ]
