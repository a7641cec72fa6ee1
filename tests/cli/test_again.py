"""`cnnbench again`: a new run with a recorded configuration and changes to it."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.command import Command, find_only_run
from helpers.compare_runs import find_differences
from helpers.image_folders import fill
from helpers.small_runs import SMALL, Runs, read_files

from cnnbench.cli.again import AGAIN_OVERRIDES
from cnnbench.config import GROUPS, KEYS, is_below
from cnnbench.runs.reading import read_config
from cnnbench.runs.records import read_records


@pytest.fixture
def recorded(finished_run: Path) -> Path:
    return finished_run


def write_config(run: Path, **groups: dict[str, object]) -> None:
    """Change values in the config.yaml of a run."""
    values = read_config(run)
    for group, changes in groups.items():
        values[group] |= changes
    (run / "config.yaml").write_text(yaml.safe_dump(values))


def test_again_without_changes_trains_to_the_same_bits(
    within: Command, recorded: Path, tmp_path: Path
) -> None:
    before = read_files(recorded)
    done = within("again", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("A new run with the configuration of run ...\nmlp on part of")
    run = find_only_run(tmp_path)
    assert run.parent.name == "mlp-sample-28px"
    assert find_differences(run, recorded) == []
    assert read_files(recorded) == before
    assert done.stdout.splitlines()[-1] == str(run.relative_to(tmp_path))
    log = (run / "train.log").read_text().splitlines()
    assert [line.partition(" INFO ")[2] for line in log] == done.stdout.splitlines()[1:]
    assert json.loads((run / "environment.json").read_text())["command"] == "cnnbench again run"


def test_changes_are_applied_and_all_else_stays(
    within: Command, recorded: Path, tmp_path: Path
) -> None:
    done = within(
        "again", "run", "seed=3", "train.epochs=1", "optimizer.lr=0.02", "hydra.run.dir=new"
    )
    assert done.returncode == 0, done.stderr
    expected = read_config(recorded)
    expected["seed"], expected["train"]["epochs"], expected["optimizer"]["lr"] = 3, 1, 0.02
    new = read_config(tmp_path / "new")
    assert {**new, "sweep": ""} == {**expected, "sweep": ""}


def test_choice_replaces_its_group(within: Command, recorded: Path, tmp_path: Path) -> None:
    words = ("optimizer.betas=[0.8,0.9]", "optimizer=adam", "scheduler=step", "hydra.run.dir=new")
    assert within("again", "run", *words).returncode == 0
    new, before = read_config(tmp_path / "new"), read_config(recorded)
    assert new["optimizer"] == {
        **{"name": "adam", "lr": 0.001, "betas": [0.8, 0.9]},
        **{"eps": 1e-8, "weight_decay": 0.0},
    }
    assert new["scheduler"]["name"] == "step"
    assert new["train"] == before["train"]


def test_values_of_the_recipe_stay_with_another_network(
    within: Command, recorded: Path, tmp_path: Path
) -> None:
    assert within("again", "run", "model=lenet_relu", "hydra.run.dir=new").returncode == 0
    new, before = read_config(tmp_path / "new"), read_config(recorded)
    assert new["model"]["name"] == "lenet_relu"
    assert "widths" not in new["model"]
    assert [new[group] for group in ("data", "optimizer", "train")] == [
        before[group] for group in ("data", "optimizer", "train")
    ]


@pytest.mark.parametrize(
    "changes", [("model=lenet_relu",), ("optimizer=adam", "seed=1")], ids=" ".join
)
def test_command_of_the_report_has_the_configuration_of_the_new_run(
    changes: tuple[str, ...], within: Command, tmp_path: Path
) -> None:
    recorded = [word for word in SMALL if not word.startswith("train.epochs")]
    assert within(*recorded, "train.epochs=1", "hydra.run.dir=run", "sweep=mine").returncode == 0
    assert within("again", "run", *changes, "hydra.run.dir=new").returncode == 0
    (line,) = re.findall(r"^the best: cnnbench (.*)$", within("report", "new").stdout, re.MULTILINE)
    printed = yaml.safe_load(within(*shlex.split(line), "--cfg", "job", "--resolve").stdout)
    new = read_config(tmp_path / "new")
    for group in ("model", "optimizer", "train", "seed"):
        assert printed[group] == new[group]
    assert printed["data"]["resize"] == new["data"]["resize"]


def test_same_command_resumes_or_reports_the_new_run(
    within: Command, recorded: Path, runs: Runs, tmp_path: Path
) -> None:
    runs.copy("in_second_epoch", tmp_path / "new")
    again = ("again", "run", "hydra.run.dir=new")
    assert "Resumes after 1 epoch and" in within(*again).stdout
    assert find_differences(tmp_path / "new", recorded) == []
    done = within(*again)
    assert (done.returncode, done.stdout.startswith("new is finished with")) == (0, True), done
    assert within(*again, "seed=1").returncode == 2


def test_job_of_a_sweep_becomes_a_single_run(within: Command, tmp_path: Path) -> None:
    assert within("-m", *SMALL, "sweep=mine", "seed=0").returncode == 0
    (job,) = (path.parent for path in tmp_path.glob("outputs/sweeps/mine/*/status.json"))
    assert within("again", str(job), "hydra.run.dir=new").returncode == 0
    assert read_config(tmp_path / "new")["sweep"] != "mine"
    assert not any(word.startswith("sweep") for word in read_records(tmp_path / "new")[0].overrides)
    assert find_differences(tmp_path / "new", job) == []


@pytest.mark.parametrize(
    ("word", "message"),
    [("train.epoch=3", "There is no key 'train.epoch'. Did you mean 'train.epochs'?"),
     ("train.epochs=0", "train.epochs=0 is out of range. It must be at least 1."),
     ("train.epochs=1,2", "train.epochs=1,2 gives several values, as for a sweep."),
     ("optimizer.betas=[0.9,0.9]", "There is no key 'optimizer.betas'."),
     ("optimizer=adm", "optimizer=adm is not known. Did you mean 'adam'?"),
     ("data=folder", "data=folder needs data.path=DIR, the folder"),
     ("experiment=smoke", "experiment cannot be changed in a recorded configuration. Allow"),
     ("+train.epochs=3", "+train.epochs cannot be changed in a recorded configuration."),
     ("epochs", "'epochs' is not an override. Write KEY=VALUE, such as train.epochs=3."),
     ("--plott", "There is no option --plott of cnnbench again. Did you mean '--plot'?")],
)  # fmt: skip
@pytest.mark.usefixtures("recorded")
def test_wrong_change_is_refused(word: str, message: str, within: Command, tmp_path: Path) -> None:
    done = within("again", "run", word)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "outputs").exists()


def test_damaged_or_missing_configuration_is_reported(within: Command, recorded: Path) -> None:
    (recorded / "config.yaml").write_text("model: [")
    done = within("again", "run")
    assert (done.returncode, "run/config.yaml cannot be used: it is not YAML" in done.stderr) == (
        2,
        True,
    ), done.stderr
    (recorded / "config.yaml").unlink()
    done = within("again", "run")
    assert (done.returncode, "run/config.yaml cannot be used: " in done.stderr) == (2, True)


def test_custom_model_is_confirmed_by_flag_or_name(within: Command, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("from cnnbench.models.mlp import MLP\nclass Net(MLP): pass\n")
    assert within(*SMALL, "model.name=my:Net", "hydra.run.dir=run").returncode == 0
    done = within("again", "run", "seed=1")
    assert done.stderr == (
        "cnnbench: run runs code from outside cnnbench: model.name=my:Net. If you trust it: "
        "cnnbench again run --allow-custom-model seed=1\n"
    )
    for word in ("--allow-custom-model", "model.name=my:Net", "model=lenet_relu"):
        done = within("again", "run", word)
        assert done.returncode == 0, done.stderr


def test_recorded_folder_outside_is_confirmed_and_a_given_one_is_not(
    within: Command, recorded: Path, tmp_path: Path
) -> None:
    write_config(recorded, data={"root": "/mine"})
    done = within("again", "run", "seed=1")
    assert done.returncode == 2
    assert "If you trust it: cnnbench again run data.root=/mine seed=1" in done.stderr
    photos = tmp_path / "photos"
    fill(photos, {"Bag": 6, "Sandal": 6}, "L")
    words = ("data=folder", f"data.path={photos}", "data.resize=28", "train.epochs=1")
    done = within("again", "run", *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("word", ["hydra.run.dir=/etc", "data.path=${oc.env:SECRET}", "a: ["])
def test_recorded_overrides_are_only_shown(
    word: str, within: Command, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "xyzzy")
    (recorded / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([word, *SMALL]))
    done = within("again", "run")
    assert done.returncode == 0, done.stderr
    new = find_only_run(tmp_path)
    assert find_differences(new, recorded) == []
    assert not any(b"xyzzy" in content for content in read_files(new).values())


def test_link_out_of_the_run_is_refused(within: Command, recorded: Path, tmp_path: Path) -> None:
    shutil.move(recorded / "config.yaml", tmp_path / "elsewhere.yaml")
    (recorded / "config.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    done = within("again", "run")
    assert (done.returncode, "a link that leads out of run" in done.stderr) == (2, True)


def test_every_key_but_those_of_sweeps_and_experiments_may_change() -> None:
    patterns = [pattern.removesuffix(".*") for pattern in AGAIN_OVERRIDES]
    fixed = {key for key in KEYS | GROUPS if not is_below(key, patterns)}
    assert fixed == {"experiment", "sweep", "sweep_on_error"}
