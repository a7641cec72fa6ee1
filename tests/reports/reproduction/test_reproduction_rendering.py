"""The results as Markdown and as a page: what is there, what is missing, and whatever words runs bring."""

import re
from html.parser import HTMLParser

import pytest
from made_records import made, made_record
from test_claims import VARIED, computed

from cnnbench.reports.reproduction.arms import experiments
from cnnbench.reports.reproduction.book import BOOK
from cnnbench.reports.reproduction.claims import CLAIMS
from cnnbench.reports.reproduction.markdown import as_markdown
from cnnbench.reports.reproduction.page import render
from cnnbench.reports.reproduction.pictures import learning_curves
from cnnbench.reports.reproduction.results import Curve, Results, results
from cnnbench.runs.records import Record

ALL = {**{name: {"seed": "0,1,2"} for name in BOOK}, **VARIED}
HOSTILE = "</td></svg><script>alert(1)</script>|`$x_1$`\x1b[31m"


def of(runs: list[Record], scale: str = "full") -> Results:
    return results(scale, "cnnbench reproduce", runs, experiments(runs, ALL), computed())


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_the_table_of_the_book_has_our_mean_the_books_runs_and_the_verdict() -> None:
    text = as_markdown(of(made("book/lenet", {}, [0.776, 0.778, 0.780], epoch_s=1.5)))
    assert lines(text, "| LeNet |") == ["| LeNet | 0.7780 ± 0.0020 | 3 | 0.776, 0.779 | within | 1.50 | 30 s |  |"]


def test_what_is_reduced_stands_beside_the_figure() -> None:
    runs = made("book/lenet", {"data.train_examples": "1000"}, [0.5])
    (line,) = lines(as_markdown(of(runs, "reduced")), "| LeNet |")
    assert line.endswith("| not comparable | 2.00 | 10 s | 1,000 training examples, 1 seed |")


def test_a_network_whose_runs_failed_is_told_with_the_reason() -> None:
    failed = [
        made_record("book/nin", {}, seed, state="failed", error="The memory does not suffice.", exit_code=2)
        for seed in range(3)
    ]
    (line,) = lines(as_markdown(of(failed)), "| NiN |")
    assert line == "| NiN |  | 0 | 0.865, 0.790 | 3 failed (The memory does not suffice) |  |  |  |"


def test_a_seed_that_failed_is_told_beside_those_that_did_not() -> None:
    runs = [
        *made("book/nin", {}, [0.8, 0.81]),
        made_record("book/nin", {}, 2, state="failed", error="No.", exit_code=2),
    ]
    (line,) = lines(as_markdown(of(runs)), "| NiN |")
    assert "| within; 1 failed (No) |" in line


def test_a_network_that_was_not_run_says_so() -> None:
    (line,) = lines(as_markdown(of([])), "| ResNet-18 |")
    assert line == "| ResNet-18 |  | 0 | 0.919, 0.893 | not run |  |  |  |"


def test_every_claim_has_a_line_and_a_section() -> None:
    text = as_markdown(of([]))
    for claim in CLAIMS:
        assert len(lines(text, f"| {claim.name}. ")) == 1
        assert len(lines(text, f"### {claim.name}. ")) == 1


def test_the_section_of_a_claim_has_its_runs_in_groups() -> None:
    runs = made("claims/pooling", {"model.pooling": "max"}, [0.8, 0.82], train_accuracy=0.9)
    text = as_markdown(of(runs))
    assert "`claims/pooling`, reduced to 2 seeds, 20 s in all:" in text
    assert lines(text, "| max |") == ["| max | 0.8100 ± 0.0141 | 2 | 9.0 ± 12.7 | 2.00 |"]


def test_groups_whose_precision_differs_say_so() -> None:
    runs = made("claims/alexnet_lenet", {"model": "lenet"}, [0.8])
    runs += made("claims/alexnet_lenet", {"model": "alexnet"}, [0.8], environment={"precision": "bf16"})
    text = as_markdown(of(runs))
    assert [line.endswith(f"| {word} |") for line, word in zip(lines(text, "| lenet |"), ["fp32"], strict=True)] == [
        True
    ]
    assert [line.endswith(f"| {word} |") for line, word in zip(lines(text, "| alexnet |"), ["bf16"], strict=True)] == [
        True
    ]


def test_runs_of_several_machines_and_commits_are_counted() -> None:
    runs = made("book/lenet", {}, [0.7, 0.8], environment={"commit": "a" * 40})
    runs += made("book/nin", {}, [0.7], environment={"commit": "b" * 40, "chip": "another"})
    facts = of(runs).facts
    assert facts["commit"] == f"{'a' * 12}: 2 runs; {'b' * 12}: 1 run"
    assert facts["machine"] == "cpu (a chip), fp32: 2 runs; cpu (another), fp32: 1 run"


@pytest.mark.parametrize(
    ("scale", "word"), [("full", ""), ("reduced", "reduced scale"), ("smoke", "no figure of a training says")]
)
def test_the_results_open_with_their_scale(scale: str, word: str) -> None:
    text = as_markdown(of([], scale))
    assert "- command: cnnbench reproduce\n" in text
    assert word in text.partition("- command")[0]


def hostile() -> list[Record]:
    runs = made("book/lenet", {"data": HOSTILE}, [0.5], environment={"chip": HOSTILE, "commit": HOSTILE})
    runs += made("claims/pooling", {"model.pooling": HOSTILE}, [0.5, 0.6])
    return [*runs, made_record("book/nin", {}, state="failed", error=HOSTILE, exit_code=2)]


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def test_words_of_a_run_are_text_in_the_page() -> None:
    page = render(of(hostile()))
    assert "script" not in Tags(page).tags
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page


def test_words_of_a_run_are_text_in_markdown() -> None:
    text = as_markdown(of(hostile()))
    assert not re.search(r"(?<!\\)<", text.replace("<br>", ""))
    assert "\x1b" not in text
    (line,) = lines(text, "| NiN |")
    assert len(re.findall(r"(?<!\\)\|", line)) == 9


def test_a_page_without_a_run_has_no_picture_and_says_what_is_missing() -> None:
    page = render(of([]))
    assert "svg" not in Tags(page).tags
    assert "not run" in page


def test_the_page_needs_nothing_from_elsewhere_and_is_small() -> None:
    runs = [run for name in BOOK for run in made(name, {}, [0.7, 0.8, 0.9], earlier=[0.1] * 9)]
    page = render(of(runs))
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert len(page.encode()) < 300_000


def test_learning_curves_are_in_the_colour_of_the_page() -> None:
    svg = learning_curves([Curve("$x$ <b>", [[0.1, 0.5], [0.2, 0.6]])])
    assert "currentColor" in svg
    assert "#123456" not in svg
    assert "$x$ &lt;b&gt;" in svg


def test_curves_end_where_the_shortest_run_does() -> None:
    assert learning_curves([Curve("a", [[0.1, 0.5, 0.6], [0.2, 0.6]])]) == learning_curves(
        [Curve("a", [[0.1, 0.5], [0.2, 0.6]])]
    )
