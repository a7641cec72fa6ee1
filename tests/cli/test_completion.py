"""Shell completion: the words that `cnnbench -sc query=SHELL` prints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from helpers.command import clean_environment
from helpers.in_process import run_in_process
from helpers.paths import ROOT

from cnnbench.cli.completion import VALUES
from cnnbench.cli.hydra_app import conf_folder
from cnnbench.cli.main import COMMANDS
from cnnbench.cli.options import PARSERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two runs, a sweep, images and custom groups."""
    folder = tmp_path_factory.mktemp("completion")
    for run in (
        "outputs/lenet/1",
        "outputs/lenet/2",
        "outputs/sweeps/rates/lr=0.1,seed=1",
        "old/3",
    ):
        (folder / run).mkdir(parents=True)
        (folder / run / "status.json").touch()
    for empty in ("outputs/lenet/1/checkpoints", "photos/cat", ".hidden", "groups/model"):
        (folder / empty).mkdir(parents=True)
    (folder / "shirt.png").touch()
    (folder / "groups/model/mine.yaml").write_text("defaults: [lenet]\nwidth: 3\nis_deep: true\n")
    return folder


def offer(folder: Path, line: str, shell: str = "fish", point: str | None = None) -> set[str]:
    point = str(len(line)) if point is None else point
    done = run_in_process("-sc", f"query={shell}", folder=folder, COMP_LINE=line, COMP_POINT=point)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.splitlines() if shell == "fish" else done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("su", "summary"),
        ("mod", "models model= model."),
        ("optimizer=ada", "optimizer=adagrad optimizer=adam optimizer=adamw"),
        ("summary model=le", "model=lenet model=lenet_relu"),
        ("lr-find model=le", "model=lenet model=lenet_relu"),
        ("lr-find --st", "--steps"),
        ("summary 'model=le", "model=lenet model=lenet_relu"),
        ("-m model=lenet,nin optimizer=adam optimizer.b", "optimizer.betas="),
        ("-m model=lenet,alex", "model=lenet,alexnet"),
        ("+optimizer=ada", "+optimizer=adagrad +optimizer=adam +optimizer=adamw"),
        ("experiment=book/al", "experiment=book/alexnet"),
        ("model=alexnet model.d", "model.dropout="),
        ("train.e", "train.epochs= train.ema_decay="),
        ("train.checkpoint_every.",
         "train.checkpoint_every.epochs= train.checkpoint_every.minutes= "
         "train.checkpoint_every.steps="),
        ("seed=", "seed=0"),
        ("train.l", "train.loss= train.label_smoothing= train.l1= train.last_batch= "
         "train.log_every="),
        ("train.init=",
         "train.init=default train.init=kaiming_normal train.init=normal "
         "train.init=xavier_uniform"),
        ("device.compile=", "device.compile=false device.compile=true"),
        ("device.channels_last=",
         "device.channels_last=auto device.channels_last=false device.channels_last=true"),
        ("hydra/la", "hydra/launcher="),
        ("hydra/sweeper=", "hydra/sweeper=basic hydra/sweeper=cnnbench"),
        ("hydra.run.", "hydra.run.dir="),
        ("--config-dir groups model=mi", "model=mine"),
        ("--config-dir groups model=mine model.i", "model.is_deep="),
        ("--config-dir groups model=mine model.is_deep=", "model.is_deep=false model.is_deep=true"),
        ("data.path=ph", "data.path=photos/"),
        ("summary --de", "--depth"),
        ("--cfg ", "all hydra job"),
        ("resume --", "--allow-custom-model --config-dir --help --plot"),
        ("export latest --format=o", "--format=onnx"),
        ("export latest --output ph", "photos/"),
        ("evaluate ", "latest outputs/ old/"),
        ("evaluate outputs/", "outputs/lenet/ outputs/sweeps/"),
        ("evaluate outputs/lenet/", "outputs/lenet/1 outputs/lenet/2"),
        ("evaluate outputs/lenet/1/", ""),
        ("evaluate --topk 3 la", "latest"),
        ("report outputs/lenet/1 outputs/s", "outputs/sweeps/"),
        ("report outputs/sweeps/rates/", "outputs/sweeps/rates/lr=0.1,seed=1"),
        ("evaluate latest d", "data= data. device= device."),
        ("evaluate latest device.p", "device.precision="),
        ("evaluate latest device.precision=b", "device.precision=bf16"),
        ("evaluate latest data=sa", "data=sample"),
        ("resume latest optimizer", "optimizer."),
        ("resume latest optimizer.", "optimizer.lr="),
        ("resume latest optimizer=", ""),
        ("resume latest tracker.m", "tracker.mlflow."),
        ("again outputs/le", "outputs/lenet/"),
        ("again latest opt", "optimizer= optimizer."),
        ("again latest optimizer=ada", "optimizer=adagrad optimizer=adam optimizer=adamw"),
        ("again latest exp", ""),
        ("again --", "--allow-custom-model --help --plot"),
        ("predict latest ph", "photos/"),
        ("predict latest shirt.png de", "device= device."),
        ("data fash", "fashion_mnist"),
        ("data --show ph", "photos/"),
        ("data --show it.png augment=m", "augment=mixup"),
        ("data --show=it.png seed=", "seed=0"),
        ("reproduce b", "book"),
        ("reproduce book --scale ", "full pixels smoke"),
        ("reproduce t", "tracker= tracker. train."),
        ("doctor ", ""),
    ],
)  # fmt: skip
def test_completion_offers_words_that_fit_at_the_cursor(
    folder: Path, line: str, offered: str
) -> None:
    assert offer(folder, f"cnnbench {line}") == set(offered.split())


