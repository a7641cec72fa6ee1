"""Untrusted directories of sweeps can set training values and nothing else."""

import json
import os
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers.in_process import run_in_process
from helpers.small_runs import SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from cnnbench import config
from cnnbench.cli.hydra_app import compose_config
from cnnbench.config import without_hydra
from cnnbench.errors import CnnbenchError, ConfigError
from cnnbench.sweeps.untrusted import UntrustedSweepPolicy

SECRET = "hush-hush"


def make_sweep(folder: Path, jobs: Any) -> Path:
    sweep = folder / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(jobs if isinstance(jobs, str) else json.dumps({"jobs": jobs}))
    return sweep


def resume_sweep(folder: Path, *more: str) -> tuple[int, str]:
    done = run_in_process("resume", "sweep", *more, folder=folder, SECRET=SECRET)
    assert "Traceback" not in done.stderr, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


REFUSED = {
    "callback": "+hydra.callbacks.x._target_=own.Evil",
    "launcher": "hydra/launcher=basic",
    "part of Hydra": "+model@hydra.job.env_set=mlp",
    "environment": "sweep=${oc.env:SECRET}",
    "environment in a list": "model.widths=[8,'${oc.env:SECRET}']",
    "escaped reference": "sweep=\\${oc.env:SECRET}",
    "escaped brace": "sweep=$\\{oc.env:SECRET\\}",
    "experiment elsewhere": "experiment='book/../../evil'",
    "experiment by its path": "experiment='/evil'",
    "mapping": "data={path: /elsewhere}",
    "function": "data.path=str(/elsewhere)",
    "blank before a key": " data.path=/elsewhere",
    "deletion": "~tracker",
    "new key": "+x=1",
    "several values": "seed=1,2",
    "number of too many digits": f"seed={'9' * 5000}",
}


@pytest.mark.parametrize("override", REFUSED.values(), ids=REFUSED)
def test_override_other_than_plain_values_is_refused(tmp_path: Path, override: str) -> None:
    sweep = make_sweep(tmp_path, {"harmless": [*SMALL], "job": [*SMALL, override]})
    code, output = resume_sweep(tmp_path)
    (as_composed,) = config.quote_texts([override])  # invalid values become texts
    assert (code, as_composed.lstrip("+")[:150] in output) == (2, True), output
    assert [path.name for path in sweep.iterdir()] == ["sweep.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


FOLDER = ["data=folder", "data.path={}"]
ASKS = {
    "images": (FOLDER, "/my photos, all"),
    "images, in a number": (FOLDER, "/2024_11_24"),
    "images at home": (["data=folder", "data.path= {}"], "~/photos"),
    "images above": (["data=folder", "++data.path={}"], "a/../../photos"),
    "data": (["data=sample", "data.root={}"], "here"),
    "server": (["tracker=mlflow", "tracker.mlflow.uri={}"], "http://127.0.0.1:9"),
    "network": (["model.name={}", "+model.x=1"], "own:Net"),
}


@pytest.mark.parametrize(("overrides", "value"), ASKS.values(), ids=ASKS)
def test_outside_places_and_code_need_the_printed_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: Sequence[str], value: str
) -> None:
    seen = []

    def note(composed: Any, claimed: object, plot: bool) -> float:
        seen.append(OmegaConf.to_yaml(without_hydra(composed), resolve=True))
        return 0.0

    monkeypatch.setattr("cnnbench.cli.compose.train_job", note)
    monkeypatch.setattr("cnnbench.training.preflight.check", lambda *_, **__: None)
    sweep = make_sweep(tmp_path, {"job": [word.format(config.quote(value)) for word in overrides]})
    code, output = resume_sweep(tmp_path, "--plot")
    assert (code, value in output, [path.name for path in sweep.iterdir()]) == (
        2,
        True,
        ["sweep.json"],
    )
    again = output.partition("If you trust it: cnnbench resume sweep --plot ")[2]
    code, output = resume_sweep(tmp_path, "--plot", *shlex.split(again))
    assert (code, [value in text for text in seen]) == (0, [True]), output


