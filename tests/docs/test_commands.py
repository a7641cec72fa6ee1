"""Run every command that README and docs show, with little data and one epoch.

A command that still takes more than two seconds is marked slow. Its quick form only composes the
configuration or prints the help.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.custom_files import write_all_solutions
from helpers.doc_commands import PAGES, ROOT, DocCommand, find_commands
from helpers.image_folders import fill
from helpers.in_process import run_in_process
from helpers.sample_images import load_sample_images
from PIL import Image

# A command that several pages show is run as the first page shows it, README before others.
BY_TEXT = {(command.text, command.output): command for command in reversed(list(find_commands()))}
SHOWN = list(BY_TEXT.values())
CNNBENCH_COMMANDS = [command for command in SHOWN if command.words[0] in ("cnnbench", "torchrun")]
OTHERS = [command for command in SHOWN if command not in CNNBENCH_COMMANDS]

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
    "lr-find": (
        "data=sample",
        "train.batch_size=20",
        "device=cpu",
        "device.threads=1",
        "--steps",
        "20",
    ),
}
# Of commands with these words only the configuration is composed, or the jobs are listed.
COMPOSED = {
    "device.compile=on": "compiling takes half a minute: see tests/training/test_engine_compile.py",
    "hydra/launcher=slurm": "needs a cluster; tests/sweeps/test_slurm_cluster.py starts one",
    "hydra/launcher=joblib": "16 jobs; tests/sweeps/test_sweeper_joblib.py runs some",
    "tracker=mlflow": "MLflow takes seconds to start; tests/trackers/test_mlflow.py does",
    "tracker=wandb": "needs an account; tests/trackers/test_wandb.py runs it offline",
    "tracker=[tensorboard,mlflow]": "likewise",
}
NOT_RUN = {
    "tracker.mlflow.uri=http://HOST:5000": (
        "there is no such server; tests/trackers/test_mlflow.py starts one"
    ),
    "outputs/sweeps/seeds": (
        "resumes the jobs of a cluster; tests/sweeps/test_slurm_cluster.py does so"
    ),
    "model=tiny": "needs the network that the README adds: see the test below",
    "install=fish": (
        "prints a script for fish; tests/cli/test_completion.py makes the calls of the script"
    ),
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all files and directories that the commands name."""
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
    shutil.copytree(ROOT / "examples" / "exercises", folder / "examples" / "exercises")
    write_all_solutions(folder / "my_layers.py")
    return folder


def tiny(language: str) -> str:
    """Return the Python code or the YAML of the network that the README adds."""
    section = (ROOT / "README.md").read_text().partition("## Adding a network")[2]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def command_name(words: list[str]) -> str:
    return words[0] if words and not re.search(r"[=.@/]|^-", words[0]) else "train"


def as_run(command: DocCommand) -> list[str]:
    """Return the arguments of a command on a page, changed so that it takes little time."""
    words = command.words[command.words.index("cnnbench") + 1 :]
    words = [word.replace("$RUN", "RUN").removesuffix("...") for word in words if word != "..."]
    if any(word in COMPOSED for word in words):
        if "-m" in words:
            return [*words, *LITTLE["train"], "--dry-run"]
        return [*words, "--cfg", "job"]
    if words[0:1] == ["reproduce"]:  # tests/cli/test_reproduce.py runs a whole reproduction
        words = [word for word in words if word not in ("--scale", "pixels")]
        return [*words, "--scale", "smoke", "--dry-run"]
    little = LITTLE.get(command_name(words), ())
    if {"--help", "--cfg", "experiment=smoke"}.intersection(words):
        little = ()
    if {"data=folder", "experiment=photos"}.intersection(words):
        little = [word for word in little if not word.startswith("data")]
    swept = {word.partition("=")[0] for word in words if "," in word}
    swept |= {"train.batch_size"} if "--jobs-file" in words else set()
    little = [word for word in little if word.partition("=")[0] not in swept]
    fixed = {word.partition("=")[0] for word in little if "=" in word}
    return [*(word for word in words if word.partition("=")[0] not in fixed), *little]


