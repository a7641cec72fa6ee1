"""Directories of sweeps that may be anyone's: they say what to train with, and nothing else happens."""

import json
import os
import shlex
import shutil
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_folders import fill
from in_process import run_in_process
from installed import Command
from omegaconf import DictConfig, OmegaConf
from small_runs import SMALL, Runs

from cnnbench import config
from cnnbench.cli.hydra_app import compose_config
from cnnbench.config import without_hydra
from cnnbench.errors import CnnbenchError, ConfigError
from cnnbench.sweeps.untrusted import UntrustedSweepPolicy

SECRET = "hush-hush"


def make(folder: Path, jobs: Any) -> Path:
    sweep = folder / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(jobs if isinstance(jobs, str) else json.dumps({"jobs": jobs}))
    return sweep


def resumed(folder: Path, *more: str) -> tuple[int, str]:
    done = run_in_process("resume", "sweep", *more, folder=folder, SECRET=SECRET)
    assert "Traceback" not in done.stderr, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


REFUSED = {
    "callback": ["+hydra.callbacks.x._target_=own.Evil"],
    "launcher": ["hydra/launcher=basic"],
    "place": ["hydra.sweep.dir=elsewhere"],
    "environment": ["sweep=${oc.env:SECRET}"],
    "environment in a list": ["model.widths=[8,'${oc.env:SECRET}']"],
    "module": ["model.name=own:Evil"],
    "added module": ["++model.name=own:Evil"],
    "module by another key": ["sweep=own:Evil", "model.name=${sweep}"],
    "configuration elsewhere": ["experiment=../../../evil"],
    "configuration by its path": ["experiment='/evil'"],
    "part of Hydra": ["+model@hydra.job.env_set=mlp"],
    "data": ["data.root=/elsewhere"],
    "server": ["seed=1", "tracker=mlflow", "tracker.mlflow.uri=http://127.0.0.1:9"],
    "mapping": ["data={path: /elsewhere}"],
    "mapping of plain values": ["data={name: sample}"],
    "cast": ["data=folder", "data.path=str(/elsewhere)"],
    "cast of a plain value": ["seed=int(3)"],
    "blank before a key": [" data.path=/elsewhere"],
    "escaped reference": ["sweep=\\${oc.env:SECRET}"],
    "escaped brace": ["sweep=$\\{oc.env:SECRET\\}"],
    "quoted reference": ["sweep='\\${oc.env:SECRET}'"],
    "escaped reference in a list": ['model.widths=["\\${oc.env:SECRET}"]'],
    "deletion": ["~tracker"],
    "new key": ["+x=1"],
    "new key of a group": ["++train.x=1"],
    "argument of a custom model": ["+model.x=1"],
    "jobs of a job": ["seed=1,2"],
    "range": ["seed=range(1,3)"],
    "list of paths": ["model.widths=[/elsewhere]"],
    "home": ["sweep='~/x'"],
    "number of too many digits": [f"seed={'9' * 5000}"],
    "choice out of the folder": ["experiment='book/../../evil'"],
}


@pytest.mark.parametrize("overrides", REFUSED.values(), ids=REFUSED)
def test_what_is_more_than_values_is_refused_before_any_job(tmp_path: Path, overrides: Sequence[str]) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w')\n")
    sweep = make(tmp_path, {"harmless": [*SMALL], "job": [*SMALL, *overrides]})
    code, said = resumed(tmp_path)
    assert (code, overrides[-1].lstrip("+")[:150] in said) == (2, True), said
    assert [each.name for each in sweep.iterdir()] == ["sweep.json"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["own.py", "sweep"]


@pytest.mark.parametrize(
    "name",
    ["multirun.yaml", "job/train.log", "job/.hydra", "job/checkpoints", "other", "photos", ".lock"],
)
def test_a_link_that_leads_out_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    sweep = make(tmp_path, {"job": [*SMALL], "other": [*SMALL, "seed=1"]})
    (sweep / name).parent.mkdir(exist_ok=True)
    (sweep / name).symlink_to(victim)
    code, said = resumed(tmp_path)
    assert (code, f"{name} is a link that leads out of sweep" in said) == (2, True), said
    assert list(victim.iterdir()) == []


def test_a_pipe_in_a_sweep_is_refused(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"job": [*SMALL]})
    os.mkfifo(sweep / "multirun.yaml")
    code, said = resumed(tmp_path)
    assert (code, "multirun.yaml is neither a file nor a folder" in said) == (2, True), said