def test_value_that_is_not_recorded_confirms_nothing(tmp_path: Path) -> None:
    make_sweep(tmp_path, {"a": ["data=folder", "data.path=/photos"]})
    code, output = resume_sweep(tmp_path, "data.path=/others")
    assert (code, "have not begun" in output) == (2, True), output
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["sweep.json"]


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "model=mlp",
            "model.widths=[8,16]",
            "optimizer=adam",
            "optimizer.betas=[0.9,0.99]",
            "++optimizer.lr=1e-3",
        ],
        [
            "experiment=book/lenet",
            "tracker=[tensorboard]",
            "train.grad_clip_norm=null",
            "device.cuda_graphs=False",
        ],
        [
            "tracker=mlflow",
            "tracker.mlflow.experiment='my: #1'",
            "scheduler=multistep",
            "scheduler.milestones=[1.5,2]",
        ],
        [
            "data=folder",
            "data.path='2024_11_24'",
            "train.checkpoint_every.minutes=.5",
            "sweep='a, b..c'",
        ],
    ],
)
def test_plain_values_and_choices_are_allowed(overrides: list[str]) -> None:
    UntrustedSweepPolicy(Path("sweep"), [], [], False, None).check_overrides({"job": overrides})
    assert config.load_config(config.to_plain(compose_config(overrides)))


def test_groups_of_the_user_need_config_dir(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "hydra").mkdir()
    jobs = {"job": ["+mine=a"]}
    UntrustedSweepPolicy(Path("sweep"), [], [], False, str(tmp_path)).check_overrides(jobs)
    for folder, override in ((None, "+mine=a"), (str(tmp_path), "hydra=a")):
        policy = UntrustedSweepPolicy(Path("sweep"), [], [], False, folder)
        with pytest.raises(ConfigError, match="Refused override"):
            policy.check_overrides({"job": [override]})


@pytest.mark.parametrize(
    ("asks", "message"),
    [
        ("model: {name: 'own:Evil'}", "model.name=own:Evil"),
        ("hydra: {job: {chdir: true}}", "how Hydra works"),
    ],
)
def test_configurations_of_the_user_give_a_job_no_more_rights(
    tmp_path: Path, asks: str, message: str
) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w')\n")
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{asks}\n")
    make_sweep(tmp_path, {"job": [*SMALL, "experiment=evil"]})
    code, output = resume_sweep(tmp_path, "--config-dir", "mine")
    assert (code, message in output) == (2, True), output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "own.py", "sweep"]


@pytest.mark.parametrize(
    "jobs",
    [
        *("", "[1]", "{}", '{"jobs": 7}', "[" * 100_000),
        *({"job": ["seed=1"] * 2_000}, {"job": ["seed=\ud800"]}),
        *({"../out": []}, {"..": []}, {"": []}, {"a\0b": []}, {"job": "seed=1"}, {"job": [1]}),
    ],
    ids=lambda jobs: str(jobs)[:12],
)
def test_damaged_record_of_jobs_is_refused(tmp_path: Path, jobs: Any) -> None:
    make_sweep(tmp_path, jobs)
    code, output = resume_sweep(tmp_path)
    assert (code, "sweep.json" in output) == (2, True), output
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


