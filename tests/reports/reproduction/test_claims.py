"""How the claims of the notes and the book's networks are judged, by runs that are made up."""

from collections.abc import Sequence
from typing import Any

import pytest
from made_records import made, made_record

from cnnbench.analysis.claims import Computed, Convolutions, Pooled
from cnnbench.analysis.verdicts import NOT_REPEATED, REPEATED, UNDECIDED, Figure, Finding
from cnnbench.cli.reproduce import proposed
from cnnbench.reports.reproduction.arms import Arm, experiments
from cnnbench.reports.reproduction.book import BOOK, judge
from cnnbench.reports.reproduction.claims import CLAIMS
from cnnbench.runs.records import Record

BY_NAME = {claim.name: claim for claim in CLAIMS}
VARIED = {name: varied for name, varied in proposed().items() if name.startswith("claims/")}
POOLED = {name: Pooled(Figure(0.1, 0.01), Figure(1.0, 0.01)) for name in ("avg", "max", "min")}


def computed(
    more_brightness: float = 0.3,
    more_texture: float = 0.7,
    zeros: float = 0.5,
    reflect: float = 0.0,
    im2col: float = 1e-7,
    one_by_one: float = 0.0,
) -> Computed:
    return Computed(
        1000,
        POOLED,
        Figure(more_brightness, 0.01),
        Figure(more_texture, 0.01),
        {"zeros": {"kernel": zeros}, "reflect": {"kernel": reflect}},
        {"float32": Convolutions(im2col, one_by_one, 1e-6)},
    )


def verdicts(claim: str, runs: Sequence[Record] = (), **figures: float) -> list[str | None]:
    return [finding.verdict for finding in findings(claim, runs, **figures)]


def findings(
    claim: str, runs: Sequence[Record] = (), memory: dict[str, int] | None = None, **figures: float
) -> list[Finding]:
    def memory_of(run: Record) -> int | None:
        return next((size for word, size in (memory or {}).items() if word in run.overrides), None)

    return BY_NAME[claim].judge(experiments(runs, VARIED, memory_of), computed(**figures))


def several(experiment: str, values: dict[str, str], mean: float, **others: Any) -> list[Record]:
    """Three runs about this accuracy; differences of two such have a 95 % interval of 0.023 to either side."""
    return made(experiment, values, [mean - 0.01, mean, mean + 0.01], **others)


@pytest.mark.parametrize("claim", [claim for claim in BY_NAME if claim not in ("6", "9", "10")])
def test_a_claim_without_runs_is_undecided(claim: str) -> None:
    assert set(verdicts(claim)) == {UNDECIDED}


@pytest.mark.parametrize(
    ("relu", "few", "expected"),
    [
        (0.881, 0.88, [REPEATED, UNDECIDED, UNDECIDED, UNDECIDED]),
        (0.92, 0.88, [REPEATED, REPEATED, UNDECIDED, UNDECIDED]),
        (0.84, 0.80, [REPEATED, NOT_REPEATED, UNDECIDED, NOT_REPEATED]),
        (0.77, 0.95, [NOT_REPEATED, NOT_REPEATED, UNDECIDED, REPEATED]),
    ],
)
def test_1_relu_lifts_lenet_and_fewer_maps_suffice(relu: float, few: float, expected: list[str]) -> None:
    runs = several("claims/relu_lenet", {"model": "lenet"}, 0.78) + several(
        "claims/relu_lenet", {"model": "lenet_relu"}, relu
    )
    runs += several("claims/relu_maps", {"model.second_maps": "10"}, few)
    runs += several("claims/relu_maps", {"model.second_maps": "16"}, 0.88)
    assert verdicts("1", runs) == expected


@pytest.mark.parametrize(("few", "expected"), [(0.895, REPEATED), (0.885, NOT_REPEATED)])
def test_1_a_loss_of_up_to_a_point_suffices(few: float, expected: str) -> None:
    runs = made("claims/relu_maps", {"model.second_maps": "10"}, [few - 0.001, few, few + 0.001])
    runs += made("claims/relu_maps", {"model.second_maps": "16"}, [0.899, 0.900, 0.901])
    assert verdicts("1", runs)[3] == expected


