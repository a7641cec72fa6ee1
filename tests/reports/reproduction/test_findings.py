"""Verdicts on findings: each finding of conf/claims.yaml changes at the ends of its range."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.fake_records import FakeEpochs, make_record, make_records
from helpers.reproduced_statements import JOBS, STATEMENTS

from cnnbench.analysis.judge import Estimate
from cnnbench.reports.reproduction import arms, statements
from cnnbench.reports.reproduction.arms import sort_runs
from cnnbench.reports.reproduction.findings import JudgedFinding, judge_finding, judge_network
from cnnbench.reports.reproduction.statements import Finding, Network
from cnnbench.runs.records import Record

Values = dict[str, str]
FINDINGS = {
    f"{number}-{place}": finding
    for number, claim in STATEMENTS.claims.items()
    for place, finding in enumerate(claim.findings, start=1)
}
JUDGED = [name for name, finding in FINDINGS.items() if finding.stated]
RATIOS = ("epoch_s", "memory")
STD = 1e-5  # standard deviation of the accuracy over seeds


def judge_one(
    finding: Finding, runs: Sequence[Record] = (), reduced: str = "", **computed: Estimate
) -> JudgedFinding:
    return judge_finding(finding, sort_runs(runs, JOBS, dict.fromkeys(JOBS, reduced)), computed)


def make_runs(finding: Finding, value: float) -> list[Record]:
    """Return runs of three seeds that give the figure `value`."""
    same = 1.0 if finding.figure in RATIOS else 0.0
    runs = []
    for arm, own in zip(finding.arms, (value, same), strict=False):
        runs += make_arm(finding, arm, own)
    return runs


def make_arm(finding: Finding, arm: str, value: float) -> list[Record]:
    values = dict(min(words).split("=") for words in statements.parse_arm(arm))
    if finding.figure == "log10_largest_rate":
        return make_arms(finding, values, [0.8] * (2 + int(value)) + [0.7] * 4)
    if finding.figure == "spread":
        return make_arms(finding, values, [0.8, 0.5 - value, 0.8, 0.8])

    def choose(figure: str, default: float) -> float:
        return value if finding.figure == figure else default

    first = dict(word.split("=") for word in JOBS[finding.experiment][0][1:-1])
    accuracy = choose("accuracy", 0.0) + (0.5 if len(finding.arms) > 1 else 0.0)
    slow_epochs = 2 + int(choose("epochs_to_converge", -1))
    epochs = FakeEpochs(
        earlier=[0.1] * slow_epochs,
        test_losses=[0.5] * slow_epochs + [0.8 + choose("test_loss_rise", 0.0)],
        epoch_s=2.0 * choose("epoch_s", 1.0),
    )
    return make_records(
        finding.experiment,
        first | values,
        [accuracy - STD, accuracy, accuracy + STD],
        epochs=epochs,
        environment={"memory": int(2**30 * choose("memory", 1.0))},
    )


def make_arms(finding: Finding, values: Values, accuracies: list[float]) -> list[Record]:
    """Return runs with each value of the key that the arm leaves open."""
    runs = []
    overrides = dict.fromkeys(job[2] for job in JOBS[finding.experiment])  # after the network
    for override, accuracy in zip(overrides, accuracies, strict=False):
        all_values = values | dict([override.split("=")])
        runs += make_records(finding.experiment, all_values, [accuracy] * 3)
    return runs


@pytest.fixture(autouse=True)
def _memory_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the estimate of the memory a value of the record."""
    monkeypatch.setattr(arms, "_estimate_memory", lambda run: run.environment.get("memory"))


@pytest.mark.parametrize("name", JUDGED)
def test_verdict_changes_at_the_ends_of_the_stated_range(name: str) -> None:
    finding = FINDINGS[name]
    crossed = 0
    for end, inwards in ((finding.low, 1), (finding.high, -1)):
        if math.isinf(end):
            continue
        is_counted = finding.figure in ("epochs_to_converge", "log10_largest_rate")
        step = inwards * (1.0 if is_counted else 0.01 * abs(end) or 0.01)
        for value, verdict in ((end + step, "repeated"), (end - step, "not repeated")):
            runs = make_runs(finding, value)
            judged = judge_one(finding, runs, **{finding.figure: Estimate(value)})
            assert (judged.verdict, judged.stated) == (verdict, finding.stated), judged.sentence
            crossed += 1
    assert crossed