@pytest.mark.parametrize("name", ["job", "multirun.yaml", "job/train.log"])
def test_escaping_link_is_refused_before_any_write(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    sweep = make_sweep(tmp_path, {"job": [*SMALL]})
    (sweep / name).parent.mkdir(exist_ok=True)
    (sweep / name).symlink_to(victim)
    code, output = resume_sweep(tmp_path)
    assert (code, f"{name} is a link that leads out of sweep" in output) == (2, True), output
    assert list(victim.iterdir()) == []


def test_recorded_name_of_a_job_is_ignored(
    tmp_path: Path,
) -> None:
    sweep = make_sweep(tmp_path, {"harmless": [*SMALL]})
    code, output = resume_sweep(tmp_path)
    assert (code, "1 finished, 1 not begun" in output) == (0, True), output
    assert not (sweep / "harmless").exists()


def test_report_follows_no_links_and_prints_no_control_characters(
    tmp_path: Path,
) -> None:
    sweep = make_sweep(tmp_path, {"job\x1b[2J": ["seed=1\x1b[2J"], "other": ["seed=2"]})
    (tmp_path / "outside").write_text("mine")
    (sweep / "sweep.csv").symlink_to(tmp_path / "outside")
    for pid in range(os.getpid(), os.getpid() + 2_000):  # any of the next processes may write
        (sweep / f".sweep.csv.{pid}.tmp").symlink_to(tmp_path / "outside")
    done = run_in_process("report", "sweep", folder=tmp_path)
    assert (done.returncode, "seed=1?[2J" in done.stdout, "\x1b" in done.stdout) == (0, True, False)
    assert (tmp_path / "outside").read_text() == "mine"


AROUND = (
    "[{}]",
    "[[{}]]",
    "str({})",
    "choice({})",
    "sort({})",
    "{{path: {}}}",
    "{{name: folder, path: {}}}",
    "a,{}",
)
REFERENCES = (
    "${oc.env:SECRET}",
    "${oc.decode:${oc.env:SECRET}}",
    "a${oc.env:SECRET}",
    "${data.root}",
)
OUTSIDE = ("/elsewhere", "~/elsewhere", "../elsewhere", "here/../../elsewhere", "own:Evil")
TEXTS = (
    "sweep",
    "data.path",
    "data.root",
    "tracker.mlflow.uri",
    "tracker.mlflow.experiment",
    "model.name",
)
OTHERS = (
    "seed",
    "model.widths",
    "data",
    "tracker",
    "experiment",
    "hydra.job.name",
    "hydra/launcher",
    "x",
    "model.x",
)


def draw_mostly(usual: str, *odd: str) -> st.SearchStrategy[str]:
    """Draw `usual` in three of four cases, so that most examples are odd in only one way."""
    return st.sampled_from([usual] * 3 * len(odd) + list(odd))


@st.composite
def draw_spelling(draw: st.DrawFn, value: str) -> str:
    """Draw a spelling of a value."""
    escape = draw(st.sampled_from(["\\", "\\\\"]))
    escaped = draw(st.sets(st.sampled_from("${}/.:")) | st.just(set()))
    value = "".join(escape + letter if letter in escaped else letter for letter in value)
    quote = draw(st.sampled_from(["", "'", '"']))
    value = draw(draw_mostly("{}", *AROUND)).format(f"{quote}{value}{quote}")
    return f"{draw(draw_mostly('', ' '))}{value}"


hostile = st.builds(
    lambda before, key, package, value: f"{before}{key}{package}={value}",
    draw_mostly("", "+", "++", "~", " "),
    st.sampled_from(TEXTS) | draw_mostly("sweep", *OTHERS),
    draw_mostly("", "@data", "@", " "),
    st.sampled_from([*REFERENCES, *OUTSIDE]).flatmap(draw_spelling),
)
compose_default = cache(lambda: compose_config([]))


def compose_recorded(overrides: list[str]) -> DictConfig | str:
    """Compose a recorded job; return the message if it is refused."""
    policy = UntrustedSweepPolicy(Path("sweep"), [], [], False, None)
    try:
        policy.check_overrides({"job": overrides})
        composed = compose_config(overrides)
        policy.check_job(composed, compose_default(), config.load_config(config.to_plain(composed)))
    except CnnbenchError as error:
        return str(error)
    return composed


@pytest.mark.parametrize("examples", [30, pytest.param(1_000, marks=pytest.mark.slow)])
def test_every_spelling_of_a_forbidden_override_is_refused(
    examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile)
    def check(override: str) -> None:
        composed = compose_recorded(["tracker=mlflow", override])
        if isinstance(composed, str):
            assert SECRET not in composed
        else:
            assert SECRET not in OmegaConf.to_yaml(without_hydra(composed), resolve=True)
            path = composed.data.get("path") or ""
            assert not path.startswith(("/", "~"))
            assert "../" not in path
            assert composed.data.get("root") is None
            assert composed.tracker.mlflow.uri is None
            assert ":" not in composed.model.name

    check()