def test_completion_offers_commands_and_keys_as_the_first_word(folder: Path) -> None:
    assert offer(folder, "cnnbench ") > {*COMMANDS, "model=", "train.", "seed=", "hydra.", "hydra/"}


def test_completion_reads_the_line_up_to_the_cursor(folder: Path) -> None:
    assert offer(folder, "cnnbench su model=lenet", "bash", point="11") == {"summary"}


@pytest.mark.parametrize(
    "line",
    ["", "cnnbench", "ls -l x", "cnnbench \udcff=", "cnnbench evaluate nowhere/",
     "cnnbench nonsense -- x", "cnnbench model=nonsense model.", "cnnbench ~=", "cnnbench /=",
     "cnnbench train=", "cnnbench a.b.c=", "cnnbench hydra/nonsense=", "cnnbench model=[ model.",
     "cnnbench evaluate ~nobody/"],
)  # fmt: skip
def test_completion_offers_nothing_where_nothing_fits(folder: Path, line: str) -> None:
    assert offer(folder, line) <= {"model="}


@pytest.mark.parametrize("point", ["x", "-1", "9" * 5000, "99"])
def test_completion_ignores_an_invalid_cursor(folder: Path, point: str) -> None:
    offer(folder, "cnnbench su", point=point)


def test_completion_ignores_an_unreadable_folder(folder: Path) -> None:
    with patch.object(os, "scandir", side_effect=PermissionError):
        assert offer(folder, "cnnbench evaluate ") == {"latest"}


def test_completion_offers_a_folder_of_many_files_without_searching_it(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    with patch("cnnbench.cli.completion.MAX_ENTRIES", 3):
        assert offer(tmp_path, "cnnbench evaluate ") == {"latest"}
        for number in range(4):
            (tmp_path / "many" / str(number)).touch()
        assert offer(tmp_path, "cnnbench evaluate ") == {"latest", "many/"}


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_offers_the_options_in_the_help(folder: Path, command: str) -> None:
    helped = run_in_process(command, "--help", folder=folder).stdout.partition("\noptions:")[2]
    shown = {line.split()[0].rstrip(",") for line in helped.splitlines() if line.startswith("  -")}
    assert offer(folder, f"cnnbench {command} -") == shown - {"-h"} | {"--help"}


def test_completion_offers_the_option_values_of_hydra_and_reproduce() -> None:
    hydra = PARSERS["train"]().hydra
    assert hydra is not None
    for flag in ("--cfg", "--info"):
        for value in VALUES[flag]:
            hydra.read([flag, value])
    assert tuple(VALUES["--scale"]) == tuple(
        yaml.safe_load((conf_folder() / "reproduce.yaml").read_text())
    )


COMPLETE = """
eval "$(cnnbench -sc install=bash)"
COMP_LINE="cnnbench evaluate outputs/" COMP_CWORD=2 COMP_POINT=26
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completion_does_not_run_folder_names_as_code(tmp_path: Path) -> None:
    for run in ("1", "$(touch hacked)"):
        (tmp_path / "outputs" / run).mkdir(parents=True)
        (tmp_path / "outputs" / run / "status.json").touch()
    program = tmp_path / "cnnbench"
    program.write_text(
        f"#!{sys.executable}\nfrom cnnbench.cli.main import main\nraise SystemExit(main())\n"
    )
    program.chmod(0o755)
    places = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", COMPLETE],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | places,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("outputs/1\n", "")
    assert not (tmp_path / "hacked").exists()