def test_a_run_that_has_not_begun_reads_no_images_from_elsewhere(tmp_path: Path, within: Command) -> None:
    photos = fill(tmp_path / "photos", {"cats": 6, "dogs": 6})
    folder = ("data=folder", f"data.path={photos}", "data.image_size=28")
    small = [word for word in SMALL if not word.startswith("data")]
    done = within(*small, *folder, "data.validation=2", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "status.json").write_text('{"state": "interrupted", "verb": "train"}')
    refused = within("resume", "run")
    assert refused.returncode == 2
    assert f"run reads images from elsewhere: data.path={photos}. If that is yours: " in refused.stderr
    words = shlex.split(refused.stderr.partition("If that is yours: ")[2])
    assert words[:2] == ["cnnbench", "resume"]
    assert within(*words[1:]).returncode == 0


@pytest.mark.parametrize("path", ["/my photos, all", "~/photos", "a/../../photos", "/2024_11_24"])
@pytest.mark.parametrize("spelled", ["data.path={}", "data.path= {}", "++data.path={}"])
def test_images_from_elsewhere_need_the_command_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, spelled: str
) -> None:
    seen = []

    def note(composed: Any, claimed: object, plot: bool) -> float:
        seen.append(config.load(config.to_plain(composed)).data.path)
        return 0.0

    monkeypatch.setattr("cnnbench.cli.compose.train_job", note)
    monkeypatch.setattr("cnnbench.training.preflight.check", lambda settings: None)
    make(tmp_path, {"a": ["data=folder", spelled.format(config.quote(path))], "b": ["data=folder", "data.path=here"]})
    code, said = resumed(tmp_path, "--plot")
    assert code == 2, said
    assert f"sweep reads images from elsewhere: {config.format_override('data.path', path)}. " in said
    told = said.partition("If that is yours: cnnbench resume sweep --plot ")[2]
    code, said = resumed(tmp_path, "--plot", *shlex.split(told))
    assert (code, seen) == (0, [path, "here"]), said


def test_other_images_than_the_recorded_are_no_consent(tmp_path: Path) -> None:
    make(tmp_path, {"a": ["data=folder", "data.path=/photos"]})
    code, said = resumed(tmp_path, "data.path=/others")
    assert code == 2, said
    assert [each.name for each in (tmp_path / "sweep").iterdir()] == ["sweep.json"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mlp", "model.widths=[8,16]", "optimizer=adam", "optimizer.betas=[0.9,0.99]", "++optimizer.lr=1e-3"],
        [
            "experiment=book/lenet",
            "tracker=[tensorboard]",
            "train.grad_clip_norm=null",
            "device.cuda_graphs=False",
            "sweep='a, b'",
        ],
        ["tracker=mlflow", "tracker.mlflow.experiment='my: #1'", "scheduler=multistep", "scheduler.milestones=[1.5,2]"],
        ["data=folder", "data.path='2024_11_24'", "train.checkpoint_every.minutes=.5", "sweep=a..b"],
    ],
)
def test_plain_values_and_choices_are_composed(overrides: list[str]) -> None:
    UntrustedSweepPolicy(Path("sweep"), [], [], allow_custom_model=False, config_dir=None).check_overrides(
        {"job": overrides}
    )
    assert config.load(config.to_plain(compose_config(overrides)))


def test_arguments_of_a_custom_model_and_groups_of_ones_own_are_the_users_to_allow(tmp_path: Path) -> None:
    jobs = {"job": ["model.name=own:Net", "+model.x=[1,{}]", "+mine=a"]}
    (tmp_path / "mine").mkdir()
    plain = {"job": [each.format("2") for each in jobs["job"]]}
    UntrustedSweepPolicy(Path("sweep"), [], [], allow_custom_model=True, config_dir=str(tmp_path)).check_overrides(
        plain
    )
    for allowed, folder in ((False, str(tmp_path)), (True, None)):
        with pytest.raises(ConfigError, match=r"\+m"):
            UntrustedSweepPolicy(Path("sweep"), [], [], allowed, folder).check_overrides(plain)


