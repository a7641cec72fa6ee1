"""The results as Markdown: figures, missing runs, and untrusted text of runs."""

import re
from typing import Any

import pytest
from helpers.fake_records import FakeEpochs, make_record, make_records
from helpers.reproduced_statements import COMPUTED, JOBS, STATEMENTS

from cnnbench import config
from cnnbench.cli.hydra_app import compose_config
from cnnbench.reports.reproduction.arms import sort_runs
from cnnbench.reports.reproduction.results import judge_runs
from cnnbench.runs.records import Record

HOSTILE = "</td></svg><script>alert(1)</script>|`$x_1$`\x1b[31m"


def judge(runs: list[Record], scale: str = "full", reduced: str = "") -> tuple[str, str]:
    experiments = sort_runs(runs, JOBS, dict.fromkeys(JOBS, reduced))
    heading = {"command": "cnnbench reproduce", "scale": scale}
    return judge_runs(STATEMENTS, COMPUTED, experiments, runs, heading)


def write(runs: list[Record], scale: str = "full", reduced: str = "") -> str:
    return judge(runs, scale, reduced)[1]


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_book_row_has_our_mean_the_book_runs_and_the_verdict() -> None:
    runs = make_records("book/lenet", {}, [0.776, 0.778, 0.780], epochs=FakeEpochs(epoch_s=1.5))
    text = write(runs)
    (line,) = lines(text, "| LeNet |")
    assert line == "| LeNet | 0.7780 ± 0.0020 | 3 | 0.776, 0.779 | within | 1.5 ± 0 | 30 s |"
    assert lines(text, "| ResNet-18 |") == ["| ResNet-18 |  | 0 | 0.919, 0.893 | not run |  |  |"]
    assert lines(text, "| RegNetX-32 |") == ["| RegNetX-32 |  | 0 | not known | not run |  |  |"]


def test_reduction_stands_beside_the_figure() -> None:
    runs = make_records("book/lenet", {}, [0.5]) + make_records("claims/padding", {}, [0.5])
    text = write(runs, "reduced", "train.epochs=1")
    (line,) = lines(text, "| LeNet |")
    assert line.endswith("| not comparable | 2 | 10 s | train.epochs=1 |")
    assert "`claims/padding`, reduced by `train.epochs=1`:\n\n| test accuracy |" in text
    assert "`claims/pooling`, reduced by `train.epochs=1`, not run." in text


def test_failed_seeds_are_listed_with_reason() -> None:
    status = {"error": "Out of memory.\nMore.", "exit_code": 2}
    failed: dict[str, Any] = {"state": "failed", "status": status}
    runs = make_records("book/lenet", {}, [0.8, 0.9])
    runs += [make_record("book/lenet", {}, seed, **failed) for seed in (2, 3)]
    text = write([*runs, make_record("book/nin", {}, **failed)])
    (lenet,), (nin,) = lines(text, "| LeNet |"), lines(text, "| NiN |")
    assert lenet.endswith("| 20 s | 2 failed (Out of memory) |")
    assert nin == "| NiN |  | 0 | 0.865, 0.790 |  |  |  | 1 failed (Out of memory) |"


def test_every_claim_has_row_and_section() -> None:
    text = write(make_records("claims/pooling", {"model.pooling": "max"}, [0.8, 0.82]))
    for number, claim in STATEMENTS.claims.items():
        (row,) = lines(text, f"| {number}. ")
        assert row.endswith(("repeated |", "undecided |", "in part |"))
        section = text.partition(f"\n### {number}. ")[2].partition("\n###")[0]
        assert re.search(r"\n\nVerdict: \*\*[a-z ]+\*\*.\n\n- ", section)
        assert len(lines(section, "- ")) == len(claim.findings)
        stated = [finding for finding in claim.findings if finding.stated]
        assert section.count(" Stated: ") == len(stated)
        for name in claim.experiments:
            assert f"\n\n`{name}`" in section
    assert "Stated: at least three points more. **undecided**.\n" in text


