"""Directories of sweeps that may be anyone's: they say what to train with, and nothing else happens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from forking import ForkServer
from small_runs import SMALL


def make(folder: Path, jobs: Any) -> Path:
    sweep = folder / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(jobs if isinstance(jobs, str) else json.dumps({"jobs": jobs}))
    return sweep


def resumed(forks: ForkServer, folder: Path, *more: str) -> tuple[int, str]:
    done = forks.run("resume", "sweep", *more, folder=folder, SECRET="told")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


REFUSED = {
    "callback": ["+hydra.callbacks.x._target_=own.Evil"],
    "launcher": ["hydra/launcher=basic"],
    "place": ["hydra.sweep.dir=elsewhere"],
    "environment": ["sweep=${oc.env:SECRET}"],
    "environment in a list": ["model.widths=[8,'${oc.env:SECRET}']"],
    "module": ["model.name=own:Evil"],
    "added module": ["++model.name=own:Evil"],
    "data": ["data.root=/elsewhere"],
}


@pytest.mark.parametrize("overrides", REFUSED.values(), ids=REFUSED)
def test_what_is_more_than_values_is_refused_before_any_job(
    forks: ForkServer, tmp_path: Path, overrides: Sequence[str]
) -> None:
    (tmp_path / "own.py").write_text("open('ran', 'w')\n")
    sweep = make(tmp_path, {"harmless": [*SMALL], "job": [*SMALL, *overrides]})
    code, said = resumed(forks, tmp_path)
    assert (code, overrides[0] in said) == (2, True), said
    assert [each.name for each in sweep.iterdir()] == ["sweep.json"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["own.py", "sweep"]


@pytest.mark.parametrize(
    "jobs",
    [
        *("", "[1]", "{}", '{"jobs": 7}', "[" * 100_000),
        *({"../out": []}, {"..": []}, {"": []}, {"a/b": []}, {"job": "seed=1"}, {"job": [1]}, {"job": None}),
    ],
    ids=lambda jobs: str(jobs)[:12],
)
def test_a_damaged_list_of_jobs_is_told(forks: ForkServer, tmp_path: Path, jobs: Any) -> None:
    make(tmp_path, jobs)
    code, said = resumed(forks, tmp_path)
    assert (code, "sweep.json" in said) == (2, True), said
    assert [each.name for each in tmp_path.iterdir()] == ["sweep"]


def test_a_job_that_is_a_link_is_not_followed(forks: ForkServer, tmp_path: Path) -> None:
    sweep = make(tmp_path, {"job": [*SMALL]})
    (tmp_path / "outside").mkdir()
    (sweep / "job").symlink_to(tmp_path / "outside")
    code, said = resumed(forks, tmp_path)
    assert (code, "is a link, and is not followed" in said) == (2, True), said
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_directory_of_a_job_is_named_by_its_overrides_whatever_the_record_says(
    forks: ForkServer, tmp_path: Path
) -> None:
    sweep = make(tmp_path, {"harmless": [*SMALL]})
    code, said = resumed(forks, tmp_path)
    assert (code, "1 finished, 1 not begun" in said) == (0, True), said
    assert not (sweep / "harmless").exists()


def test_names_and_errors_cannot_steer_the_terminal(forks: ForkServer, tmp_path: Path) -> None:
    make(tmp_path, {"job\x1b[2J": ["seed=1\x1b[2J"], "other": ["seed=2"]})
    done = forks.run("report", "sweep", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seed=1?[2J" in done.stdout
    assert "\x1b" not in done.stdout