def mostly(usual: str, *odd: str) -> st.SearchStrategy[str]:
    """Draw one thing in three of four cases, so that most examples are odd in one way alone."""
    return st.sampled_from([usual] * 3 * len(odd) + list(odd))


AROUND = ("[{}]", "[[{}]]", "str({})", "choice({})", "sort({})", "{{path: {}}}", "{{name: folder, path: {}}}", "a,{}")


@st.composite
def spelled(draw: st.DrawFn, value: str) -> str:
    """Draw one of the many ways to write a value."""
    escape = draw(st.sampled_from(["\\", "\\\\"]))
    escaped = draw(st.sets(st.sampled_from("${}/.:")) | st.just(set()))
    value = "".join(escape + each if each in escaped else each for each in value)
    quote = draw(st.sampled_from(["", "'", '"']))
    value = draw(mostly("{}", *AROUND)).format(f"{quote}{value}{quote}")
    return f"{draw(mostly('', ' '))}{value}"


REFERENCES = [
    "${oc.env:SECRET}",
    "${oc.env:SECRET,x}",
    "${oc.decode:${oc.env:SECRET}}",
    "a${oc.env:SECRET}",
    "${data.root}",
]
PATHS = ["/elsewhere", "~/elsewhere", "../elsewhere", "here/../../elsewhere"]
TEXTS = ["sweep", "data.path", "data.root", "tracker.mlflow.uri", "tracker.mlflow.experiment", "model.name"]
OTHERS = [
    "seed",
    "model.widths",
    "data",
    "tracker",
    "experiment",
    "hydra.job.name",
    "hydra/launcher",
    "x",
    "train.x",
    "model.x",
]
hostile = st.builds(
    lambda before, key, package, value: f"{before}{key}{package}={value}",
    mostly("", "+", "++", "~", " "),
    st.sampled_from(TEXTS) | mostly("sweep", *OTHERS),
    mostly("", "@data", "@", " "),
    st.sampled_from([*REFERENCES, *PATHS, "own:Evil"]).flatmap(spelled),
)


@cache
def compose_default() -> DictConfig:
    return compose_config([])


def compose_recorded(overrides: list[str]) -> DictConfig | None:
    """What a recorded job is composed to, or None where that is refused in words."""
    consent = UntrustedSweepPolicy(Path("sweep"), [], [], allow_custom_model=False, config_dir=None)
    try:
        consent.check_overrides({"job": overrides})
        composed = compose_config(overrides)
        consent.check_composed(composed, compose_default())
        config.load(config.to_plain(composed))
    except CnnbenchError as error:
        told = str(error)
    else:
        return composed
    assert SECRET not in told
    return None


