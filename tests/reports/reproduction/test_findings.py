"""Verdicts on findings: each finding of conf/claims.yaml changes at the ends of its range."""

import math
from typing import Any

import pytest
from helpers.fake_stored_runs import make_run, make_runs
from helpers.reproduced_statements import FINDINGS, FULL, PIXELS, STATEMENTS, judge_one

from cnnbench import config
from cnnbench.analysis.judge import Estimate
from cnnbench.cli.hydra_app import compose_config
from cnnbench.reports.reproduction import statements
from cnnbench.reports.reproduction.arms import Arm, sort_runs
from cnnbench.reports.reproduction.findings import (
    MEMORY,
    JudgedFinding,
    judge_network,
    measure_memory,
    memory_key,
)
from cnnbench.reports.reproduction.statements import Finding, Network
from cnnbench.reports.reproduction.stored_runs import StoredRun

Values = dict[str, str]
JUDGED = [name for name, finding in FINDINGS.items() if finding.stated]
TRAINED = [name for name in JUDGED if FINDINGS[name].arms and FINDINGS[name].figure != MEMORY]
RATIOS = ("epoch_s", MEMORY)
STD = 1e-5  # standard deviation of the accuracy over seeds


def make_runs_of(finding: Finding, value: float) -> list[StoredRun]:
    """Return runs of three seeds that give the figure `value`."""
    same = 1.0 if finding.figure in RATIOS else 0.0
    runs = []
    for (name, arm), own in zip(finding.placed_arms, (value, same), strict=False):
        runs += make_arm(finding, name, arm, own)
    return runs


def make_arm(finding: Finding, name: str, arm: str, value: float) -> list[StoredRun]:
    values = dict(min(words).split("=", 1) for words in statements.parse_arm(arm))
    if finding.figure == "log10_largest_rate":
        return make_arms(name, values, [0.8] * (2 + int(value)) + [0.7] * 4)
    if finding.figure == "spread":
        return make_arms(name, values, [0.8, 0.5 - value, 0.8, 0.8])

    def choose(figure: str, default: float) -> float:
        return value if finding.figure == figure else default

    first = dict(word.split("=", 1) for word in FULL[name][0][1:-1])
    accuracy = choose("accuracy", 0.0) + (0.5 if len(finding.arms) > 1 else 0.0)
    slow_epochs = 2 + int(choose("epochs_to_converge", -1))
    return make_runs(
        name,
        first | values,
        [accuracy - STD, accuracy, accuracy + STD],
        accuracies=" ".join(["0.1"] * slow_epochs + ["0.8"]),
        test_loss_rise=0.3 + choose("test_loss_rise", 0.0),
        shift_ratio=choose("shift_ratio", 1.0),
        epoch_s=2.0 * choose("epoch_s", 1.0),
        device="cuda",
    )


def make_arms(name: str, values: Values, accuracies: list[float]) -> list[StoredRun]:
    """Return runs with each value of the key that the arm leaves open."""
    runs = []
    overrides = dict.fromkeys(job[2] for job in FULL[name])  # after the network
    for override, accuracy in zip(overrides, accuracies, strict=False):
        runs += make_runs(name, values | dict([override.split("=")]), [accuracy] * 3)
    return runs


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
            computed = {finding.figure: Estimate(value)}
            for (place, arm), memory in zip(finding.placed_arms, (value, 1.0), strict=False):
                computed[memory_key(place, arm)] = Estimate(memory)
            judged = judge_one(finding, make_runs_of(finding, value), **computed)
            assert (judged.verdict, judged.stated) == (verdict, finding.stated), judged.sentence
            crossed += 1
    assert crossed


@pytest.mark.parametrize("name", TRAINED)
def test_finding_without_runs_is_undecided_and_says_how_to_measure_it(name: str) -> None:
    finding = FINDINGS[name]
    judged = judge_one(finding)
    assert judged.verdict == "undecided"
    assert judged.sentence.startswith(f"Not measured ({', '.join(finding.arms)}): ")
    for experiment, _ in finding.placed_arms:
        minutes = STATEMENTS.gpu_minutes.get(experiment)
        way = f"needs a GPU: cnnbench reproduce {experiment}, about {minutes or 0:g} minute"
        expected = way if minutes else f"run cnnbench reproduce {experiment}"
        assert expected in judged.sentence


MORE_OR_LESS = [name for name in JUDGED if FINDINGS[name].stated in ("more", "less")]


@pytest.mark.parametrize("name", MORE_OR_LESS)
def test_stated_more_or_less_matches_the_range(name: str) -> None:
    finding = FINDINGS[name]
    same = 1.0 if finding.figure in RATIOS else 0.0
    expected = (same, math.inf) if finding.stated == "more" else (-math.inf, same)
    assert (finding.low, finding.high) == expected