@pytest.mark.parametrize("name", [name for name in JUDGED if FINDINGS[name].experiment])
def test_finding_without_runs_is_undecided(name: str) -> None:
    judged = judge_one(FINDINGS[name])
    assert judged.verdict == "undecided"
    assert judged.sentence.startswith(f"Not measured: {', '.join(FINDINGS[name].arms)}.")


MORE_OR_LESS = [name for name in JUDGED if FINDINGS[name].stated in ("more", "less")]


@pytest.mark.parametrize("name", MORE_OR_LESS)
def test_stated_more_or_less_matches_the_range(name: str) -> None:
    finding = FINDINGS[name]
    same = 1.0 if finding.figure in RATIOS else 0.0
    expected = (same, math.inf) if finding.stated == "more" else (-math.inf, same)
    assert (finding.low, finding.high) == expected


ALEXNET, LENET = "model=alexnet", "model=lenet"


def of_networks(*arms: str, figure: str = "accuracy", only_if: Any = None) -> Finding:
    """Return a finding of "more": with AlexNet than with LeNet, or with other arms."""
    values = {"arms": list(arms or (ALEXNET, LENET)), "only_if": only_if}
    name = "claims/alexnet_lenet"
    return Finding(figure=figure, experiment=name, low=0.0, stated="more", **values)


SLOW = FakeEpochs(epoch_s=5.0)


def alexnet_and_lenet(epochs: FakeEpochs | None = None, **files: Any) -> list[Record]:
    name, accuracies = "claims/alexnet_lenet", [0.89, 0.9, 0.91]
    runs = make_records(name, {"model": "alexnet"}, accuracies, epochs=epochs, **files)
    return runs + make_records(name, {"model": "lenet"}, [0.79, 0.8, 0.81])


def test_finding_has_mean_and_std_of_both_arms_and_their_comparison() -> None:
    accuracy = judge_one(of_networks(), alexnet_and_lenet())
    means = "0.9000 ± 0.0100 with model=alexnet, 0.8000 ± 0.0100 with model=lenet"
    sentence = f"Test accuracy: {means}; difference 0.1000 ± 0.0227."
    assert accuracy == JudgedFinding(sentence, "more", "repeated")
    time = judge_one(of_networks(figure="epoch_s"), alexnet_and_lenet(SLOW)).sentence
    assert time.endswith("5 ± 0 with model=alexnet, 2 ± 0 with model=lenet; ratio 2.5.")


def test_finding_without_range_has_no_verdict() -> None:
    judged = judge_one(FINDINGS["9-5"], make_runs(FINDINGS["9-5"], 0.1))
    assert (judged.stated, judged.verdict) == ("", "")
    assert "difference 0.1000" in judged.sentence
    computed = judge_one(FINDINGS["6-1"], brightness_avg=Estimate(0.25, 0.125))
    assert computed == JudgedFinding(f"{FINDINGS['6-1'].text} 0.25 ± 0.125.", "", "")


def test_finding_of_one_seed_is_undecided() -> None:
    runs = [run for run in alexnet_and_lenet() if run.value("seed") == "0"]
    assert judge_one(of_networks(), runs).verdict == "undecided"


def test_memory_needs_only_one_run() -> None:
    runs = [run for run in make_runs(FINDINGS["4-2"], 1.5) if run.value("seed") == "0"]
    judged = judge_one(FINDINGS["4-2"], runs)
    assert (judged.verdict, "1536 with model=vgg11" in judged.sentence) == ("repeated", True)


def test_most_accurate_of_several_matching_arms_counts() -> None:
    finding = FINDINGS["6-5"]  # min against the better of avg and max
    runs = make_runs(finding, -0.2)
    for reached, better in ((0.3, "± 0.0000 with model.pooling=avg; "), (0.6, "0.6000 ± ")):
        others = make_records("claims/pooling", {"model.pooling": "max"}, [reached] * 3)
        assert better in judge_one(finding, runs + others).sentence


IN_BF16 = alexnet_and_lenet(SLOW, environment={"precision": "bf16"})
AS_DIVERGED: dict[str, Any] = {"state": "failed", "status": {"exit_code": 4}}
DIVERGED = make_record("claims/alexnet_lenet", {"model": "lenet"}, 3, **AS_DIVERGED)


