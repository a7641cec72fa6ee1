"""The results as Markdown: figures, missing runs, and untrusted text of runs."""

import re
from typing import Any

import pytest
from helpers.fake_records import make_record
from helpers.fake_stored_runs import make_run, make_runs
from helpers.paths import ROOT
from helpers.reproduced_statements import COMPUTED, FULL, PIXELS, STATEMENTS

from cnnbench.reports.reproduction.arms import sort_runs
from cnnbench.reports.reproduction.results import judge_runs, summarize
from cnnbench.reports.reproduction.stored_runs import StoredRun, read_stored_runs

HOSTILE = "</td></svg><script>alert(1)</script>|`$x_1$`\x1b[31m"


def judge(runs: list[StoredRun], is_smoke: bool = False) -> tuple[str, str]:
    experiments = sort_runs(runs, [FULL, PIXELS], STATEMENTS.gpu_minutes, is_smoke=is_smoke)
    return judge_runs(STATEMENTS, COMPUTED, experiments, is_smoke)


def write(runs: list[StoredRun]) -> str:
    return judge(runs)[1]


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def section(text: str, start: str) -> str:
    return text.partition(f"\n{start}")[2].partition("\n##")[0]


def test_book_row_has_our_mean_the_book_runs_and_the_verdict() -> None:
    text = write(make_runs("book/lenet", {}, [0.776, 0.778, 0.780], epoch_s=1.5))
    (line,) = lines(text, "| LeNet |")
    start = "| LeNet | 0.7780 ± 0.0020 | 3 | 1.5 ± 0 | 0.776, 0.779 | within |"
    assert line == start
    (line,) = lines(text, "| LeNet with batch normalization |")
    missing = "not measured: run cnnbench reproduce book/bn\\_lenet"
    assert line.endswith(f"|  |  |  | 0.880, 0.708 | {missing} |".replace("\\_", "_"))
    (line,) = lines(text, "| RegNetX-32 |")
    command = "cnnbench reproduce book/regnetx, about 1 minute on an H100"
    assert line.endswith(f"| not known | not measured: needs a GPU: {command} |")


def test_course_row_has_the_data_set() -> None:
    runs = make_runs("course/mlp", {"data": "mnist"}, [0.97, 0.98])
    text = write(runs + make_runs("course/mlp", {"data": "fashion_mnist"}, [0.87]))
    rows = lines(section(text, "## The course's networks"), "| Multilayer perceptron |")
    assert rows == [
        "| Multilayer perceptron | fashion_mnist | 0.8700 | 1 | 2 |  |",
        "| Multilayer perceptron | mnist | 0.9750 ± 0.0071 | 2 | 2 ± 0 |  |",
    ]
    assert "| Three convolutions |  |  |  |  | not measured: run cnnbench reproduce c" in text


def test_reduction_stands_beside_the_figure() -> None:
    small = {"data.resize": "67"}
    runs = make_runs("book/alexnet", small, [0.8])
    runs += make_runs("claims/dropout", {"model.dropout": "0"} | small, [0.8])
    text = write(runs)
    (line,) = lines(text, "| AlexNet |")
    assert line == "| AlexNet | 0.8000 | 1 | 2 | data.resize=67 | 0.879, 0.883 | not comparable |"
    place = "`claims/dropout` on cpu (a chip), fp32, reduced by `data.resize=67`:"
    assert f"{place}\n\n| model.dropout |" in text
    assert "`claims/pooling`, not measured: run cnnbench reproduce claims/pooling.\n" in text


def test_network_that_learned_too_little_shows_no_figures() -> None:
    runs = make_runs("book/nin", {"data.resize": "67"}, [0.48])
    text = write(runs + make_runs("book/lenet", {}, [0.776]))
    (line,) = lines(text, "| NiN |")
    start = "| NiN |  |  |  | 0.865, 0.790 | not measured: needs a GPU: cnnbench reproduce book/nin"
    assert line.startswith(start)
    assert "0.4800" not in text.partition("## The notes' claims")[0]


def test_every_claim_has_row_and_section() -> None:
    text = write(make_runs("claims/pooling", {"model.pooling": "max"}, [0.8, 0.82]))
    for number, claim in STATEMENTS.claims.items():
        (row,) = lines(text, f"| {number}. ")
        assert row.endswith(("repeated |", "undecided |", "in part |"))
        part = text.partition(f"\n### {number}. ")[2].partition("\n###")[0]
        part = part.partition("\n## ")[0]
        assert re.search(r"\n\nVerdict: \*\*[a-z ]+\*\*.\n\n- ", part)
        assert len(lines(part, "- ")) == len(claim.findings)
        stated = [finding for finding in claim.findings if finding.stated]
        assert part.count(" Stated: ") == len(stated)
        for name in claim.experiments:
            assert f"\n\n`{name}`" in part
    assert "Stated: at least three points more. **undecided**.\n" in text


def test_arms_of_an_experiment_are_a_table() -> None:
    name = "claims/pooling"
    runs = make_runs(name, {"model.pooling": "max"}, [0.8, 0.82], train_less_test=0.09)
    runs += make_runs(name, {"model.pooling": "min"}, [0.1], peak_gib=1.5)
    runs.append(make_run(name, {"model.pooling": "min"}, 1, None))
    text = write(runs)
    header = "| model.pooling | test accuracy | seeds | diverged | s per epoch | train less test |"
    assert f"`claims/pooling` on cpu (a chip), fp32:\n\n{header} GiB |\n" in text
    (line,) = lines(text, "| max |")
    assert line == "| max | 0.8100 ± 0.0141 | 2 |  | 2 ± 0 | 0.0900 ± 0.0000 |  |"
    (line,) = lines(text, "| min |")
    assert line == "| min | 0.1000 | 1 | 1 | 2 |  | 1.50 |"