@pytest.mark.parametrize(("relu", "expected"), [(0.89, REPEATED), (0.80, NOT_REPEATED), (0.85, UNDECIDED)])
def test_1_the_activation_alone_is_that_of_the_experiment_on_initialisation(relu: float, expected: str) -> None:
    runs = []
    for activation, mean in (("relu", relu), ("sigmoid", 0.85)):
        values = {"model.activation": activation, "train.init": "xavier_uniform"}
        runs += several("claims/init", values, mean)
    assert verdicts("1", runs)[2] == expected


def test_1_an_accuracy_of_fewer_examples_is_not_held_against_that_of_the_notes() -> None:
    values = {"model": "lenet_relu", "data.train_examples": "100"}
    reached = findings("1", made("claims/relu_lenet", values, [0.881, 0.881, 0.881]))[1]
    assert reached.verdict == UNDECIDED
    assert reached.sentence.endswith("Not comparable: the experiment was reduced.")


@pytest.mark.parametrize(
    ("epoch_s", "mean", "first", "expected"),
    [
        (6.0, 0.88, 0.2, [REPEATED, REPEATED, REPEATED]),
        (12.0, 0.70, 0.88, [NOT_REPEATED, NOT_REPEATED, UNDECIDED]),
    ],
)
def test_2_alexnet_takes_three_times_as_long_and_is_ten_points_better(
    epoch_s: float, mean: float, first: float, expected: list[str]
) -> None:
    runs = several("claims/alexnet_lenet", {"model": "lenet"}, 0.78, earlier=[0.78])
    runs += several("claims/alexnet_lenet", {"model": "alexnet"}, mean, earlier=[first], epoch_s=epoch_s)
    assert verdicts("2", runs) == expected


def test_5_of_fewer_examples_the_times_compare_and_the_accuracies_do_not() -> None:
    fewer = {"data.train_examples": "640"}
    runs = several("claims/vgg_size", {"data.resize": "224", **fewer}, 0.9)
    runs += several("claims/vgg_size", {"data.resize": "96", **fewer}, 0.5, epoch_s=0.5)
    assert verdicts("5", runs) == [REPEATED, UNDECIDED]


def test_3_says_nothing_of_fewer_examples() -> None:
    fewer = {"data.train_examples": "2000"}
    runs = several("claims/alexnet_batch", {"train.batch_size": "128", **fewer}, 0.9)
    runs += several("claims/alexnet_batch", {"train.batch_size": "256", **fewer}, 0.8)
    memory = {"train.batch_size=128": 100, "train.batch_size=256": 101}
    assert [finding.verdict for finding in findings("3", runs, memory)] == [UNDECIDED, UNDECIDED]


def test_4_times_in_two_precisions_are_not_compared() -> None:
    runs = several("claims/vgg_alexnet", {"model": "alexnet"}, 0.5)
    runs += several("claims/vgg_alexnet", {"model": "vgg11"}, 0.5, epoch_s=3.0, environment={"precision": "bf16"})
    time = findings("4", runs)[0]
    assert (time.verdict, time.sentence.endswith("Not comparable: in bf16 and fp32.")) == (UNDECIDED, True)


def test_2_says_nothing_of_smaller_images() -> None:
    size = {"data.resize": "67"}
    runs = several("claims/alexnet_lenet", {"model": "lenet", **size}, 0.78, earlier=[0.78])
    runs += several("claims/alexnet_lenet", {"model": "alexnet", **size}, 0.88, earlier=[0.2], epoch_s=6.0)
    assert verdicts("2", runs) == [UNDECIDED] * 3


@pytest.mark.parametrize(
    ("mean", "size", "expected"),
    [(0.85, 101, [REPEATED, REPEATED]), (0.95, 150, [NOT_REPEATED, NOT_REPEATED]), (0.9, 101, [UNDECIDED, REPEATED])],
)
def test_3_a_larger_batch_is_less_accurate_and_takes_as_much_memory(
    mean: float, size: int, expected: list[str]
) -> None:
    runs = several("claims/alexnet_batch", {"train.batch_size": "128"}, 0.9)
    runs += several("claims/alexnet_batch", {"train.batch_size": "256"}, mean)
    memory = {"train.batch_size=128": 100, "train.batch_size=256": size}
    assert [finding.verdict for finding in findings("3", runs, memory)] == expected