def test_arms_of_two_experiments_are_compared() -> None:
    arms = ["experiment=book/lenet", "experiment=book/bn_lenet"]
    finding = Finding(figure="accuracy", arms=arms, low=0.0, stated="more")
    runs = make_runs("book/lenet", {}, [0.9, 0.9]) + make_runs("book/bn_lenet", {}, [0.8, 0.8])
    means = f"0.9000 ± 0.0000 with {arms[0]}, 0.8000 ± 0.0000 with {arms[1]}"
    assert judge_one(finding, runs).sentence == f"Test accuracy: {means}; difference 0.1000."
    missing = judge_one(finding, runs[:2]).sentence
    assert missing == f"Not measured ({arms[1]}): run cnnbench reproduce book/bn_lenet."


def test_finding_without_range_has_no_verdict() -> None:
    judged = judge_one(FINDINGS["9-5"], make_runs_of(FINDINGS["9-5"], 0.1))
    assert (judged.stated, judged.verdict) == ("", "")
    assert "difference 0.1000" in judged.sentence
    computed = judge_one(FINDINGS["6-1"], brightness_avg=Estimate(0.25, 0.125))
    assert computed == JudgedFinding(f"{FINDINGS['6-1'].text} 0.25 ± 0.125.", "", "")


def test_memory_is_compared_without_runs() -> None:
    finding = FINDINGS["4-2"]
    sizes = {"model=vgg11": Estimate(1536.0), "model=alexnet": Estimate(512.0)}
    computed = {memory_key("claims/vgg_alexnet", arm): sizes[arm] for arm in sizes}
    judged = judge_one(finding, **computed)
    means = "1536 with model=vgg11, 512 with model=alexnet"
    assert judged.sentence == f"MiB of tensors in fp32: {means}; ratio 3."
    assert judged.verdict == "repeated"
    alone = Finding(figure=MEMORY, experiment="claims/vgg_alexnet", arms=["model=vgg11"])
    assert judge_one(alone, **computed).sentence.endswith("1536 with model=vgg11.")


def test_memory_is_computed_from_the_configuration() -> None:
    overrides = ["experiment=claims/padding", "model.padding_mode=zeros"]
    settings = config.load_config(config.to_plain(compose_config(overrides)))
    # weights and gradients 0.47 MiB, activations of 256 images: 8.4 MiB
    assert measure_memory(settings).value == pytest.approx(9.2, abs=0.8)


def test_most_accurate_of_several_matching_arms_counts() -> None:
    finding, name = FINDINGS["6-5"], "claims/pooling"  # min against the better of avg and max
    runs = make_runs(name, {"model.pooling": "min"}, [0.3] * 3)
    runs += make_runs(name, {"model.pooling": "avg"}, [0.5] * 3)
    for reached, better in ((0.4, "0.5000 ± 0.0000 with model.pooling=avg"), (0.6, "0.6000 ± ")):
        others = make_runs(name, {"model.pooling": "max"}, [reached] * 3)
        assert better in judge_one(finding, runs + others).sentence


def test_time_on_a_cpu_is_shown_and_not_judged() -> None:
    finding = FINDINGS["4-1"]
    runs = make_runs_of(finding, 2.0)
    assert judge_one(finding, runs).verdict == "repeated"
    on_cpu = [make_run(run.experiment, {"model": run.words[0][6:]}, run.seed) for run in runs]
    judged = judge_one(finding, on_cpu)
    assert judged.verdict == "undecided"
    assert judged.sentence.startswith("Seconds per epoch: 2 ± 0 with model=vgg11, ")
    assert judged.sentence.endswith("Times on a CPU are not held against a claim about a GPU.")


@pytest.mark.parametrize(
    ("accuracies", "values", "expected"),
    [
        ([0.879, 0.881, 0.883], {}, "within"),
        ([0.886, 0.887, 0.888], {}, "above"),
        ([0.87, 0.88, 0.90], {}, "within"),  # the interval reaches the range
        ([0.86, 0.87, 0.88], {}, "within"),
        ([0.84, 0.85, 0.86], {}, "below"),
        ([0.1, 0.1, 0.1], {}, "below"),  # the full experiment counts, whatever it learned
        ([0.881], {}, "undecided"),
        ([0.881], {"data.resize": "67"}, "not comparable"),
    ],
)
def test_judge_network_compares_with_the_book(
    accuracies: Any, values: Values, expected: str
) -> None:
    name = "book/alexnet"
    experiment = sort_runs(make_runs(name, values, accuracies), [FULL, PIXELS])[name]
    (arm,) = experiment.arms
    assert judge_network(STATEMENTS.book[name], experiment, arm) == expected
    assert judge_network(Network("Unknown"), experiment, arm) == ""


@pytest.mark.parametrize("runs", [[], make_runs("book/alexnet", {"data.resize": "67"}, [0.7])])
def test_network_that_learned_too_little_needs_a_gpu(runs: list[StoredRun]) -> None:
    name = "book/alexnet"
    experiment = sort_runs(runs, [FULL, PIXELS], STATEMENTS.gpu_minutes)[name]
    arm = [*experiment.arms, Arm([], [])][0]
    expected = "not measured: needs a GPU: cnnbench reproduce book/alexnet, about 1.5 minutes on "
    assert judge_network(STATEMENTS.book[name], experiment, arm).startswith(expected)
