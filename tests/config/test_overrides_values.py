"""Texts and numbers in overrides have the same values in all commands."""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.in_process import main
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cnnbench import config
from cnnbench.cli.hydra_app import compose_config
from cnnbench.config import Config
from cnnbench.errors import ConfigError
from cnnbench.runs.directory import resume_command
from cnnbench.sweeps.jobs import list_jobs, quote_path

NUMBER_LIKE = "2024_11_24 2024-11-24 1e3 1E+3 1.50 .5 5. +1 -0 007 03 0x5 1:30 1_0 2024 0.5 nan Inf"
WORDS = "true TRUE on off no y none # a=b =a ~ ~/photos [a 我的照片 é 😀 a&b %d !x * &a"
SIGNS = "it's 50% f(x)"
SPACED = ("a: b", "a #b", "photos (1)", "a b", "a\tb", "a\nb", "- a")
# values as typed, and the texts that they mean
TEXTS = {
    **{text: text for text in (*f"{NUMBER_LIKE} {WORDS} {SIGNS}".split(), *SPACED)},
    "'2024_11_24'": "2024_11_24",
    '"true"': "true",
    "'null'": "null",
    "'a, b'": "a, b",
    "a\\,b": "a,b",
    '"it\'s"': "it's",
    "'it\\'s'": "it's",
    "' a '": " a ",
    " a ": "a",
    "'${oc.env:FROM}/x'": "there/x",
    "${oc.env:FROM}/x": "there/x",
}
MORE = {
    "",
    "'",
    '"',
    "a,b",
    "a\\",
    "\\'",
    "a\\\\",
    "$HOME",
    "$",
    "null",
    "{}",
    "{a: 1}",
    "[1]",
    "x" * 300,
}
ODD = sorted({*TEXTS.values(), *MORE})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM", "there")


def compose_settings(*overrides: str) -> Config:
    return config.load_config(config.to_plain(compose_config(overrides)))


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, Any]:
    return config.as_dict(compose_settings("data=sample", "tracker=mlflow"))


def test_training_reads_each_text_as_typed() -> None:
    keys = ("data.root", "sweep", "tracker.mlflow.uri", "++tracker.mlflow.experiment")
    typed = list(TEXTS)
    for first in range(0, len(typed), len(keys)):
        some = typed[first : first + len(keys)]
        settings = compose_settings(
            "data=sample",
            "tracker=mlflow",
            *(f"{key}={word}" for key, word in zip(keys, some, strict=False)),
        )
        assert settings.tracker.mlflow is not None
        taken = (
            settings.data.root,
            settings.sweep,
            settings.tracker.mlflow.uri,
            settings.tracker.mlflow.experiment,
        )
        assert taken[: len(some)] == tuple(TEXTS[word] for word in some)


@pytest.mark.parametrize(("typed", "text"), TEXTS.items(), ids=ascii)
def test_commands_for_runs_read_each_text_as_typed(
    typed: str, text: str, recorded: Mapping[str, Any]
) -> None:
    for keys in (config.RESUME_OVERRIDES, config.INFERENCE_OVERRIDES):
        changes = config.parse_changes([f"data.root={typed}"], keys, "")
        assert config.apply_overrides(recorded, changes).data.root == text


@pytest.mark.parametrize("key", ["hydra.run.dir", "++hydra.sweep.dir"])
def test_folders_of_hydra_are_read_as_typed(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    plain = {typed: text for typed, text in TEXTS.items() if not text.startswith(("~", "there"))}
    homes = {"~": "/home/somebody", "~/a (1)": "/home/somebody/a (1)", "'~/x'": "/home/somebody/x"}
    for typed, text in {**plain, **homes}.items():
        assert str(config.parse_override(f"{key}={typed}").value()) == text


def test_null_is_not_a_text(recorded: Mapping[str, Any]) -> None:
    assert compose_settings("data=sample", "data.root=null").data.root is None
    with_root = {**recorded, "data": {**recorded["data"], "root": "mine"}}
    assert (
        config.apply_overrides(
            with_root, config.parse_changes(["data.root=null"], ["data.root"], "")
        ).data.root
        is None
    )


@pytest.fixture
def list_data_paths(
    within: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str | None]]:
    """Run a command without training; return the folder of images of each job."""

    def list_paths(*arguments: str) -> list[str | None]:
        paths: list[str | None] = []

        def note(composed: Any, claimed: object, plot: bool) -> float:
            paths.append(config.load_config(config.to_plain(composed)).data.path)
            return 0.0

        monkeypatch.setattr("cnnbench.cli.compose.train_job", note)
        monkeypatch.setattr("cnnbench.training.preflight.check", lambda *_, **__: None)
        done = main(arguments)
        assert done.returncode == 0, done.stderr
        return paths

    return list_paths