@pytest.mark.parametrize(("epoch_s", "size", "expected"), [(3.0, 200, REPEATED), (1.0, 50, NOT_REPEATED)])
def test_4_vgg_is_slower_and_takes_more_memory(epoch_s: float, size: int, expected: str) -> None:
    runs = several("claims/vgg_alexnet", {"model": "alexnet"}, 0.5)
    runs += several("claims/vgg_alexnet", {"model": "vgg11"}, 0.5, epoch_s=epoch_s)
    memory = {"model=alexnet": 100, "model=vgg11": size}
    assert [finding.verdict for finding in findings("4", runs, memory)] == [expected, expected]


@pytest.mark.parametrize(
    ("epoch_s", "mean", "expected"), [(0.5, 0.905, REPEATED), (1.5, 0.80, NOT_REPEATED), (1.5, 0.96, NOT_REPEATED)]
)
def test_5_smaller_images_take_a_quarter_of_the_time_and_cost_little(
    epoch_s: float, mean: float, expected: str
) -> None:
    runs = made("claims/vgg_size", {"data.resize": "224"}, [0.919, 0.920, 0.921])
    runs += made("claims/vgg_size", {"data.resize": "96"}, [mean, mean, mean + 0.001], epoch_s=epoch_s)
    assert verdicts("5", runs) == [expected, expected]


@pytest.mark.parametrize(
    ("brightness", "texture", "mean", "expected"),
    [(0.3, 0.7, 0.5, REPEATED), (-0.3, -0.7, 0.85, NOT_REPEATED), (0.0, 0.0, 0.78, UNDECIDED)],
)
def test_6_average_keeps_the_background_max_the_texture_and_min_learns_little(
    brightness: float, texture: float, mean: float, expected: str
) -> None:
    runs = several("claims/pooling", {"model.pooling": "avg"}, 0.8) + several(
        "claims/pooling", {"model.pooling": "max"}, 0.88
    )
    runs += several("claims/pooling", {"model.pooling": "min"}, mean)
    found = verdicts("6", runs, more_brightness=brightness, more_texture=texture)
    assert found == [expected, expected, expected]


def test_7a_xavier_suits_sigmoid_and_tanh_he_suits_relu() -> None:
    means = {"sigmoid": (0.8, 0.7), "tanh": (0.7, 0.8), "relu": (0.8, 0.9)}
    runs = [
        run
        for activation, pair in means.items()
        for init, mean in zip(("xavier_uniform", "kaiming_normal"), pair, strict=True)
        for run in several("claims/init", {"model.activation": activation, "train.init": init}, mean)
    ]
    assert verdicts("7a", runs) == [REPEATED, NOT_REPEATED, REPEATED]


def rates(network: str, accuracies: dict[str, float | None]) -> list[Record]:
    """Runs with these rates; None for those that diverged."""
    return [
        made_record("claims/batch_norm_rate", {"model": network, "optimizer.lr": rate}, seed, accuracy)
        if accuracy is not None
        else made_record(
            "claims/batch_norm_rate", {"model": network, "optimizer.lr": rate}, seed, state="failed", exit_code=4
        )
        for seed in range(3)
        for rate, accuracy in accuracies.items()
    ]


@pytest.mark.parametrize(
    ("normalised", "expected"),
    [({"1": 0.88, "3": 0.87}, REPEATED), ({"1": 0.88, "3": None}, UNDECIDED), ({"0.3": 0.88, "1": 0.7}, NOT_REPEATED)],
)
def test_7b_batch_normalisation_allows_a_larger_rate(normalised: dict[str, float | None], expected: str) -> None:
    runs = rates("lenet", {"1": 0.8, "3": 0.1}) + rates("bn_lenet", normalised)
    assert verdicts("7b", runs)[0] == expected


@pytest.mark.parametrize("accuracy", [0.1, None])
def test_7b_a_network_that_learns_at_no_rate_has_none(accuracy: float | None) -> None:
    runs = rates("lenet", {"1": 0.8, "3": 0.1}) + rates("bn_lenet", {"1": accuracy, "3": accuracy})
    assert verdicts("7b", runs)[0] == UNDECIDED
    assert "not measured with batch normalisation, 1 without" in findings("7b", runs)[0].sentence


