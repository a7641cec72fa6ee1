"""The words of a command line that are not overrides."""

import pytest

from cnnbench.cli.options import PARSERS
from cnnbench.cli.words import explain_command
from cnnbench.errors import ConfigError

COMMANDS = ("benchmark", "data", "evaluate", "train")

WRONG = [
    (
        "--epochs=3",
        "There is no option --epochs of cnnbench train. Values are KEY=VALUE: train.epochs=3",
    ),
    (
        "--lr 0.1",
        "There is no option --lr of cnnbench train. Values are KEY=VALUE: optimizer.lr=0.1",
    ),
    ("--batch-size 64", "Values are KEY=VALUE: train.batch_size=64"),
    ("--batch_size=64", "Values are KEY=VALUE: train.batch_size=64"),
    ("--learning-rate 0.1 seed=1", "Values are KEY=VALUE: optimizer.lr=0.1"),
    ("--optimizer.lr 0.1", "Values are KEY=VALUE: optimizer.lr=0.1"),
    ("--model lenet", "Values are KEY=VALUE: model=lenet"),
    ("--path=a(1)", "Values are KEY=VALUE: 'data.path=a(1)'"),
    ("--epochs -m", "Values are KEY=VALUE: train.epochs=..."),
    ("--multirn", "There is no option --multirn of cnnbench train. Did you mean '--multirun'?"),
    ("--multi", "Did you mean '--multirun'?"),
    ("--config_dir x", "Did you mean '--config-dir'?"),
    (
        "--frobnicate",
        "There is no option --frobnicate of cnnbench train. "
        "Values are KEY=VALUE, such as train.epochs=3.",
    ),
    ("-x", "There is no option -x of cnnbench train."),
    ("--cfg jub", "--cfg jub is not known. Did you mean 'job'? Allowed: all, hydra, job."),
    ("--info=x", "--info x is not known. Allowed: all, config, "),
    ("--cfg", "--cfg needs a value: --cfg job"),
    ("-cp x", "Add your own configurations: --config-dir DIR."),
    ("--config-path=x", "Add your own configurations: --config-dir DIR."),
    ("seed=1 train.epochs = 3 model=mlp", "without blanks around =: train.epochs=3"),
    ("train.epochs =3", "without blanks around =: train.epochs=3"),
    ("train.epochs= 3", "without blanks around =: train.epochs=3"),
    ("optimizer.lr = -1", "without blanks around =: optimizer.lr=-1"),
    ("MNIST", "'MNIST' is not an override. Did you mean data=mnist?"),
    ("resnet-18", "Did you mean model=resnet18?"),
    ("gpu", "Did you mean device=cuda?"),
    ("book/lenet", "Did you mean experiment=book/lenet?"),
    ("optimizer.lr", "Did you mean optimizer.lr=...?"),
    ("nonsense", "'nonsense' is not an override. Write KEY=VALUE, such as train.epochs=3."),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_wrong_word_is_reported_with_a_suggestion(words: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        PARSERS["train"]().read(words.split())
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("trian", [], "There is no command 'trian'. Did you mean 'train'?"),
        ("fit", [], "Did you mean 'train'?"),
        ("validate", [], "Did you mean 'evaluate'?"),
        ("LeNet", [], "There is no command 'LeNet'. Did you mean model=lenet?"),
        ("adam", [], "Did you mean optimizer=adam?"),
        ("epochs", ["3"], "Did you mean train.epochs=...?"),
    ],
)
def test_unknown_command_is_reported_with_a_suggestion(
    command: str, arguments: list[str], message: str
) -> None:
    assert message in explain_command(command, arguments, COMMANDS)