@pytest.mark.parametrize(
    ("finding", "runs", "doubt"),
    [
        (of_networks(), IN_BF16, ""),
        (of_networks(figure="epoch_s"), IN_BF16, "Not comparable: in bf16 and fp32."),
        (of_networks(only_if="full_scale"), IN_BF16, "Not comparable: the experiment was reduced."),
        (of_networks(), [*IN_BF16, DIVERGED], "Runs that diverged with model=lenet: 1."),
        (of_networks(LENET), [*IN_BF16, DIVERGED], ""),
    ],
)
def test_finding_in_doubt_is_undecided(finding: Finding, runs: list[Record], doubt: str) -> None:
    judged = judge_one(finding, runs, reduced="train.epochs=1")
    assert judged.verdict == ("undecided" if doubt else "repeated")
    is_doubted = any(word in judged.sentence for word in ("diverged", "Not comparable"))
    assert (judged.sentence.endswith(doubt or "."), is_doubted) == (True, bool(doubt))


@pytest.mark.parametrize(("rise", "verdict"), [(0.051, "repeated"), (0.049, "undecided")])
def test_finding_needs_overfitting(rise: float, verdict: str) -> None:
    finding = FINDINGS["8c-2"]
    runs = make_runs(finding, 0.2)
    for run in runs:
        run.rows[-1]["test_loss"] = 0.5 + rise * (run.value("model.dropout") == "0")
    judged = judge_one(finding, runs)
    assert judged.verdict == verdict
    assert ("Too little overfits to judge." in judged.sentence) == (verdict == "undecided")


Accuracies = dict[str, float | None]


def at_rates(network: str, accuracies: Accuracies, seeds: int = 3) -> list[Record]:
    """Return runs with these learning rates and accuracies. None stands for diverged runs."""
    runs = []
    for rate, reached in accuracies.items():
        for seed in range(seeds):
            ending = AS_DIVERGED if reached is None else {}
            values = {"model": network, "optimizer.lr": rate}
            runs.append(make_record("claims/batch_norm_rate", values, seed, reached or 0, **ending))
    return runs


@pytest.mark.parametrize(
    ("normalized", "expected"),
    [
        ({"0.3": 0.88, "1": 0.84, "3": 0.8}, "0.00 ± 0.00 with model=bn_lenet, "),
        ({"0.3": 0.88, "1": 0.82, "10": None}, "-0.52 ± 0.00 with model=bn_lenet, "),
        ({"0.3": 0.21, "1": None}, "-0.52 ± 0.00 with model=bn_lenet, "),
        ({"0.3": 0.19, "1": 0.1}, "Not measured: model=bn_lenet."),  # learns at no rate
        ({"1": 0.88}, "Not measured: model=bn_lenet."),
    ],
)
def test_largest_usable_rate_is_close_to_the_best_accuracy(
    normalized: Accuracies, expected: str
) -> None:
    runs = at_rates("lenet", {"1": 0.8, "3": 0.1}) + at_rates("bn_lenet", normalized)
    assert expected in judge_one(FINDINGS["7b-1"], runs).sentence


def test_experiment_without_rates_has_no_largest_rate() -> None:
    runs = []
    for pooling in ("avg", "max"):
        runs += make_records("claims/pooling", {"model.pooling": pooling}, [0.8] * 3)
    arms = ["model.pooling=avg,max"]
    finding = Finding(figure="log10_largest_rate", experiment="claims/pooling", arms=arms)
    assert judge_one(finding, runs).sentence == f"Not measured: {arms[0]}."


def test_seed_missing_at_a_rate_is_left_out() -> None:
    runs = at_rates("lenet", {"1": 0.8, "3": 0.1})
    runs += at_rates("bn_lenet", {"1": 0.88}) + at_rates("bn_lenet", {"3": 0.88}, seeds=2)
    judged = judge_one(FINDINGS["7b-1"], runs)
    assert judged.verdict == "repeated"
    assert "0.48 ± 0.00 with model=bn_lenet" in judged.sentence


@pytest.mark.parametrize(
    ("accuracies", "reduced", "expected"),
    [
        ([0.776, 0.778, 0.780], "", "within"),
        ([0.781, 0.782, 0.783], "", "above"),
        ([0.77, 0.78, 0.80], "", "within"),  # the interval reaches the range
        ([0.76, 0.77, 0.78], "", "within"),
        ([0.74, 0.75, 0.76], "", "below"),
        ([0.778], "", "undecided"),
        ([0.776, 0.778, 0.780], "train.epochs=1", "not comparable"),
        ([], "", ""),
    ],
)
def test_judge_network_compares_with_the_book(accuracies: Any, reduced: str, expected: str) -> None:
    runs, name = make_records("book/lenet", {}, accuracies), "book/lenet"
    experiment = sort_runs(runs, JOBS, dict.fromkeys(JOBS, reduced))[name]
    assert judge_network(STATEMENTS.book[name], experiment) == expected
    assert judge_network(Network("Unknown"), experiment) == ""