def test_7b_rates_are_compared_by_their_logarithms() -> None:
    runs = rates("lenet", {"1": 0.8, "10": 0.1})
    for seed, most in enumerate(("3", "10", "10")):
        for rate in ("3", "10"):
            values = {"model": "bn_lenet", "optimizer.lr": rate}
            runs.append(made_record("claims/batch_norm_rate", values, seed, 0.9 if float(rate) <= float(most) else 0.1))
    assert verdicts("7b", runs)[0] == REPEATED  # 10 / 3, three times apart from 1, and not 3 and 10 from 1


def test_7b_a_seed_that_has_not_run_with_every_rate_is_left_out() -> None:
    runs = rates("lenet", {"1": 0.8, "3": 0.1}) + rates("bn_lenet", {"1": 0.88})
    waiting = {"model": "bn_lenet", "optimizer.lr": "3"}
    runs += [made_record("claims/batch_norm_rate", waiting, seed, state="not begun") for seed in range(3)]
    assert verdicts("7b", runs)[0] == UNDECIDED


@pytest.mark.parametrize(("worst", "expected"), [(0.85, REPEATED), (0.1, NOT_REPEATED)])
def test_7b_batch_normalisation_cares_less_about_the_initialisation(worst: float, expected: str) -> None:
    runs = []
    for network, init, mean in (
        ("lenet", "xavier_uniform", 0.8),
        ("lenet", "normal", 0.4),
        ("bn_lenet", "xavier_uniform", 0.88),
        ("bn_lenet", "normal", worst),
    ):
        runs += several("claims/batch_norm_init", {"model": network, "train.init": init}, mean)
    assert verdicts("7b", runs)[1] == expected


def at_rates(optimizer: str, means: dict[str, float]) -> list[Record]:
    return [
        run
        for rate, mean in means.items()
        for run in several("claims/optimizers", {"optimizer": optimizer, "optimizer.lr": rate}, mean)
    ]


def test_8a_each_optimizer_at_its_best_rate_is_held_against_sgd_at_its_own() -> None:
    runs = at_rates("sgd", {"0.1": 0.5, "1": 0.8}) + at_rates("momentum", {"0.1": 0.9, "1": 0.1})
    runs += at_rates("adagrad", {"0.01": 0.6, "0.1": 0.7}) + at_rates("adam", {"0.001": 0.8})
    assert verdicts("8a", runs) == [REPEATED, NOT_REPEATED, UNDECIDED]


def test_8a_an_optimizer_that_diverged_is_not_judged_by_the_seeds_that_did_not() -> None:
    runs = at_rates("sgd", {"1": 0.8}) + at_rates("adam", {"0.01": 0.9})
    values = {"optimizer": "adam", "optimizer.lr": "0.01"}
    runs.append(made_record("claims/optimizers", values, 3, state="failed", exit_code=4))
    found = findings("8a", runs)[2]
    assert (found.verdict, found.sentence.endswith("diverged: 1 with adam at rate 0.01.")) == (UNDECIDED, True)


@pytest.mark.parametrize(
    ("claim", "name", "key"), [("8b", "weight_decay", "optimizer.weight_decay"), ("8c", "dropout", "model.dropout")]
)
@pytest.mark.parametrize(
    ("rise", "mean", "expected"),
    [(0.1, 0.84, [REPEATED, REPEATED]), (0.5, 0.75, [NOT_REPEATED, NOT_REPEATED]), (0.3, 0.8, [UNDECIDED, UNDECIDED])],
)
def test_8_overfitting_is_a_test_loss_that_rises(
    claim: str, name: str, key: str, rise: float, mean: float, expected: list[str]
) -> None:
    runs = several(f"claims/{name}", {key: "0"}, 0.8, earlier=[0.7], test_losses=[0.5, 0.8])
    runs += several(f"claims/{name}", {key: "0.001"}, mean, earlier=[0.7], test_losses=[0.5, 0.5 + rise])
    assert verdicts(claim, runs) == expected


def test_8_where_nothing_overfits_nothing_can_work_against_it() -> None:
    runs = several("claims/dropout", {"model.dropout": "0"}, 0.8, earlier=[0.7], test_losses=[0.5, 0.52])
    runs += several("claims/dropout", {"model.dropout": "0.5"}, 0.9, earlier=[0.7], test_losses=[0.5, 0.5])
    for finding in findings("8c", runs):
        assert finding.verdict == UNDECIDED
        assert finding.sentence.endswith("Too little overfits to judge.")