def check_spelling(override: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", SECRET)
        composed = compose_recorded(["tracker=mlflow", override])
        if composed is not None:
            assert SECRET not in OmegaConf.to_yaml(without_hydra(composed), resolve=True)
            texts = [
                composed.data.get("path"),
                composed.data.get("root"),
                composed.sweep,
                composed.tracker.mlflow.experiment,
            ]
            assert not [text for text in texts if text and (text.startswith(("/", "~")) or "../" in text)]
            assert ":" not in composed.model.name
            assert composed.tracker.mlflow.uri is None


RANDOM = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@settings(RANDOM, max_examples=30)
@given(hostile)
def test_no_spelling_of_what_is_forbidden_is_composed(override: str) -> None:
    check_spelling(override)


@pytest.mark.slow
@settings(RANDOM, max_examples=1_000)
@given(hostile)
def test_none_of_more_spellings_is_composed(override: str) -> None:
    check_spelling(override)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra mlflow is not installed")
def test_a_server_that_is_named_again_is_told_of_the_jobs(tmp_path: Path) -> None:
    uri = "tracker.mlflow.uri=nonsense://x"  # so it is told, and fails
    make(tmp_path, {"job": [*SMALL, "train.epochs=1", "tracker=mlflow", uri]})
    code, said = resumed(tmp_path, uri)
    assert (code, "The tracker mlflow failed at the start" in said) == (0, True), said


@pytest.mark.parametrize(
    "jobs",
    [
        *("", "[1]", "{}", '{"jobs": 7}', "[" * 100_000),
        *({"job": ["seed=1"] * 2_000}, {"job": ["seed=\ud800"]}),
        *({"../out": []}, {"..": []}, {"": []}, {"a/b": []}, {"job": "seed=1"}, {"job": [1]}, {"job": None}),
    ],
    ids=lambda jobs: str(jobs)[:12],
)
def test_a_damaged_list_of_jobs_is_told(tmp_path: Path, jobs: Any) -> None:
    make(tmp_path, jobs)
    code, said = resumed(tmp_path)
    assert (code, "sweep.json" in said) == (2, True), said
    assert [each.name for each in tmp_path.iterdir()] == ["sweep"]


def test_what_a_configuration_of_ones_own_asks_for_needs_consent_too(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w')\n")
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    evil = "# @package _global_\nmodel: {name: 'own:Evil'}\n"
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(evil)
    make(tmp_path, {"job": [*SMALL, "experiment=evil"]})
    code, said = resumed(tmp_path, "--config-dir", "mine")
    assert (code, "model.name=own:Evil, code that is not cnnbench's" in said) == (2, True), said
    (tmp_path / "mine" / "experiment" / "evil.yaml").write_text(
        "# @package _global_\nhydra: {sweep: {subdir: ../out}}\n"
    )
    code, said = resumed(tmp_path, "--config-dir", "mine")
    assert (code, "it changes how Hydra works" in said) == (2, True), said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine", "own.py", "sweep"]


def test_report_writes_through_no_link(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"job": []})
    (tmp_path / "outside").write_text("mine")
    (sweep / "sweep.csv").symlink_to(tmp_path / "outside")
    for pid in range(os.getpid(), os.getpid() + 2_000):  # of the processes to come
        (sweep / f".sweep.csv.{pid}.tmp").symlink_to(tmp_path / "outside")
    assert run_in_process("report", "sweep", folder=tmp_path).returncode == 0
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "config.yaml", ".hydra/overrides.yaml", "status.json"])
@pytest.mark.parametrize("content", [None, "- !!bool x", "- !!timestamp x", "seed: !!bool x", '"' + "x" * 200_000])
def test_report_survives_whatever_a_file_holds(
    forks: ForkServer, runs: Runs, tmp_path: Path, name: str, content: str | None
) -> None:
    path = runs.copy("finished", tmp_path / "run") / name
    path.unlink()
    os.mkfifo(path) if content is None else path.write_text(content)
    done = forks.start("report", "run", folder=tmp_path).wait(timeout_s=30)
    assert (done.returncode, "1 run: 1 " in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("accuracy", [10**400, float("nan"), "1", None, [0.5]])
def test_report_survives_figures_that_are_none(runs: Runs, tmp_path: Path, accuracy: Any) -> None:
    path = runs.copy("finished", tmp_path / "run") / "result.json"
    path.write_text(json.dumps({"best": {"validation_accuracy": accuracy}, "test_accuracy": accuracy, "wall_s": []}))
    done = run_in_process("report", "run", folder=tmp_path)
    assert (done.returncode, "1 run: 1 finished" in done.stdout) == (0, True), done.stderr


def test_a_job_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"job": [*SMALL]})
    (tmp_path / "outside").mkdir()
    (sweep / "job").symlink_to(tmp_path / "outside")
    code, said = resumed(tmp_path)
    assert (code, "job is a link that leads out of sweep" in said) == (2, True), said
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_directory_of_a_job_is_named_by_its_overrides_whatever_the_record_says(tmp_path: Path) -> None:
    sweep = make(tmp_path, {"harmless": [*SMALL]})
    code, said = resumed(tmp_path)
    assert (code, "1 finished, 1 not begun" in said) == (0, True), said
    assert not (sweep / "harmless").exists()


def test_names_and_errors_cannot_steer_the_terminal(tmp_path: Path) -> None:
    make(tmp_path, {"job\x1b[2J": ["seed=1\x1b[2J"], "other": ["seed=2"]})
    done = run_in_process("report", "sweep", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seed=1?[2J" in done.stdout
    assert "\x1b" not in done.stdout
