"""Mistakes, typed at the installed command: the exit code, one helpful block, no traceback, nothing left."""

import errno
import gzip
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.command import TINY, Command, clean_environment, find_only_run
from helpers.paths import ROOT, SAMPLE
from helpers.raw_messages import RAW_TEXT

import cnnbench as package
from cnnbench.errors import from_machine

CONFIGURATION_ERRORS = [
    # a choice or a key that is not there
    ("trian", "There is no command 'trian'. Did you mean 'train'?"),
    ("model=lenett", "model=lenett is not known. Did you mean 'lenet'?"),
    ("model=", "model= has no value. Allowed: alexnet, "),
    ("model=null", "A choice is a name, such as model=lenet."),
    ("model=???", "model has no choice. Set model=NAME."),
    ("optimizer=sdg", "Did you mean 'sgd'?"),
    ("experiment=smoek", "Did you mean 'smoke'?"),
    ("device=gpu", "device=gpu is not known. Did you mean 'cuda'?"),
    ("data=FashionMNIST", "Did you mean 'fashion_mnist'?"),
    ("data=MNIST", "Did you mean 'mnist'?"),
    ("data fashionmnist", "Did you mean 'fashion_mnist'?"),
    ("train.init=xavier", "Did you mean 'xavier_uniform'?"),
    ("train.init=he", "Did you mean 'kaiming_normal'?"),
    ("modle=lenet", "Did you mean 'model'?"),
    ("train.epoch=3", "There is no key 'train.epoch'. Did you mean 'train.epochs'?"),
    ("lr=0.1", "Did you mean 'optimizer.lr'?"),
    ("train.lr=0.1", "Did you mean 'optimizer.lr'?"),
    ("batch-size=64", "Did you mean 'train.batch_size'?"),
    ("optimizer.momentun=0.9", "Did you mean 'optimizer.momentum'?"),
    ("+train.epoch=3", "Did you mean 'train.epochs'?"),
    ("+data.resise=28", "Did you mean 'data.resize'?"),
    ("+foo=1", "There is no key 'foo'"),
    ("foo/bar=baz", "There is no key 'foo/bar'"),
    ("hydra.foo=3", "There is no key 'hydra.foo'. Allowed: callbacks, "),
    ("model@foo=lenet", "There is no group 'model@foo'."),
    # a value of the wrong kind
    ("train.epochs=many", "train.epochs=many is not a whole number."),
    ("train.epochs=1e3", "train.epochs=1000.0 is not a whole number. Write train.epochs=1000."),
    ("train.epochs==3", "train.epochs==3 is not a whole number."),
    ("train.epochs=😀", "train.epochs=😀 is not a whole number."),
    ("train.epochs=foo(3)", "train.epochs=foo(3) is not a whole number."),
    (f"train.epochs={'a' * 10_000}", f"train.epochs={'a' * 80}... is not a whole number."),
    (f"train.epochs={'9' * 10_000}", f"train.epochs={'9' * 80}... is not a whole number."),
    ("train.epochs=\udcff", "is not UTF-8 text."),
    ("optimizer.lr=fast", "optimizer.lr=fast is not a number."),
    ("optimizer.lr=-1", "optimizer.lr=-1 is out of range. It must be above 0."),
    ("train.epochs=0", "train.epochs=0 is out of range. It must be at least 1."),
    ("data.validation=60001", "It must be at most 59999"),
    ("train=foo", "train=foo: train is a group of keys. Set one, such as train.epochs=..."),
    ("hydra.run=3", "hydra.run=3 does not fit: it takes another kind of value."),
    ("hydra.searchpath=3", "hydra.searchpath=3 is not a list of folders."),
    ("model=alexnet data.resize=8", "The smallest size is data.resize=67."),
    ("model=alexnet model.dropout=2", "dropout"),
    # several values without -m
    ("optimizer.lr=0.1,0.5", "optimizer.lr=0.1,0.5 gives several values. Add -m for a run of each"),
    ("optimizer.lr=choice(1,2)", "optimizer.lr=choice(1,2) gives several values. Add -m"),
    ("model=lenet,alexnet", "model=lenet,alexnet gives several values. Add -m"),
    ("model=[lenet,alexnet]", "choose one, or train with each: -m model=lenet,alexnet"),
    (
        "experiment=claims/relu_lenet",
        "This is a sweep over model. Add -m: cnnbench -m experiment=claims/relu_lenet\n",
    ),
    (
        "-m hydra.sweep.dir=a,b",
        "hydra.sweep.dir=a,b gives several values. A key of hydra takes one.",
    ),
    ("-m optimizer.lr=range(1,2,0)", "optimizer.lr=range(1,2,0) is not a range: its step is 0."),
    ("-m hydra/sweeper=basic seed=interval(1,2)", "This sweeper takes no intervals."),
    # the signs of Hydra before a key
    ("~train.l1", "~train.l1 deletes what every run needs. Give another value: train.l1=..."),
    ("~model", "~model deletes what every run needs."),
    ("~foo", "There is no key 'foo' to delete."),
    ("~model@foo", "There is no choice model@foo to delete."),
    ("+model=lenet", "model has a choice already. Change it without the +: model=NAME."),
    (
        "+experiment=smoke",
        "experiment has a choice already. Change it without the +: experiment=NAME.",
    ),
    ("++model=lenet", "A choice takes no ++. Write model=lenet"),
    ("+train.epochs=3", "The key is there already. Change it without the +: train.epochs=3"),
    # words that are no KEY=VALUE
    ("lenet", "There is no command 'lenet'. Did you mean model=lenet?"),
    ("summary lenet", "'lenet' is not an override. Did you mean model=lenet?"),
    ("train.epochs", "'train.epochs' is not an override. Did you mean train.epochs=...?"),
    ("=", "'=' is not an override. Write KEY=VALUE, such as train.epochs=3."),
    ("=3", "'=3' is not an override. Write KEY=VALUE, such as train.epochs=3."),
    ("train.epochs = 3", "Values are KEY=VALUE, without blanks around =: train.epochs=3"),
    ("seed = 3", "Values are KEY=VALUE, without blanks around =: seed=3"),
    (
        "--epochs 3",
        "There is no option --epochs of cnnbench train. Values are KEY=VALUE: train.epochs=3",
    ),
    ("summary --depth x", "--depth x is not a whole number."),
    ("-sc", "-sc needs install=SHELL, uninstall=SHELL or query=SHELL."),
    ("--cfg job -m", "--run, -m, --cfg, --info and --shell-completion exclude each other."),
    ("--resolve", "--resolve is for --cfg and --help."),
    ("--config-path x", "Add configurations of your own: --config-dir DIR."),
    ("--config-dir nowhere", "nowhere is not a folder."),
    # networks of one's own
    ("+model.widht=2", "lenet takes no argument 'model.widht'"),
    (
        "model=my_module:Tiny",
        "A network of your own is a name: model=simple_cnn model.name=my_module:Tiny",
    ),
    (
        "model.name=my_module:Tiny model.width=32",
        "An argument of a custom model is added: +model.width=32",
    ),
    # interpolations
    ("data.root=${oc.env:NOPE}", "data.root: the environment variable NOPE is not set."),
    ("data.root=${foo}", "data.root: there is no key 'foo', to which it refers."),
    ("data.root=${foo:3}", "data.root: there is no resolver 'foo'. Use ${oc.env:NAME}."),
    ("data.root=${", "data.root: its value cannot be resolved. Check what is in ${...}."),
    ("data.root=${data.root}", "data.root: its value cannot be resolved."),
    # brackets and quotes
    ("data.root='a", "data.root='a cannot be read. Quote a text: "),
    ("scheduler=multistep scheduler.milestones=[1,", "Close its brackets"),
]


