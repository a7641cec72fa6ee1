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
from installed import TINY, Command, clean_environment, only_run

from cnnbench.errors import from_machine

SAMPLE = Path(__file__).parents[1] / "cnnbench" / "data" / "sample"

CONFIGURATION_ERRORS = [
    (["trian"], "Did you mean 'train'?"),
    (["model=lenett"], "Did you mean 'lenet'?"),
    (["optimizer=sdg"], "Did you mean 'sgd'?"),
    (["experiment=smoek"], "Did you mean 'smoke'?"),
    (["modle=lenet"], "Did you mean 'model'?"),
    (["train.epoch=3"], "Did you mean 'epochs'?"),
    (["lr=0.1"], "Did you mean 'optimizer.lr'?"),
    (["optimizer.momentun=0.9"], "Did you mean 'momentum'?"),
    (["+train.epoch=3"], "Did you mean 'epochs'?"),
    (["+data.resise=28"], "Did you mean 'resize'?"),
    (["+foo=1"], "There is no key 'foo'"),
    (["+model.widht=2"], "lenet takes no argument 'model.widht'"),
    (["train.epochs=many"], "train.epochs: Value 'many'"),
    (["optimizer.lr=fast"], "optimizer.lr: Value 'fast'"),
    (["optimizer.lr=-1"], "optimizer.lr=-1 is out of range. It must be above 0."),
    (["train.epochs=0"], "train.epochs=0 is out of range. It must be at least 1."),
    (["data.validation=60001"], "It must be at most 59999"),
    (["model=alexnet", "data.resize=8"], "The smallest size is data.resize=67."),
    (["model=alexnet", "model.dropout=2"], "dropout"),
    (["train.epochs"], "'train.epochs' is not an override"),
    (["train.init=xavier"], "Did you mean 'xavier_uniform'?"),
    (["data", "fashionmnist"], "Did you mean 'fashion_mnist'?"),
    (["--config-dir", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("arguments", "message"), CONFIGURATION_ERRORS, ids=lambda value: str(value)[:40])
def test_a_configuration_error_is_one_helpful_block(
    cnnbench: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = cnnbench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("cnnbench: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "outputs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there, so asking for it is no mistake")
def test_a_missing_device_is_named_with_those_present(cnnbench: Command) -> None:
    done = cnnbench("device=cuda", "data=sample")
    assert done.returncode == 2
    assert "device=cuda" in done.stderr
    assert "Present: cpu" in done.stderr


@pytest.mark.parametrize("argument", ["model=lenett", "train.epochs=0", "data.validation=60001", "+foo=1"])
def test_an_error_of_composing_or_of_values_imports_no_torch(tmp_path: Path, argument: str) -> None:
    code = (
        f"import sys; sys.argv[1:] = [{argument!r}]\n"
        "from cnnbench.cli.main import main\n"
        "try:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\n"
        "sys.exit(9 if 'torch' in sys.modules else code)"
    )
    environment = clean_environment(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 2


def test_missing_data_without_network_says_what_was_tried_and_how_to_go_on(cnnbench: Command, tmp_path: Path) -> None:
    done = cnnbench("data=mnist", "model=mlp")
    assert done.returncode == 3
    tried = "train-images-idx3-ubyte.gz: Tried https://ossci-datasets.s3.amazonaws.com/mnist/"
    assert tried in done.stderr
    assert "data=sample" in done.stderr
    assert "CNNBENCH_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((only_run(tmp_path) / "status.json").read_text())["state"] == "failed"


def test_a_file_of_another_data_set_is_named_and_not_used(cnnbench: Command, tmp_path: Path) -> None:
    swapped = tmp_path / "mine" / "train-images-idx3-ubyte.gz"
    swapped.parent.mkdir()
    swapped.write_bytes((SAMPLE / swapped.name).read_bytes())
    done = cnnbench("data", "mnist", CNNBENCH_DATA=str(swapped.parent))
    assert done.returncode == 3
    assert f"{swapped}: holds part of Fashion-MNIST's train-images-idx3-ubyte, not MNIST's" in done.stderr
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
    run = only_run(tmp_path)
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((run / "checkpoints").iterdir()) == []
    assert json.loads((run / "status.json").read_text())["state"] == "failed"


def test_divergence_has_its_exit_code_and_names_epoch_and_steps(cnnbench: Command, tmp_path: Path) -> None:
    done = cnnbench(*TINY, "optimizer.lr=1e30")
    assert done.returncode == 4
    assert re.search(r"in epoch 1, steps [1-8] to [1-8]\.", done.stderr)
    assert "optimizer.lr=1e+30" in done.stderr
    assert list((only_run(tmp_path) / "checkpoints").iterdir()) == []


def test_a_run_that_must_learn_and_does_not_has_the_same_exit_code(cnnbench: Command) -> None:
    done = cnnbench(*TINY, "optimizer.lr=1e-30")
    assert done.returncode == 4
    assert "The training loss did not fall" in done.stderr
    assert "The network learnt nothing" in done.stdout


def test_a_network_that_learnt_in_its_only_step_is_not_said_to_have_learnt_nothing(within: Command) -> None:
    # Training accuracy is the mean as the epoch went: that of one step is from before the step.
    one_step = (
        "data.train_examples=1000",
        "train.batch_size=1000",
        "train.epochs=1",
        "train.fail_if_not_learning=false",
    )
    done = within(*TINY, *one_step, "data.validation=0", "model=simple_cnn", "optimizer.lr=0.2", "seed=2")
    assert done.returncode == 0, done.stderr
    assert "The network learnt nothing" not in done.stdout


def test_a_broken_yaml_of_ones_own_is_named(cnnbench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("name: lenet\nname: lenet\n")
    done = cnnbench("--config-dir", "mine", "model=broken")
    assert done.returncode == 2
    assert "broken.yaml" in done.stderr


def test_debugging_shows_the_traceback_of_an_error_for_people(cnnbench: Command) -> None:
    done = cnnbench("train.epochs=0", CNNBENCH_DEBUG="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nProcess 1 has 70 GiB in use."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
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
        ("experiment=book/alexnt", "experiment=book/alexnt is not known. Did you mean 'book/alexnet'?"),
        ("experiment=alexnet", "experiment=alexnet is not known. Did you mean 'book/alexnet'?"),
        ("experiment=book", "experiment=book is a folder of experiments. Name one: book/alexnet, "),
        ("experiment/book=lenet", "Experiments in folders are chosen by their whole name: experiment=book/NAME."),
    ],
)
def test_an_experiment_in_a_folder_is_found_whatever_was_mistyped(within: Command, override: str, told: str) -> None:
    done = within(override)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    shell = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -m cnnbench models'
    command = ["sh", "-c", shell, sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    said = "cnnbench: The working folder is gone. Change to another.\n"
    assert (done.returncode, done.stderr) == (2, said)