def test_8_a_lower_train_accuracy_alone_says_nothing_of_dropout() -> None:
    runs = several("claims/dropout", {"model.dropout": "0"}, 0.8, train_accuracy=0.98)
    runs += several("claims/dropout", {"model.dropout": "0.5"}, 0.8, train_accuracy=0.8)
    assert verdicts("8c", runs) == [UNDECIDED, UNDECIDED]


@pytest.mark.parametrize(
    ("zeros", "reflect", "expected"), [(0.3, 0.0, REPEATED), (0.3, 0.1, NOT_REPEATED), (0.0, 0.0, NOT_REPEATED)]
)
def test_9_mirror_padding_leaves_no_border(zeros: float, reflect: float, expected: str) -> None:
    assert verdicts("9", zeros=zeros, reflect=reflect) == [expected, None]


@pytest.mark.parametrize(("difference", "expected"), [(1e-7, REPEATED), (1e-3, NOT_REPEATED)])
def test_10_two_ways_to_convolve_differ_by_rounding(difference: float, expected: str) -> None:
    assert verdicts("10", im2col=difference, one_by_one=difference) == [expected, expected]


def test_10_each_of_the_two_is_judged_by_itself() -> None:
    assert verdicts("10", im2col=0.0, one_by_one=1e-3) == [REPEATED, NOT_REPEATED]


@pytest.mark.parametrize(
    ("accuracies", "values", "expected"),
    [
        ([0.776, 0.778, 0.780], {}, "within"),
        ([0.795, 0.80, 0.805], {}, "above"),
        ([0.781, 0.782, 0.783], {}, "above"),
        ([0.77, 0.78, 0.80], {}, "within"),  # the interval reaches the range
        ([0.74, 0.75, 0.76], {}, "below"),
        ([0.778], {}, UNDECIDED),
        ([0.776, 0.778, 0.780], {"data.train_examples": "1000"}, "not comparable"),
        ([], {}, ""),
    ],
)
def test_a_network_is_held_against_the_range_of_the_book(
    accuracies: list[float], values: dict[str, str], expected: str
) -> None:
    runs = made("book/lenet", values, accuracies)
    assert judge(BOOK["book/lenet"], experiments(runs, {"book/lenet": {"seed": "0,1,2"}})["book/lenet"]) == expected


def test_a_network_that_the_book_has_no_figure_of_is_not_judged() -> None:
    runs = made("book/regnetx", {}, [0.9, 0.91, 0.92])
    assert judge(BOOK["book/regnetx"], experiments(runs, {"book/regnetx": {"seed": "0,1,2"}})["book/regnetx"]) == ""


def test_values_that_are_no_numbers_are_not_ordered() -> None:
    runs = several("claims/dropout", {"model.dropout": "x"}, 0.8) + several(
        "claims/dropout", {"model.dropout": "1"}, 0.8
    )
    assert verdicts("8c", runs) == [UNDECIDED, UNDECIDED]


def test_an_arm_that_is_not_there_is_told_as_not_measured() -> None:
    assert findings("1")[0].sentence == "Not measured: lenet_relu and lenet."
    assert (
        findings("1", several("claims/relu_lenet", {"model": "lenet"}, 0.8))[1].sentence == "Not measured: lenet_relu."
    )
    assert Arm(("lenet",), []).accuracy is None


def test_a_difference_is_told_in_points_with_its_interval() -> None:
    runs = at_rates("sgd", {"1": 0.8}) + at_rates("adam", {"0.01": 0.9})
    two = "0.9000 ± 0.0100 with adam at rate 0.01 and 0.8000 ± 0.0100 with sgd at rate 1"
    assert findings("8a", runs)[2].sentence == f"Test accuracy {two}: +10.0 ± 2.3 points."


def test_no_difference_is_not_minus_zero() -> None:
    runs = made("claims/dropout", {"model.dropout": "0"}, [0.8]) + made(
        "claims/dropout", {"model.dropout": "1"}, [0.79999]
    )
    assert ": +0.0 points." in findings("8c", runs)[1].sentence
