"""The commands that cnnbench prints as hints work when they are run."""

import errno
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.command import Command
from helpers.image_folders import fill
from helpers.in_process import run_in_process
from helpers.paths import ROOT
from helpers.small_runs import SMALL, rewrite_checkpoint

from cnnbench import models
from cnnbench.cli import compose, errors
from cnnbench.config import DeviceConfig, join_words
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import RunDirectory
from cnnbench.sweeps.sweeper import Sweep
from cnnbench.training.device import resolve_device

NETWORK = "from cnnbench.models.mlp import MLP\nclass Net(MLP): pass\n"
CAREFUL = "name: adam\nlr: 0.002\nbetas: [0.9, 0.99]\neps: 1.0e-8\nweight_decay: 0.0\n"
RUN, SWEEP = "my run", "my sweep"
GROUPS = ("--config-dir", "my groups")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of a custom model, a sweep with a custom group, and images."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "my.py").write_text(NETWORK)
    (folder / "my groups" / "optimizer").mkdir(parents=True)
    (folder / "my groups" / "optimizer" / "careful.yaml").write_text(CAREFUL)
    fill(folder / "my photos", {"Bag": 2}, "L")
    groups = [word for word in SMALL if not word.startswith("optimizer")]
    commands = [
        (*SMALL, "model.name=my:Net", f"hydra.run.dir={RUN}"),
        ("-m", *groups, *GROUPS, "optimizer=careful", f"hydra.sweep.dir={SWEEP}", "seed=0"),
    ]
    for command in commands:
        done = run_in_process(*command, folder=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """Copy that folder into the one in which `within` works."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def printed(text: str, hint: str) -> list[str]:
    """Return the arguments of the command that follows a hint, to the end of its line."""
    (line,) = re.findall(rf"{hint}: (.*)$", text, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program == "cnnbench"
    return arguments


@pytest.mark.parametrize(
    "arguments",
    [("evaluate", RUN, "data.test_examples=10", "--topk", "1", "3"),
     ("evaluate", "--match-by-order", f"./{RUN}/", "train.tta=hflip"),
     ("predict", RUN, "my photos", "--json", "device=cpu"),
     ("inspect", RUN, "--mistakes", "3", "data.test_examples=10"),
     ("export", RUN, "--format", "safetensors", "--output", "my net"),
     ("resume", RUN, "train.epochs=3", "--plot"),
     ("again", RUN, "seed=1", "hydra.run.dir=my second run", "--plot")],
    ids=join_words,
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_trust_command_repeats_all_words(within: Command, arguments: tuple[str, ...]) -> None:
    refused = within(*arguments)
    heading = f"Resuming {RUN} ...\n" if arguments[0] == "resume" else ""
    assert (refused.returncode, refused.stdout) == (2, heading)
    words = printed(refused.stderr, "If you trust it")
    typed = {word if word.startswith("-") else str(Path(word)) for word in arguments}
    assert typed | {"--allow-custom-model"} == set(words)
    done = within(*words)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("place")
def test_confirming_override_precedes_a_flag_with_several_values(within: Command) -> None:
    for path in Path(RUN, "checkpoints").glob("*.pt"):
        rewrite_checkpoint(path, lambda state: state["config"]["data"].update(root="my data"))
    refused = within("evaluate", RUN, "--allow-custom-model", "--topk", "1", "3")
    words = printed(refused.stderr, "If you trust it")
    flags = ["--allow-custom-model", "--topk", "1", "3"]
    assert words == ["evaluate", RUN, "data.root=my data", *flags]
    done = within(*words)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("place")
def test_printed_command_evaluates_the_newest_run_of_a_sweep(
    within: Command,
) -> None:
    refused = within("evaluate", SWEEP)
    done = within(*printed(refused.stderr, "The newest is .*?"))
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("place")
def test_printed_command_retries_an_unwritten_table(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device", "sweep.csv")
        patch.setattr(RunDirectory, "write_rows", lambda *_: (_ for _ in ()).throw(full))
        refused = within("report", SWEEP, "--output", "pages")
    assert within(*printed(refused.stderr.splitlines()[0], "To try again")).returncode == 0


@pytest.mark.usefixtures("place")
def test_best_command_has_the_custom_groups(within: Command, made: Path) -> None:
    words = printed(within("report", SWEEP).stdout, "the best")
    assert words[0] == "--config-dir"
    assert Path(words[1]).samefile(made / "my groups")
    done = within(*words, "--cfg", "job")
    assert (done.returncode, "lr: 0.002" in done.stdout) == (0, True), done.stderr


@pytest.mark.usefixtures("place")
def test_printed_command_resumes_a_diverged_run(within: Command) -> None:
    done = within(*SMALL, "model.name=my:Net", "optimizer.lr=1e30", "hydra.run.dir=other run")
    words = printed(done.stderr, "To resume from there")
    assert words == ["resume", "other run", "--allow-custom-model", "optimizer.lr=1e+29"]
    assert within(*words).returncode == 4


@pytest.mark.usefixtures("place")
def test_printed_command_resumes_the_run_in_a_taken_directory(within: Command) -> None:
    refused = within(*SMALL, f"hydra.run.dir={SWEEP}/other")
    assert refused.returncode == 0
    refused = within(*SMALL, "seed=1", f"hydra.run.dir={SWEEP}/other")
    done = within(*printed(refused.stderr, "To resume with its own values"))
    assert (done.returncode, "Nothing to do" in done.stdout) == (0, True), done.stderr


def test_printed_command_resumes_a_job_with_other_values(within: Command) -> None:
    sweep = ("-m", *SMALL, "sweep=mine", "hydra.sweep.subdir=job")
    assert within(*sweep, "seed=0").returncode == 0
    refused = within(*sweep, "seed=1")
    done = within(*printed(refused.stderr, "To resume with its own values"))
    assert (done.returncode, "Nothing to do" in done.stdout) == (0, True), done.stderr


def test_printed_command_starts_waiting_jobs(within: Command, place: Path) -> None:
    record = json.loads((place / SWEEP / "sweep.json").read_text())
    ((_, job),) = record["jobs"].items()
    record["jobs"]["waiting"] = [*job[:-1], "seed=1"]
    (place / SWEEP / "sweep.json").write_text(json.dumps(record))
    refused = within("resume", SWEEP, *GROUPS, "train.epochs=3")
    words = printed(refused.stderr, "Begin them first")
    assert words == ["resume", SWEEP, *GROUPS]
    done = within(*words)
    assert (done.returncode, "2 finished" in done.stdout) == (0, True), done.stderr


@pytest.mark.usefixtures("place")
def test_printed_command_resumes_an_interrupted_sweep(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, plot: bool) -> float:
        raise KeyboardInterrupt

    sweep = ("-m", *SMALL, *GROUPS, "optimizer=careful", "seed=0,1")
    monkeypatch.setattr(compose, "train_job", interrupt)
    words = printed(within(*sweep).stderr, "To resume")
    monkeypatch.setattr(compose, "train_job", lambda *_, plot: 0.0)
    done = within(*words)
    assert (done.returncode, len(list(Path("outputs/sweeps").iterdir()))) == (0, 1), done.stderr


def test_printed_command_reports_on_submitted_jobs() -> None:
    sweep = SimpleNamespace(launcher="submitit_slurm", directory=Path(SWEEP))
    assert printed(Sweep._resume_hint(sweep), "See how far they are") == ["report", SWEEP]


def test_printed_command_starts_fewer_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    several = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in several.items():
        monkeypatch.setenv(name, value)
    typed = ["data.path=my photos", "device=cuda"]
    monkeypatch.setattr("sys.argv", ["cnnbench", *typed])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    names = DeviceConfig.__struct_fields__
    config = DeviceConfig(**dict.fromkeys(names, "auto") | {"name": "cuda"})
    with pytest.raises(ConfigError) as refused:
        resolve_device(config)
    words = shlex.split(str(refused.value).partition("fewer processes: ")[2])
    assert words == ["torchrun", "--nproc-per-node=1", "-m", "cnnbench", *typed]


def test_printed_command_takes_a_value_that_reproduce_refuses(within: Command) -> None:
    refused = within("reproduce", "train.epochs=3")
    multirun, *words = printed(refused.stderr, "Other values")
    done = within(*words, "--cfg", "job")
    assert (multirun, done.returncode, "epochs: 3" in done.stdout) == ("-m", 0, True), done.stderr


def test_printed_command_shows_the_layers_of_a_network(
    within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "REGISTRY", {"lenet": models.REGISTRY["lenet"]})
    assert within(*printed(within("models").stdout, "To see the layers of one")).returncode == 0


EXTRAS = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [*(("data=sample", f"tracker={name}") for name in ("tensorboard", "mlflow", "wandb")),
     ("export", RUN, "--format", "onnx"), ("reproduce",)],
    ids=join_words,
)  # fmt: skip
def test_printed_command_installs_missing_packages(
    within: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for module in ("training.preflight", "commands.export"):
        monkeypatch.setattr(f"cnnbench.{module}.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    refused = within(*arguments)
    (line,) = re.findall(r": (pip install .*)$", refused.stderr, re.MULTILINE)
    (extra,) = re.fullmatch(r"cnnbench\[(\w+)\]", shlex.split(line)[2]).groups()
    assert extra in EXTRAS


@pytest.mark.parametrize("requirement", errors.PACKAGES.values())
def test_plugin_package_is_a_single_requirement(requirement: str) -> None:
    (word,) = shlex.split(requirement)
    extra = re.fullmatch(r"cnnbench\[(\w+)\]", word)
    assert extra is None or extra[1] in EXTRAS


@pytest.mark.parametrize(
    ("word", "quoted"),
    [("optimizer.lr=0.1", "optimizer.lr=0.1"), ("+model.x=1", "+model.x=1"), ("Äpfel", "Äpfel"),
     ("model.widths=[8]", "'model.widths=[8]'"), ("my run", "'my run'"), ("", "''"),
     ("data.path='a, b'", "\"data.path='a, b'\""), ("it's $HOME", "'it'\"'\"'s $HOME'")],
)  # fmt: skip
def test_words_are_quoted_only_where_needed(word: str, quoted: str) -> None:
    assert join_words([word]) == quoted
    assert shlex.split(quoted) == [word]
