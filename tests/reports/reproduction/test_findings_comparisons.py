"""Comparisons of arms in words, and the reasons not to judge them: divergence, places, rates."""

from itertools import pairwise
from typing import Any

import pytest
from helpers.fake_stored_runs import make_run, make_runs
from helpers.reproduced_statements import FINDINGS, FULL, judge_one

from cnnbench.reports.reproduction.findings import JudgedFinding
from cnnbench.reports.reproduction.statements import Finding
from cnnbench.reports.reproduction.stored_runs import StoredRun

Values = dict[str, str]
RELU, LENET = {"model": "lenet_relu"}, {"model": "lenet"}
RELU_LENET = "claims/relu_lenet"


def of_networks(*arms: str, figure: str = "accuracy", only_if: Any = None) -> Finding:
    """Return a finding of "more": with the notes' LeNet than with LeNet, or with other arms."""
    values = {"arms": list(arms or ("model=lenet_relu", "model=lenet")), "only_if": only_if}
    return Finding(figure=figure, experiment=RELU_LENET, low=0.0, stated="more", **values)


def both_networks(**columns: Any) -> list[StoredRun]:
    """Return runs of both networks. The columns are those of the first."""
    runs = make_runs(RELU_LENET, RELU, [0.89, 0.9, 0.91], device="cuda", **columns)
    return runs + make_runs(RELU_LENET, LENET, [0.79, 0.8, 0.81], device="cuda")


def test_finding_has_mean_and_std_of_both_arms_and_their_comparison() -> None:
    accuracy = judge_one(of_networks(), both_networks())
    means = "0.9000 ± 0.0100 with model=lenet_relu, 0.8000 ± 0.0100 with model=lenet"
    sentence = f"Test accuracy: {means}; difference 0.1000 ± 0.0227."
    assert accuracy == JudgedFinding(sentence, "more", "repeated")
    time = judge_one(of_networks(figure="epoch_s"), both_networks(epoch_s=5.0))
    assert time.sentence.endswith("5 ± 0 with model=lenet_relu, 2 ± 0 with model=lenet; ratio 2.5.")
    assert time.verdict == "repeated"


def test_finding_of_one_seed_is_undecided() -> None:
    runs = [run for run in both_networks() if run.seed == 0]
    assert judge_one(of_networks(), runs).verdict == "undecided"


IN_BF16 = both_networks(epoch_s=5.0, precision="bf16")
DIVERGED = make_run(RELU_LENET, LENET, 2, None)
PLACES = "Not comparable: on a chip in bf16 and a chip in fp32."


@pytest.mark.parametrize(
    ("finding", "runs", "doubt"),
    [
        (of_networks(), IN_BF16, ""),
        (of_networks(figure="epoch_s"), IN_BF16, PLACES),
        (of_networks(), [*IN_BF16[:-1], DIVERGED], "Runs that diverged with model=lenet: 1."),
        (of_networks("model=lenet"), [*IN_BF16[:-1], DIVERGED], ""),
    ],
)
def test_finding_in_doubt_is_undecided(finding: Finding, runs: list[StoredRun], doubt: str) -> None:
    judged = judge_one(finding, runs)
    assert judged.verdict == ("undecided" if doubt else "repeated")
    is_doubted = any(word in judged.sentence for word in ("diverged", "Not comparable"))
    assert (judged.sentence.endswith(doubt or "."), is_doubted) == (True, bool(doubt))


def test_finding_without_finished_runs_says_that_they_diverged() -> None:
    judged = judge_one(of_networks(), [*IN_BF16[:3], DIVERGED])
    assert judged.sentence.endswith("relu_lenet. Runs that diverged with model=lenet: 1.")
    assert (judged.sentence.startswith("Not measured"), judged.verdict) == (True, "undecided")


def at_67_pixels(name: str, values: Values, accuracy: float, **columns: Any) -> list[StoredRun]:
    return make_runs(name, values | {"data.resize": "67"}, [accuracy], **columns)


def batches(accuracy: float) -> list[StoredRun]:
    """Return a run of AlexNet at 67 pixels for each batch size of claim 3."""
    name = "claims/alexnet_batch"
    runs = at_67_pixels(name, {"train.batch_size": "128"}, accuracy)
    return runs + at_67_pixels(name, {"train.batch_size": "256"}, 0.3)


def test_reduced_experiment_is_named_in_the_sentence() -> None:
    sentence = judge_one(FINDINGS["3-1"], batches(0.71)).sentence
    means = "0.3000 with train.batch_size=256, 0.7100 with train.batch_size=128"
    expected = f"Test accuracy: {means}; difference -0.4100. Reduced by data.resize=67."
    assert sentence == expected


def test_reduced_experiment_that_learned_too_little_is_not_measured() -> None:
    judged = judge_one(FINDINGS["3-1"], batches(0.69))
    minutes = "about 3 minutes on an H100"
    assert judged.sentence == (
        "Not measured (train.batch_size=256, train.batch_size=128): "
        f"needs a GPU: cnnbench reproduce claims/alexnet_batch, {minutes}."
    )
    assert judged.verdict == "undecided"


def test_accuracy_that_needs_the_full_scale_is_not_judged_with_smaller_images() -> None:
    runs = make_runs("book/lenet", {}, [0.8] * 3) + at_67_pixels("book/alexnet", {}, 0.9)
    judged = judge_one(FINDINGS["2-2"], runs)
    assert "difference 0.1000" in judged.sentence
    doubt = "Reduced by data.resize=67. Not comparable: the experiment was reduced."
    assert (judged.sentence.endswith(doubt), judged.verdict) == (True, "undecided")