@pytest.mark.parametrize("sweep", ["{}, {}, {}, {}, {}, {}, {}", "choice({},{},{},{},{},{},{})"])
def test_sweep_reads_each_text_as_typed(
    list_data_paths: Callable[..., list[str]], sweep: str
) -> None:
    typed = ["2024_11_24", "1e3", "2024", "'a, b'", "true", "007", "${oc.env:FROM}/x"]
    assert list_data_paths("-m", "data=folder", f"data.path={sweep.format(*typed)}") == [
        TEXTS[word] for word in typed
    ]


def test_sweep_of_an_experiment_reads_each_text_as_written(
    list_data_paths: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    params = "{data.path: '2024_11_24,1_0,on'}"
    proposed = f"# @package _global_\nsweep: '1e3'\nhydra: {{sweeper: {{params: {params}}}}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(proposed)
    mine = ("--config-dir", str(tmp_path))
    texts = ["2024_11_24", "1_0", "on"]
    assert list_data_paths("-m", *mine, "data=folder", "experiment=mine") == texts
    assert list_data_paths("resume", "outputs/sweeps/1e3", *mine) == texts


def test_jobs_file_reads_each_text_as_typed_and_resume_keeps_it(
    list_data_paths: Callable[..., list[str]], tmp_path: Path
) -> None:
    typed = ["2024_11_24", "true", "a #b", "我的照片", "'a, b'"]
    Path("jobs").write_text(
        "\n".join(shlex.quote(f"data.path={word}") for word in typed), encoding="utf-8"
    )
    texts = [TEXTS[word] for word in typed]
    assert list_data_paths("-m", "data=folder", "sweep=2024_11_24", "--jobs-file", "jobs") == texts
    assert list_data_paths("resume", "outputs/sweeps/2024_11_24") == texts


def test_list_jobs_reads_text_as_typed() -> None:
    assert list_jobs(["data.root=2024_11_24", "seed=1_0"]) == [
        ["data.root='2024_11_24'", "seed=10"]
    ]


def test_name_of_a_user_experiment_may_look_like_a_number(
    tmp_path: Path, within: Callable[..., Any]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "2024_11_24.yaml").write_text("# @package _global_\nseed: 7\n")
    done = within("--config-dir", str(tmp_path), "experiment=2024_11_24", "--cfg", "job")
    assert (done.returncode, "seed: 7\n" in done.stdout) == (0, True), done.stderr


NUMBERS = {
    "train.epochs": [
        "1_0",
        "+5",
        "03",
        "010",
        "'5'",
        "5.0",
        "1:30",
        "0x5",
        "true",
        "null",
        "",
        "[5]",
    ],
    "train.checkpoint_every.epochs": ["null", "1:30", "~"],
    "optimizer.lr": ["1_0.5", ".5", "1:30.5", "nan", "0x5"],
    "device.compile": ["FALSE", "on", "no", "1", "2"],
    "device.cuda_graphs": ["auto", "on"],
    "device.threads": ["03", "0x5", "2.0"],
    "train.on_nonfinite_loss": ["skip", "on", "1e3"],
}


@pytest.mark.parametrize(
    ("key", "typed"), [(key, typed) for key, words in NUMBERS.items() for typed in words]
)
def test_train_and_resume_read_the_same_value(
    key: str, typed: str, recorded: Mapping[str, Any]
) -> None:
    def value(settings: Callable[[], Config]) -> str:
        try:
            found: Any = config.as_dict(settings())
        except ConfigError:
            return "refused"
        for part in key.split("."):
            found = found[part]
        return repr(found)

    word = f"{key}={typed}"
    resumed = value(
        lambda: config.apply_overrides(
            recorded, config.parse_changes([word], config.RESUME_OVERRIDES, "")
        )
    )
    assert resumed == value(lambda: compose_settings("data=sample", word))


@pytest.mark.parametrize("typed", ["1:30", "0x5"])
def test_invalid_number_is_refused(typed: str, recorded: Mapping[str, Any]) -> None:
    changes = config.parse_changes([f"train.epochs={typed}"], config.RESUME_OVERRIDES, "")
    with pytest.raises(ConfigError, match=rf"^train\.epochs={typed} is not a whole number\.$"):
        config.apply_overrides(recorded, changes)


@pytest.mark.parametrize("typed", ["1,2", "range(1,3)", "glob(*)", "choice(a,b)"])
def test_commands_for_runs_refuse_several_values(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.path=.* gives several values, .*\. Quote a text"):
        config.parse_changes([f"data.path={typed}"], config.RESUME_OVERRIDES, "")


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("data.path='", "data.path=' cannot be read. Quote a text: 'data.path="),
        ("data.path='a'b", "cannot be read. Quote a text: "),
        (
            "data.path=a, b (1)",
            "data.path=a, b (1) cannot be read. Quote a text: \"data.path='a, b (1)'\"",
        ),
        ("data.path=[a, b", "data.path=[a, b cannot be read. Close its brackets"),
        ("optimizer.lr='", "optimizer.lr=' cannot be read. Give one value."),
        (
            "optimizer.lr=1,2",
            "optimizer.lr=1,2 gives several values, as for a sweep. Give one value.",
        ),
        (
            "data.path=a, b",
            "as for a sweep. Quote a text: \"data.path='a, b'\"",
        ),
    ],
)
def test_commands_for_runs_explain_how_to_quote(word: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(advice)):
        config.parse_changes([word], config.RESUME_OVERRIDES, "")


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_text_survives_a_round_trip_through_config_yaml(
    text: str, recorded: Mapping[str, Any]
) -> None:
    settings = config.load_config(
        {**recorded, "data": {**recorded["data"], "root": text}, "sweep": text}
    )
    assert config.load_config(config.parse(config.to_yaml(settings))) == settings


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_printed_resume_command_sets_the_same_text(text: str, recorded: Mapping[str, Any]) -> None:
    tracker = {"mlflow": {"uri": text or "x", "experiment": "cnnbench"}}
    settings = config.load_config(
        {**recorded, "data": {**recorded["data"], "root": text}, "tracker": tracker}
    )
    words = shlex.split(resume_command(Path("run"), settings))
    assert words[:3] == ["cnnbench", "resume", "run"]
    changed = config.apply_overrides(
        recorded, config.parse_changes(words[3:], config.RESUME_OVERRIDES, "")
    )
    assert (changed.data.root, changed.tracker) == (text, settings.tracker)


@pytest.mark.parametrize(
    "path", [*ODD[1:], "${x}", "\\${x}", "a\\\\${x}'", "${", "a\\b${x}\\"], ids=ascii
)
def test_quoted_path_is_read_as_the_same_path(path: str) -> None:
    value = OverridesParser.create().parse_override(f"x={quote_path(Path(path))}").value()
    assert OmegaConf.to_container(OmegaConf.create({"x": value}), resolve=True) == {
        "x": str(Path(path))
    }


@pytest.mark.parametrize("override", ["data.root=\\${oc.env:FROM}", "sweep='\\${oc.env:FROM}'"])
def test_escaped_interpolation_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"\w=\${oc\.env:FROM} cannot be kept: it holds '\${'"):
        compose_settings("data=sample", override)


@pytest.mark.parametrize(
    "spelled",
    ['"\\x24{oc.env:FROM}"', '"\\u0024{oc.env:FROM}"', '"$\\\n  {oc.env:FROM}"', "${oc.env:FROM}"],
)
def test_config_yaml_refuses_every_spelling_of_an_interpolation(spelled: str) -> None:
    with pytest.raises(ConfigError, match="it has aliases, interpolations"):
        config.parse(f"data:\n  root: {spelled}\n")
