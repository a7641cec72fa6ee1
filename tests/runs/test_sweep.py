"""The record of the jobs of a sweep, and the mark that stops it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnnbench.errors import ConfigError
from cnnbench.runs import sweep


def test_new_jobs_are_added_to_recorded_jobs(tmp_path: Path) -> None:
    sweep.add_jobs(tmp_path / "new", {"a": ["seed=1"], "b": ["seed=2"]})
    sweep.add_jobs(tmp_path / "new", {"b": ["seed=3"], "c": []})
    assert sweep.recorded_jobs(tmp_path / "new") == {"a": ["seed=1"], "b": ["seed=3"], "c": []}


def test_jobs_added_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: sweep.add_jobs(tmp_path, {f"job {number}": []}), range(16)))
    assert len(sweep.recorded_jobs(tmp_path)) == 16


def test_folder_without_a_record_has_no_jobs(tmp_path: Path) -> None:
    assert sweep.recorded_jobs(tmp_path) == {}


def test_damaged_record_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ConfigError, match=r"sweep\.json cannot be read"):
        sweep.add_jobs(tmp_path, {"a": []})
    assert (tmp_path / "sweep.json").read_text() == "{"


def test_stopped_sweep_can_be_allowed_again(tmp_path: Path) -> None:
    assert not sweep.is_stopped(tmp_path)
    sweep.stop(tmp_path)
    assert sweep.is_stopped(tmp_path)
    sweep.allow(tmp_path)
    assert not sweep.is_stopped(tmp_path)