@pytest.mark.parametrize(("rise", "verdict"), [(0.051, "repeated"), (0.049, "undecided")])
def test_finding_needs_overfitting(rise: float, verdict: str) -> None:
    finding = FINDINGS["8c-2"]
    name = "claims/dropout"
    runs = make_runs(name, {"model.dropout": "0.5"}, [0.8] * 3, test_loss_rise=0.0)
    runs += make_runs(name, {"model.dropout": "0"}, [0.6] * 3, test_loss_rise=rise)
    judged = judge_one(finding, runs)
    assert judged.verdict == verdict
    assert ("Too little overfits to judge." in judged.sentence) == (verdict == "undecided")


Accuracies = dict[str, float | None]


def at_rates(name: str, values: Values, accuracies: Accuracies, seeds: int = 3) -> list[StoredRun]:
    """Return runs with these learning rates and accuracies. None stands for diverged runs."""
    runs = []
    for rate, reached in accuracies.items():
        for seed in range(seeds):
            runs.append(make_run(name, values | {"optimizer.lr": rate}, seed, reached))
    return runs


@pytest.mark.parametrize(
    ("accuracies", "end"),
    [
        ({"0.0125": 0.7, "0.025": 0.8, "0.05": 0.86, "0.1": 0.1, "0.2": None}, ""),
        ({"0.0125": 0.7, "0.025": 0.8, "0.05": 0.86}, "0.05 of 0.0125, 0.025, 0.05."),
        ({"0.0125": 0.9, "0.025": 0.8}, "0.0125 of 0.0125, 0.025."),
        ({"0.05": 0.86}, ""),  # a single rate is not a grid
    ],
)
def test_best_rate_at_an_end_of_the_grid_is_undecided(accuracies: Accuracies, end: str) -> None:
    runs = at_rates("claims/optimizers_adagrad", {"optimizer": "adagrad"}, accuracies)
    sgd = {"0.5": 0.7, "1": 0.75, "2": 0.7}
    runs += at_rates("claims/optimizers_sgd", {"optimizer": "sgd"}, sgd)
    judged = judge_one(FINDINGS["8a-2"], runs)
    assert "0.7500 ± 0.0000 with optimizer=sgd optimizer.lr=1; difference" in judged.sentence
    assert judged.verdict == ("undecided" if end else "repeated")
    doubt = f" The best lies at an end of the grid: {end}" if end else "."
    assert judged.sentence.endswith(doubt)


def test_rates_of_the_optimizers_are_at_most_half_a_decade_apart() -> None:
    for optimizer in ("sgd", "momentum", "adagrad", "adam"):
        jobs = FULL[f"claims/optimizers_{optimizer}"]
        words = dict.fromkeys(word for job in jobs for word in job if "lr=" in word)
        rates = [float(word.partition("=")[2]) for word in words]
        steps = [high / low for low, high in pairwise(rates)]
        assert len(rates) >= 4
        assert all(1 < step <= 10**0.5 for step in steps)


@pytest.mark.parametrize(
    ("normalized", "expected"),
    [
        ({"0.3": 0.88, "1": 0.84, "3": 0.8}, "0.00 ± 0.00 with model=bn_lenet, "),
        ({"0.3": 0.88, "1": 0.82, "10": None}, "-0.52 ± 0.00 with model=bn_lenet, "),
        ({"0.3": 0.21, "1": None}, "-0.52 ± 0.00 with model=bn_lenet, "),
        ({"0.3": 0.19, "1": 0.1}, "Not measured (model=bn_lenet): "),  # learns at no rate
        ({"1": 0.88}, "Not measured (model=bn_lenet): "),
    ],
)
def test_largest_usable_rate_is_close_to_the_best_accuracy(
    normalized: Accuracies, expected: str
) -> None:
    name = "claims/batch_norm_rate"
    runs = at_rates(name, LENET, {"1": 0.8, "3": 0.1})
    runs += at_rates(name, {"model": "bn_lenet"}, normalized)
    assert expected in judge_one(FINDINGS["7b-1"], runs).sentence


def test_experiment_without_rates_has_no_largest_rate() -> None:
    runs = []
    for pooling in ("avg", "max"):
        runs += make_runs("claims/pooling", {"model.pooling": pooling}, [0.8] * 3)
    arms = ["model.pooling=avg,max"]
    finding = Finding(figure="log10_largest_rate", experiment="claims/pooling", arms=arms)
    missing = f"Not measured ({arms[0]}): run cnnbench reproduce claims/pooling."
    assert judge_one(finding, runs).sentence == missing


def test_seed_missing_at_a_rate_is_left_out() -> None:
    name, normalized = "claims/batch_norm_rate", {"model": "bn_lenet"}
    runs = at_rates(name, LENET, {"1": 0.8, "3": 0.1})
    runs += at_rates(name, normalized, {"1": 0.88})
    runs += at_rates(name, normalized, {"3": 0.88}, seeds=2)
    judged = judge_one(FINDINGS["7b-1"], runs)
    assert judged.verdict == "repeated"
    assert "0.48 ± 0.00 with model=bn_lenet" in judged.sentence