def test_results_list_machines_and_versions_of_the_runs() -> None:
    runs = make_runs("book/lenet", {}, [0.7, 0.8], commit="a" * 40, cnnbench="1")
    runs += make_runs("book/bn_lenet", {}, [0.7], commit="b" * 40, chip="another", cnnbench="2")
    text = write(runs)
    for fact in (
        "runs: 3 runs, 30 s in all",
        "machine: cpu (a chip), fp32; cpu (another), fp32",
        "versions: cnnbench 1, torch 2.9; cnnbench 2, torch 2.9",
        f"commit: {'a' * 12}; {'b' * 12}",
    ):
        assert f"\n- {fact}\n" in text
    assert "- runs: 0 runs, 0.0 s in all\n- machine: none\n" in write([])


def test_results_count_the_threads_of_cpu_runs() -> None:
    runs = make_runs("book/lenet", {}, [0.7], threads=1)
    runs += make_runs("claims/pooling", {"model.pooling": "max"}, [0.7], threads=2)
    runs += make_runs("book/bn_lenet", {}, [0.7], device="cuda", threads=8)
    machines = "cpu (a chip), fp32, 1 thread; cpu (a chip), fp32, 2 threads; cuda (a chip), fp32"
    text = write(runs)
    assert f"\n- machine: {machines}\n" in text
    assert "\n`claims/pooling` on cpu (a chip), fp32, 2 threads:\n" in text


def test_same_runs_give_the_same_page() -> None:
    runs = make_runs("book/lenet", {}, [0.7, 0.8]) + make_runs("book/bn_lenet", {}, [0.7])
    assert write(runs) == write(runs)


def test_papers_have_a_command_and_no_verdict() -> None:
    part = section(write([]), "## The papers' own figures")
    for name, paper in STATEMENTS.papers.items():
        (row,) = lines(part, f"| {paper.title} |")
        command = f"cnnbench experiment={name}"
        assert row == f"| {paper.title} | {paper.figure} | {command} | {paper.minutes:g} |"
        assert (ROOT / "conf" / "experiment" / f"{name}.yaml").exists()


@pytest.mark.parametrize(("is_smoke", "words"), [(False, "--scale pixels"), (True, "smoke scale")])
def test_results_begin_with_their_scale(is_smoke: bool, words: str) -> None:
    opening = judge([], is_smoke)[1].partition("- runs")[0]
    assert opening.startswith("# Results\n\nThe networks of Dive into Deep Learning")
    assert words in opening
    assert ("smoke" in opening) == is_smoke


def test_verdicts_for_the_terminal_have_one_line_each() -> None:
    runs = make_runs("book/lenet", {}, [0.776, 0.778, 0.780])
    verdicts, _ = judge(runs + make_runs("course/mlp", {"data": "mnist"}, [0.9]))
    first, second, *claims = verdicts.splitlines()
    assert first == "LeNet                         0.7780 ± 0.0020  within"
    assert second == "Multilayer perceptron, mnist  0.9000"
    assert [line.split()[1] for line in claims] == list(STATEMENTS.claims)
    (ninth,) = (line for line in claims if line.startswith("claim 9 "))
    assert re.fullmatch("claim 9 +repeated", ninth)  # a finding without a range is not judged


def test_summary_counts_states_with_reasons() -> None:
    status = {"error": "Out of memory.\nMore.", "exit_code": 2}
    failed: dict[str, Any] = {"state": "failed", "status": status}
    runs = [make_record("book/nin", {}, seed, **failed) for seed in (0, 1)]
    runs += [make_record("book/nin", {}, 2), make_record("book/nin", {}, 3, state="not begun")]
    expected = "4 runs: 2 failed (Out of memory), 1 finished, 1 not begun; 10 s in all"
    assert summarize(runs) == expected


def test_text_of_a_run_is_escaped() -> None:
    where = {"chip": HOSTILE, "commit": HOSTILE, "precision": HOSTILE, "torch": HOSTILE}
    runs = make_runs("book/lenet", {}, [0.5], **where)
    runs += make_runs("claims/pooling", {"model.pooling": "max"}, [0.5, 0.6], **where)
    text = write(runs)
    assert not re.search(r"(?<!\\)<", text.replace("<br>", ""))
    assert "\x1b" not in text
    (lenet,), (nin,) = lines(text, "| LeNet |"), lines(text, "| NiN |")
    assert len(re.findall(r"(?<!\\)\|", nin)) == len(re.findall(r"\|", lenet))


STORED = ROOT / "docs" / "results.csv"


@pytest.mark.skipif(not STORED.exists(), reason="docs/results.csv has not been made")
def test_page_in_docs_is_made_of_the_stored_runs() -> None:
    """Compare all lines but those of the figures that are computed from the test images."""

    def without_computed(text: str) -> list[str]:
        findings = [finding for claim in STATEMENTS.claims.values() for finding in claim.findings]
        computed = [finding.text for finding in findings if finding.text]
        memory = "MiB of tensors in fp32"
        kept = []
        for line in text.splitlines():
            if not any(words in line for words in (*computed, memory, "Verdict: ")):
                kept.append(line)
        return kept

    page = (ROOT / "docs" / "results.md").read_text()
    assert without_computed(page) == without_computed(write(read_stored_runs(STORED)))