@pytest.mark.parametrize(("words", "message"), CONFIGURATION_ERRORS, ids=ascii)
def test_a_configuration_error_is_one_helpful_block(
    cnnbench: Command, tmp_path: Path, words: str, message: str
) -> None:
    done = cnnbench(*words.split(" "))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("cnnbench: ")
    assert not RAW_TEXT.search(done.stderr)
    assert re.fullmatch(
        r"(.* at \d+ x \d+: .* test examples\n)?", done.stdout
    )  # its heading at most
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "words", [["experiment=book/lenet"], ["experiment=claims/relu_lenet", "model=lenet"]], ids=str
)
def test_one_run_of_an_experiment_needs_the_values_that_it_compares(
    within: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("cnnbench.training.preflight.check", lambda *_, **__: None)
    monkeypatch.setattr("cnnbench.cli.compose.train_job", lambda *_, **__: 0.0)
    done = within(*words)
    assert done.returncode == 0, done.stderr


OWN_FILES = [
    ("train: {epochs: 3}", "mine.yaml needs '# @package _global_' as its first line"),
    (
        "# @package _global_\ntrain: {epoch: 3}",
        "mine.yaml: There is no key 'train.epoch'. Did you mean 'train.epochs'?",
    ),
    (
        "# @package _global_\ntrain: {epochs: many}",
        "mine.yaml: train.epochs=many is not a whole number.",
    ),
    ("# @package _global_\ntrain: 3", "mine.yaml: train=3: train is a group of keys."),
    (
        "# @package _global_\nsweep: ${x}",
        "mine.yaml: sweep: there is no key 'x', to which it refers.",
    ),
    (
        "# @package _global_\nhydra: {foo: 3}",
        "experiment/mine.yaml has a key of hydra that is not there",
    ),
    (
        "# @package _global_\nhydra: {searchpath: [x]}",
        "experiment/mine.yaml may not set hydra.searchpath.",
    ),
    ("# @package _global_\ndefaults: [override /foo: x]", "There is no group 'foo'."),
    (
        "# @package _global_\ndefaults: [override /model: lenet, /data: mnist]",
        "the overrides end a defaults list.",
    ),
    (
        "# @package _global_\ndefaults: [_self_, _self_]",
        "The defaults list of experiment/mine has _self_ twice.",
    ),
    (
        "# @package _global_\ndefaults: [{a: b, c: d}]",
        "The defaults list of experiment/mine is wrong.",
    ),
    ("# @package _global_\ndefaults: 3", "A defaults list is wrong. Each item is - GROUP: CHOICE"),
    ("3", "A configuration file is one value. It must be keys and values."),
    ("a: [", "mine.yaml"),
]


@pytest.mark.parametrize(("text", "message"), OWN_FILES)
def test_a_mistake_in_an_experiment_of_ones_own_is_told_with_its_file(
    cnnbench: Command, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    done = cnnbench("--config-dir", str(tmp_path), "experiment=mine")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not RAW_TEXT.search(done.stderr)


def test_a_mistake_that_was_typed_is_not_that_of_a_file(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ntrain: {epochs: 3}")
    done = cnnbench("--config-dir", str(tmp_path), "experiment=mine", "train.epochs=x")
    assert done.stderr == "cnnbench: train.epochs=x is not a whole number.\n"


@pytest.mark.parametrize("words", [["version"], ["-V"], ["--version"], ["train", "--version"]])
def test_the_version_is_printed(cnnbench: Command, words: list[str]) -> None:
    assert cnnbench(*words).stdout == f"cnnbench {package.__version__}\n"


@pytest.mark.parametrize("command", [[], ["train"], ["report"], ["model=mlp"]])
def test_help_is_a_command_too(cnnbench: Command, command: list[str]) -> None:
    assert cnnbench("help", *command).stdout == cnnbench(*command, "--help").stdout


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="CUDA is there, so asking for it is no mistake"
)
def test_a_missing_device_is_named_with_those_present(cnnbench: Command) -> None:
    done = cnnbench("device=cuda", "data=sample")
    assert done.returncode == 2
    assert "device=cuda" in done.stderr
    assert "Present: cpu" in done.stderr


@pytest.mark.parametrize(
    "argument", ["model=lenett", "train.epochs=0", "data.validation=60001", "+foo=1"]
)
def test_an_error_of_composing_or_of_values_imports_no_torch(tmp_path: Path, argument: str) -> None:
    code = (
        f"import sys; sys.argv[1:] = [{argument!r}]\n"
        "from cnnbench.cli.main import main\n"
        "try:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\n"
        "sys.exit(9 if 'torch' in sys.modules else code)"
    )
    environment = clean_environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2


def test_missing_data_without_network_says_what_was_tried_and_how_to_go_on(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench("data=mnist", "model=mlp")
    assert done.returncode == 3
    tried = "train-images-idx3-ubyte.gz: Tried https://ossci-datasets.s3.amazonaws.com/mnist/"
    assert tried in done.stderr
    assert "data=sample" in done.stderr
    assert "CNNBENCH_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((find_only_run(tmp_path) / "status.json").read_text())["state"] == "failed"


def test_a_file_of_another_data_set_is_named_and_not_used(
    cnnbench: Command, tmp_path: Path
) -> None:
    swapped = tmp_path / "mine" / "train-images-idx3-ubyte.gz"
    swapped.parent.mkdir()
    swapped.write_bytes((SAMPLE / swapped.name).read_bytes())
    done = cnnbench("data", "mnist", CNNBENCH_DATA=str(swapped.parent))
    assert done.returncode == 3
    assert (
        f"{swapped}: holds part of Fashion-MNIST's train-images-idx3-ubyte, not MNIST's"
        in done.stderr
    )
    assert swapped.exists()


def test_a_truncated_file_is_named_and_not_used(cnnbench: Command, tmp_path: Path) -> None:
    truncated = tmp_path / "mine" / "t10k-images-idx3-ubyte.gz"
    truncated.parent.mkdir()
    truncated.write_bytes(gzip.compress(bytes(range(256)) * 100)[:-20])
    done = cnnbench("data", "mnist", CNNBENCH_DATA=str(truncated.parent))
    assert done.returncode == 3
    assert f"{truncated}: damaged or truncated" in done.stderr


def test_an_output_folder_that_cannot_be_made_is_named(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file where the folder should be")
    done = cnnbench(*TINY)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "hydra.run.dir=DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission_is_named(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir(mode=0o555)
    done = cnnbench(*TINY)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_a_directory_that_holds_a_run_is_refused(cnnbench: Command, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "status.json").write_text("{}")
    done = cnnbench(*TINY, f"hydra.run.dir={taken}")
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert [path.name for path in taken.iterdir()] == ["status.json"]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    limit = 100_000  # bytes a file may have: no room for a checkpoint, the same refusal as of a full disk
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench", *TINY],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    run = find_only_run(tmp_path)
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((run / "checkpoints").iterdir()) == []
    assert json.loads((run / "status.json").read_text())["state"] == "failed"


def test_divergence_has_its_exit_code_and_names_epoch_and_steps(
    cnnbench: Command, tmp_path: Path
) -> None:
    done = cnnbench(*TINY, "optimizer.lr=1e30")
    assert done.returncode == 4
    assert re.search(r"in epoch 1, steps [1-8] to [1-8]\.", done.stderr)
    assert "optimizer.lr=1e+30" in done.stderr
    assert list((find_only_run(tmp_path) / "checkpoints").iterdir()) == []


def test_a_run_that_must_learn_and_does_not_has_the_same_exit_code(cnnbench: Command) -> None:
    done = cnnbench(*TINY, "optimizer.lr=1e-30")
    assert done.returncode == 4
    assert "The training loss did not fall" in done.stderr
    assert "The network learnt nothing" in done.stdout


def test_a_network_that_learnt_in_its_only_step_is_not_said_to_have_learnt_nothing(
    within: Command,
) -> None:
    # Training accuracy is the mean as the epoch went: that of one step is from before the step.
    one_step = (
        "data.train_examples=1000",
        "train.batch_size=1000",
        "train.epochs=1",
        "train.fail_if_not_learning=false",
    )
    done = within(
        *TINY, *one_step, "data.validation=0", "model=simple_cnn", "optimizer.lr=0.2", "seed=2"
    )
    assert done.returncode == 0, done.stderr
    assert "The network learnt nothing" not in done.stdout


def test_a_broken_yaml_of_ones_own_is_named(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("name: lenet\nname: lenet\n")
    done = cnnbench("--config-dir", "mine", "model=broken")
    assert done.returncode == 2
    assert "broken.yaml" in done.stderr


@pytest.mark.parametrize("variable", ["CNNBENCH_DEBUG", "HYDRA_FULL_ERROR"])
def test_debugging_shows_the_traceback_of_any_error(cnnbench: Command, variable: str) -> None:
    done = cnnbench("train.epochs=0", **{variable: "1"})
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_command_after_another_in_a_process_is_not_debugged(within: Command) -> None:
    within("train.epochs=0")
    assert "Traceback" not in within("train.epochs=0").stderr


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB.\nProcess 1 has 70 GiB in use."
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
    ids=["gpu", "cpu"],
)
def test_memory_that_does_not_suffice_is_told_with_what_to_lower(
    error: RuntimeError, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cnnbench.training.engine.EagerEngine.train_step", fail)
    done = within(*TINY)
    assert done.returncode == 2
    assert str(error).partition("\n")[0] in done.stderr
    assert "a batch of 32 images of 28 x 28 pixels" in done.stderr
    assert "This process has held up to" in done.stderr
    assert "Lower train.batch_size=32 or data.resize=28" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("numpy failed.\n\nlibblas.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=repr,
)
def test_memory_of_the_process_that_does_not_suffice_is_no_bug(
    error: Exception, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("cnnbench.training.preflight.check_sizes", fail)
    done = within(*TINY)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2), done.stderr
    assert "The memory of this process does not suffice: " in done.stderr
    assert (str(error).splitlines() or ["no more can be had"])[-1] in done.stderr
    assert "ulimit -v" in done.stderr


def test_memory_that_tensors_lack_is_that_of_the_device() -> None:
    text = "DefaultCPUAllocator: can't allocate memory. Error code 12 (Cannot allocate memory)"
    error = from_machine(RuntimeError(text))
    assert "Lower train.batch_size or data.resize" in str(error)


def test_addresses_that_do_not_suffice_to_load_pytorch_are_told(tmp_path: Path) -> None:
    limit = 2**30
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench", *TINY],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("cnnbench: The memory of this process does not suffice: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "experiment=book/alexnt",
            "experiment=book/alexnt is not known. Did you mean 'book/alexnet'?",
        ),
        ("experiment=alexnet", "experiment=alexnet is not known. Did you mean 'book/alexnet'?"),
        ("experiment=book", "experiment=book is a folder of experiments. Name one: book/alexnet, "),
        (
            "experiment/book=lenet",
            "Experiments in folders are chosen by their whole name: experiment=book/NAME.",
        ),
    ],
)
def test_an_experiment_in_a_folder_is_found_whatever_was_mistyped(
    within: Command, override: str, told: str
) -> None:
    done = within(override)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    shell = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m cnnbench models'
    command = ["sh", "-c", shell, sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = "cnnbench: The working folder is gone. Change to another.\n"
    assert (done.returncode, done.stderr) == (2, said)