def quick_form(command: DocCommand) -> list[str] | None:
    """Return arguments that compose the configuration of a slow command, or None if it is quick.

    Slow commands are sweeps, reproductions, measurements and large networks. Training and
    inspecting are slow, too, except as the README shows them.
    """
    words = as_run(command)
    if words[:1] == ["reproduce"]:
        return ["reproduce", "--help"]
    if words[:1] == ["inspect"] and command.page != "README.md":
        return ["inspect", "--help"]
    prints = {"--cfg", "--info", "--help"}.intersection(words)
    if prints or command.output.startswith("cnnbench: "):
        return None
    large = {"-m", "model=preact_resnet164", "model=alexnet", "experiment=book/alexnet"}
    is_large = not large.isdisjoint(words) or words[:1] in (["benchmark"], ["lr-find"])
    trains_elsewhere = command_name(words) == "train" and command.page != "README.md"
    if not is_large and not trains_elsewhere:
        return None
    return [*first_job(words), "--cfg", "job"]


def first_job(words: list[str]) -> Iterator[str]:
    """Yield the words of the first job: no flags of sweeps, the first of several values."""
    left = iter(words)
    for word in left:
        if word in ("--jobs-file", "--rounds", "--epoch-limit"):
            next(left)
        elif word not in ("-m", "--dry-run", "--plot"):
            yield re.sub(r"range\(\d+\)", "0", word).partition(",")[0] if "-m" in words else word


RUN = [
    command for command in CNNBENCH_COMMANDS if not any(word in NOT_RUN for word in command.words)
]
SLOW = [command for command in RUN if quick_form(command) is not None]


@pytest.mark.parametrize("command", SLOW, ids=str)
def test_slow_command_of_the_docs_composes(
    command: DocCommand, within: Command, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    result = within(*quick_form(command))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=[pytest.mark.slow] if command in SLOW else []) for command in RUN],
    ids=str,
)
def test_command_of_the_docs_runs_as_documented(
    command: DocCommand,
    within: Command,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = shutil.copytree(prepared, tmp_path / "place")
    monkeypatch.chdir(place)
    error = ""
    if command.output.startswith("cnnbench: "):
        error = command.output.partition("\n")[0]
    if "problems in photos" in error:
        shutil.rmtree(place / "photos")
        fill(place / "photos", {"cat": 8, "dog": 8})
        cat = place / "photos" / "cat" / "003.png"
        cat.with_name("3.png").write_bytes(cat.read_bytes()[:150])
        (place / "photos" / "dog" / "7.png").write_text("not a picture")
    result = within(*as_run(command))
    assert "Traceback" not in result.stderr
    if error:
        assert error in result.stderr
        assert result.returncode in (2, 3)
    elif command.text == "cnnbench data fashion_mnist" and result.returncode == 3:
        # The data set is not on this machine and cannot be downloaded.
        assert "fashion_mnist" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
    is_table = command.words[1:2] == ["summary"] and command.output and not error
    if is_table:  # the same on every machine
        assert result.stdout.strip() == command.output


def test_network_added_in_the_readme_trains(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnbench import models

    names: dict[str, object] = {}
    exec(tiny("python"), names)
    monkeypatch.setitem(models.REGISTRY, "tiny", models.ModelSpec(names["Tiny"], 3, "my own"))
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text(tiny("yaml"))
    (command,) = (command for command in CNNBENCH_COMMANDS if "model=tiny" in command.words)
    result = within("--config-dir", "mine", *as_run(command))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_targets_of_other_commands_exist(command: DocCommand) -> None:
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
    ("page", "target"), LINKS, ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_link_target_exists(page: Path, target: str) -> None:
    path, _, heading = target.partition("#")
    linked = page.parent / path if path else page
    assert linked.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings]
        assert heading in anchors