def test_arms_of_an_experiment_are_a_table() -> None:
    epochs = FakeEpochs(train_accuracy=0.9)
    runs = make_records("claims/pooling", {"model.pooling": "max"}, [0.8, 0.82], epochs=epochs)
    on_gpu = {"device": "cuda"}
    runs += make_records("claims/pooling", {"model.pooling": "min"}, [0.1], result=on_gpu)
    runs.append(make_record("claims/pooling", {"model.pooling": "min"}, 1, state="not begun"))
    text = write(runs)
    header = "| model.pooling | test accuracy | seeds | train less test | s per epoch |"
    assert f"`claims/pooling`:\n\n{header} MiB of tensors | others |\n" in text
    (line,) = lines(text, "| max |")
    assert line == "| max | 0.8100 ± 0.0141 | 2 | 0.0900 ± 0.0141 | 2 ± 0 |  |  |"
    (line,) = lines(text, "| min |")
    assert line.endswith("|  (measured at most 1.50 GiB) | 1 not begun |")


def test_memory_is_estimated_from_the_configuration() -> None:
    zeros = {"model.padding_mode": "zeros"}
    runs = make_records("claims/padding", zeros, [0.8, 0.8], result={"precision": "bf16"})
    for run in runs:
        run.config.update(config.to_plain(compose_config(list(run.overrides))))
    assert "| zeros | 0.8000 ± 0.0000 | 2 | 0.0000 ± 0.0000 | 2 ± 0 | 4.9 |" in write(runs)
    runs[0].config["model"] = {"name": "mine:Network"}  # untrusted code, which must not run
    assert "| zeros | 0.8000 | 1 | 0.0000 | 2 |\n" in write(runs[:1])


def test_results_list_command_machine_and_versions() -> None:
    runs = make_records(
        "book/lenet", {}, [0.7, 0.8], environment={"commit": "a" * 40, "cnnbench": "1"}
    )
    runs += make_records("book/nin", {}, [0.7], environment={"commit": "b" * 40, "chip": "another"})
    runs.append(make_record("book/nin", {}, 1, state="not begun"))
    text = write(runs)
    for fact in (
        "command: cnnbench reproduce",
        "trained: 4 runs: 3 finished, 1 not begun; 30 s in all",
        "machine: cpu (a chip), fp32; cpu (another), fp32",
        "versions: cnnbench 1, torch 2.9; cnnbench None, torch 2.9",
        f"commit: {'a' * 12}; {'b' * 12}",
    ):
        assert f"\n- {fact}\n" in text
    assert re.search(r"\n- made: \d{4}-\d\d-\d\d \d\d:\d\d\+", text)
    assert "- trained: none yet\n" in write([])


SCALES = {"full": "", "reduced": "reduced scale", "smoke": "smoke scale"}


@pytest.mark.parametrize(("scale", "words"), SCALES.items())
def test_results_begin_with_their_scale(scale: str, words: str) -> None:
    opening = write([], scale).partition("- command")[0]
    assert opening.startswith("# Results\n\nThe networks of Dive into Deep Learning")
    assert words in opening
    assert ("smoke" in opening or "reduced" in opening) == bool(words)


def test_verdicts_for_the_terminal_have_one_line_each() -> None:
    verdicts, _ = judge(make_records("book/lenet", {}, [0.776, 0.778, 0.780]))
    first, *claims, last = verdicts.splitlines()
    assert first == "LeNet     0.7780 ± 0.0020  within"
    assert [line.split()[1] for line in claims] == list(STATEMENTS.claims)
    assert re.fullmatch("claim 9 +repeated", claims[-2])  # a finding without a range is not judged
    assert last == "3 runs: 3 finished; 30 s in all"


def test_text_of_a_run_is_escaped() -> None:
    where = {"chip": HOSTILE, "commit": HOSTILE, "precision": HOSTILE}
    runs = make_records("book/lenet", {"data": HOSTILE}, [0.5], environment=where)
    runs += make_records(
        "claims/pooling", {"model.pooling": HOSTILE}, [0.5, 0.6], environment=where
    )
    status = {"error": HOSTILE, "exit_code": 2}
    failed: dict[str, Any] = {"state": "failed", "status": status}
    text = write([*runs, make_record("book/nin", {}, **failed)])
    assert not re.search(r"(?<!\\)<", text.replace("<br>", ""))
    assert "\x1b" not in text
    (line,) = lines(text, "| NiN |")
    assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"\|", lines(text, "| LeNet")[1]))
