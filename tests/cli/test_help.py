"""The help of commands: its form, its width and its examples."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.command import Command

from cnnbench.cli.options import PARSERS

COMPOSING = ("train", "summary", "benchmark", "lr-find", "gradcheck")


def examples(text: str) -> list[list[str]]:
    """Return the arguments of the examples in a help, without comments and pipes."""
    below = text.lower().partition("examples:")[2]
    lines = re.findall(r"^  (cnnbench .*|cnnbench)$", below, re.MULTILINE)
    return [shlex.split(re.split(r" {2,}| \| ", line)[0])[1:] for line in lines]


def test_overview_fits_one_screen(within: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = within("--help")
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines), len(examples(done.stdout))) == (0, 24, 5)
    assert max(map(len, lines)) <= 80
    places = ("COMMAND --help", "cnnbench models", "cnnbench data", "--info", "--cfg job", "docs/")
    assert [place for place in places if place not in done.stdout.replace("\n", " ")] == []
    monkeypatch.setenv("COLUMNS", "30")
    for line in ("-h", "model=nonsense --help", "--plott --help -m", "--help --config-dir"):
        assert within(*line.split()).stdout == done.stdout


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", PARSERS)
def test_help_of_each_command_has_the_same_form(
    command: str, columns: int, within: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = within(command, "nowhere", "--topk", "x=", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= min(columns, 100)
    assert re.match(rf"usage: cnnbench {command} .*\[options\]\n\n[A-Z]", done.stdout)
    assert "\n\noptions:\n  " in done.stdout
    assert len(examples(done.stdout)) == 2
    assert "%%" not in done.stdout
    assert not re.search(r"directory \[|as_json|epoch_limit_s|None|SUPPRESS", done.stdout)


@pytest.mark.parametrize("command", ["", *PARSERS])
def test_examples_in_help_are_valid(command: str, within: Command) -> None:
    for words in examples(within(*filter(None, [command]), "--help").stdout):
        name = words[0] if words and words[0] in PARSERS else "train"
        rest = words[1:] if words[:1] == [name] else words
        if name in COMPOSING:
            own = {"--depth", "--layer", "--json", "-m"}.intersection(rest)
            composed = [word for word in rest if "," not in word and not own]
            done = within(name, *composed, "--cfg", "job")
            assert (done.returncode, done.stderr) == (0, ""), words
        PARSERS[name]().read(rest)


def test_train_help_lists_choices_as_they_are_typed(
    within: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("")
    done = within("train", "--help", "--config-dir", "mine")
    optimizers = "adagrad, adam, adamw, momentum, muon, nesterov, rmsprop, sgd"
    assert f"\n  optimizer             {optimizers}\n" in done.stdout
    assert {"book/alexnet,", "claims/init,", "demo,", "own,"} <= set(done.stdout.split())
    assert "own," not in within("train", "--help", "--config-dir", "nowhere").stdout.split()


def test_hydra_help_and_info_are_printed(within: Command) -> None:
    assert "== Flags ==" in within("--hydra-help").stdout
    assert "name: mlp" in within("model=mlp", "--info").stdout
