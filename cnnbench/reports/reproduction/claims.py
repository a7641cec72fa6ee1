"""The ten claims of the course notes, and how each is judged by the runs of its experiments.

Every statement that a claim makes is a range for a figure: see analysis/verdicts.py. Accuracies are shares of 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cnnbench.analysis.claims import Computed
from cnnbench.analysis.verdicts import Figure, Finding, difference, lies_in
from cnnbench.reports.reproduction.arms import Arm, Experiment
from cnnbench.reports.reproduction.statements import (
    ANY,
    LESS,
    MARGIN,
    MORE,
    Pair,
    Stated,
    at_full_scale,
    ends,
    geometric_mean,
    largest_rates,
    learns_slower,
    more_accurate,
    most_accurate,
    overfits_less,
    ranges,
    reaches,
    remark,
    takes_memory,
    takes_time,
)
from cnnbench.reports.reproduction.words import points

__all__ = ["CLAIMS", "Claim", "Experiments"]

Experiments = Mapping[str, Experiment]
ABOUT = 1.5  # "about three times": from two to four and a half
VISIBLE = 0.05  # of memory, a change that is seen


@dataclass(frozen=True)
class Claim:
    """`experiments` are those shown with it; some claims rest on `Computed` too, or alone, or on what others show."""

    name: str
    text: str
    experiments: tuple[str, ...]
    judge: Callable[[Experiments, Computed], list[Finding]]


def _relu(found: Experiments, computed: Computed) -> list[Finding]:
    lift, maps, alone = found["claims/relu_lenet"], found["claims/relu_maps"], found["claims/init"]
    relu = lift.arm("lenet_relu")
    activations = Pair(
        alone.arm("relu", "xavier_uniform"),
        alone.arm("sigmoid", "xavier_uniform"),
        "ReLU in lenet (claims/init: nothing else changed)",
        "sigmoid",
    )
    return [
        more_accurate(Pair(relu, lift.arm("lenet")), Stated(0.03, ANY, "at least three points more")),
        at_full_scale(lift, reaches(relu, 0.881)),
        more_accurate(activations, MORE),
        more_accurate(
            Pair(maps.arm("10"), maps.arm("16"), "10 maps", "16 maps"),
            Stated(-MARGIN, ANY, "no more than a point less"),
        ),
    ]


def _alexnet_lenet(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/alexnet_lenet"]
    pair = Pair(experiment.arm("alexnet"), experiment.arm("lenet"))
    findings = [
        takes_time(pair, Stated(3 / ABOUT, 3 * ABOUT, "2 to 4.5 times")),
        more_accurate(pair, Stated(0.05, 0.15, "5 to 15 points more")),
        learns_slower(pair, MORE),
    ]
    return [at_full_scale(experiment, finding) for finding in findings]


def _alexnet_batch(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/alexnet_batch"]
    small, large = ends(experiment)
    pair = Pair(large, small, f"batch {large.label}", f"batch {small.label}")
    findings = [more_accurate(pair, LESS), takes_memory(pair, Stated(1 - VISIBLE, 1 + VISIBLE, "within 5 %"))]
    return [at_full_scale(experiment, finding) for finding in findings]


def _vgg_alexnet(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/vgg_alexnet"]
    pair = Pair(experiment.arm("vgg11"), experiment.arm("alexnet"))
    return [takes_time(pair, Stated(1, ANY, "more")), takes_memory(pair, Stated(1, ANY, "more"))]


def _vgg_size(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/vgg_size"]
    small, large = ends(experiment)
    pair = Pair(small, large, f"{small.label} px", f"{large.label} px")
    less_accurate = more_accurate(pair, Stated(-0.03, 0, "up to three points less"))
    return [
        takes_time(pair, Stated(0.25 / ABOUT, 0.25 * ABOUT, "0.17 to 0.38 times")),
        at_full_scale(experiment, less_accurate),
    ]


def _pooling(found: Experiments, computed: Computed) -> list[Finding]:
    avg, largest, least = (found["claims/pooling"].arm(name) for name in ("avg", "max", "min"))
    other = most_accurate((avg, largest))
    pooled = computed.pooled
    return [
        Finding(
            f"The mean brightness of {computed.num_images:,} test images changes by "
            f"{pooled['avg'].brightness.value:.1%} with average pooling, as it must, by "
            f"{pooled['max'].brightness.value:.1%} with max and by {pooled['min'].brightness.value:.1%} with "
            "min pooling.",
            lies_in(computed.more_brightness, 0, ANY),
            "less with average than with max pooling",
        ),
        Finding(
            "The texture, the mean squared difference of neighbouring pixels, is "
            f"{pooled['avg'].texture.value:.2f} times that of the image with average pooling, "
            f"{pooled['max'].texture.value:.2f} with max and {pooled['min'].texture.value:.2f} with min pooling.",
            lies_in(computed.more_texture, 0, ANY),
            "more with max than with average pooling",
        ),
        more_accurate(
            Pair(least, other, "min", f"{other.label} (the best of the others)"),
            Stated(-ANY, -0.1, "at least ten points less"),
        ),
    ]


def _init(found: Experiments, computed: Computed) -> list[Finding]:
    experiment, findings = found["claims/init"], []
    for activation, stated in (("sigmoid", MORE), ("tanh", MORE), ("relu", LESS)):
        xavier, he = (experiment.arm(activation, each) for each in ("xavier_uniform", "kaiming_normal"))
        findings.append(more_accurate(Pair(xavier, he, f"{activation} and Xavier", f"{activation} and He"), stated))
    return findings


def _batch_norm(found: Experiments, computed: Computed) -> list[Finding]:
    rates, inits = found["claims/batch_norm_rate"], found["claims/batch_norm_init"]
    tried = ", ".join(dict.fromkeys(arm.values[1] for arm in rates.arms)) or "none"
    plain, normalised = (Figure.mean(largest_rates(rates, name)) for name in ("lenet", "bn_lenet"))
    narrow, wide = (Figure.mean(ranges(inits, name)) for name in ("bn_lenet", "lenet"))
    return [
        Finding(
            f"Of the rates tried ({tried}), the largest that costs no more than five points against the best, as the "
            f"geometric mean over seeds: {geometric_mean(normalised)} with batch normalisation, "
            f"{geometric_mean(plain)} without.",
            lies_in(difference(normalised, plain), 0, ANY),
            "larger with it",
        ),
        Finding(
            f"From the best initialisation to the worst, in accuracy: {points(narrow)} with batch normalisation, "
            f"{points(wide)} without.",
            lies_in(difference(wide, narrow), 0, ANY),
            "less with it",
        ),
    ]


def _optimizers(found: Experiments, computed: Computed) -> list[Finding]:
    arms = found["claims/optimizers"].arms
    names = ("sgd", "momentum", "adagrad", "adam")
    at_their_best = [
        most_accurate([arm for arm in arms if arm.values[0] == name] or [Arm((name, "any"), [])]) for name in names
    ]
    (sgd, its_name), *others = [(arm, " at rate ".join(arm.values)) for arm in at_their_best]
    return [more_accurate(Pair(arm, sgd, name, its_name), MORE) for arm, name in others]


def _overfitting(name: str, what: str) -> Callable[[Experiments, Computed], list[Finding]]:
    def judge(found: Experiments, computed: Computed) -> list[Finding]:
        without, given = ends(found[name])
        return overfits_less(given, without, what)

    return judge


def _padding(found: Experiments, computed: Computed) -> list[Finding]:
    zeros, mirror = computed.border["zeros"], computed.border["reflect"]
    trained = found["claims/padding"]
    rounding = 1e-6
    return [
        Finding(
            f"At the border of a uniform image the outputs of a {name} differ from those inside by {zeros[name]:.1%} "
            f"of them with zero padding, by {mirror[name]:.1%} with mirror padding.",
            lies_in(Figure(zeros[name], 0.0), 0.01, ANY)
            if mirror[name] < rounding
            else lies_in(Figure(mirror[name], 0.0), -ANY, rounding),
            "at least 1 % with zeros, nothing with mirror padding",
        )
        for name in zeros
    ] + [remark(Pair(trained.arm("reflect"), trained.arm("zeros"), "reflect, trained,"))]


def _im2col(found: Experiments, computed: Computed) -> list[Finding]:
    findings = []
    for dtype, figures in computed.convolutions.items():
        for what, value in (
            ("A convolution as a matrix product (im2col) and directly", figures.im2col),
            ("A 1 x 1 convolution and a linear layer over channels", figures.one_by_one),
        ):
            findings.append(
                Finding(
                    f"{what} differ in {dtype} by at most {value:.1e} of the largest output."
                    if value
                    else f"{what} are equal in {dtype}.",
                    lies_in(Figure(value, 0.0), -ANY, figures.rounding),
                    f"no more than rounding explains, {figures.rounding:.1e}",
                )
            )
    return findings


CLAIMS = (
    Claim(
        "1",
        "ReLU lifts LeNet a great deal: to .881 in 7 epochs; fewer channels in the second layer suffice.",
        ("claims/relu_lenet", "claims/relu_maps"),
        _relu,
    ),
    Claim(
        "2",
        "AlexNet takes about three times LeNet's time and is about ten points more accurate; it learns slower.",
        ("claims/alexnet_lenet",),
        _alexnet_lenet,
    ),
    Claim(
        "3",
        "A batch of 256 instead of 128 makes AlexNet less accurate; memory does not visibly change.",
        ("claims/alexnet_batch",),
        _alexnet_batch,
    ),
    Claim(
        "4",
        "VGG is slower than AlexNet and needs more memory: more channels, and larger maps early on.",
        ("claims/vgg_alexnet",),
        _vgg_alexnet,
    ),
    Claim(
        "5",
        "VGG at 96 pixels instead of 224 takes a quarter of the time and is slightly less accurate.",
        ("claims/vgg_size",),
        _vgg_size,
    ),
    Claim(
        "6",
        "Average pooling keeps the background, max pooling the texture; min pooling learns little.",
        ("claims/pooling",),
        _pooling,
    ),
    Claim("7a", "Xavier's initialisation suits sigmoid and tanh, He's suits ReLU.", ("claims/init",), _init),
    Claim(
        "7b",
        "Batch normalisation allows a larger rate and cares less about the initialisation.",
        ("claims/batch_norm_rate", "claims/batch_norm_init"),
        _batch_norm,
    ),
    Claim("8a", "Momentum, AdaGrad and Adam train better than SGD.", ("claims/optimizers",), _optimizers),
    Claim(
        "8b",
        "Weight decay works against overfitting.",
        ("claims/weight_decay",),
        _overfitting("claims/weight_decay", "weight decay"),
    ),
    Claim("8c", "Dropout works against overfitting.", ("claims/dropout",), _overfitting("claims/dropout", "dropout")),
    Claim("9", "Mirror padding avoids the border artefacts that zero padding makes.", ("claims/padding",), _padding),
    Claim(
        "10",
        "Convolution as a matrix product (im2col) gives the same numbers up to rounding; a 1 x 1 convolution is a "
        "fully connected layer over channels.",
        (),
        _im2col,
    ),
)
