"""Errors in overrides and YAML files: the exit code is 2 and the message names the fix."""

import re
from pathlib import Path

import pytest
import torch
from helpers.command import Command
from helpers.raw_messages import RAW_TEXT

CONFIGURATION_ERRORS = [
    # unknown choices and keys
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
    # wrong values
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
    # signs of Hydra before a key
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
    # words without KEY=VALUE
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
    ("--config-path x", "Add your own configurations: --config-dir DIR."),
    ("--config-dir nowhere", "nowhere is not a folder."),
    # custom models
    ("+model.widht=2", "lenet takes no argument 'model.widht'"),
    (
        "model=my_module:Tiny",
        "A custom model is set by model.name: model=simple_cnn model.name=my_module:Tiny",
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
def test_configuration_error_is_reported_in_one_block(
    cnnbench: Command, tmp_path: Path, words: str, message: str
) -> None:
    done = cnnbench(*words.split(" "))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("cnnbench: ")
    assert not RAW_TEXT.search(done.stderr)
    # At most the heading of the run is printed before the error.
    assert re.fullmatch(r"(.* at \d+ x \d+: .* test examples\n)?", done.stdout)
    assert not (tmp_path / "outputs").exists()


EXPERIMENT_ERRORS = [
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


@pytest.mark.parametrize(("text", "message"), EXPERIMENT_ERRORS)
def test_error_in_a_custom_experiment_names_its_file(
    cnnbench: Command, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    done = cnnbench("--config-dir", str(tmp_path), "experiment=mine")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not RAW_TEXT.search(done.stderr)


def test_error_in_a_typed_override_names_no_file(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ntrain: {epochs: 3}")
    done = cnnbench("--config-dir", str(tmp_path), "experiment=mine", "train.epochs=x")
    assert done.stderr == "cnnbench: train.epochs=x is not a whole number.\n"


def test_error_names_an_invalid_custom_yaml(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("name: lenet\nname: lenet\n")
    done = cnnbench("--config-dir", "mine", "model=broken")
    assert done.returncode == 2
    assert "broken.yaml" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
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
def test_mistyped_experiment_suggests_those_in_folders(
    within: Command, override: str, message: str
) -> None:
    done = within(override)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="CUDA is there, so asking for it is no mistake"
)
def test_missing_device_error_lists_present_devices(cnnbench: Command) -> None:
    done = cnnbench("device=cuda", "data=sample")
    assert done.returncode == 2
    assert "device=cuda" in done.stderr
    assert "Present: cpu" in done.stderr
