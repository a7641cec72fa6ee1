"""The ten claims of the course notes, and how each is judged by the runs of its experiments.

Every statement that a claim makes is a range for a figure: see verdicts.py. Accuracies are shares of 1.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cnnbench.reports.reproduction.arms import Experiment
from cnnbench.reports.reproduction.computed import Computed
from cnnbench.reports.reproduction.statements import (
    ANY,
    MARGIN,
    at_full_scale,
    ends,
    epochs_in_words,
    epochs_to_learn,
    largest_rates,
    more_accurate,
    number,
    ranges,
    reaches,
    remark,
    takes_memory,
    takes_time,
)
from cnnbench.reports.reproduction.verdicts import UNDECIDED, Figure, Finding, difference, lies_in
from cnnbench.reports.reproduction.words import loss, points

__all__ = ["CLAIMS", "Claim", "Experiments"]

Experiments = Mapping[str, Experiment]
ABOUT = 1.5  # "about three times": from two to four and a half
VISIBLE = 0.05  # of memory, a change that is seen
OVERFITS = 0.05  # a rise of the test loss that is seen


@dataclass(frozen=True)
class Claim:
    """`experiments` are those shown with it; some claims rest on `Computed` too, or alone, or on what others show."""

    name: str
    text: str
    experiments: tuple[str, ...]
    judge: Callable[[Experiments, Computed], list[Finding]]


def _relu(found: Experiments, computed: Computed) -> list[Finding]:
    lift, maps = found["claims/relu_lenet"], found["claims/relu_maps"]
    sigmoid, relu = lift.arm("lenet"), lift.arm("lenet_relu")
    few, many = maps.arm("10"), maps.arm("16")
    with_relu, with_sigmoid = (found["claims/init"].arm(each, "xavier_uniform") for each in ("relu", "sigmoid"))
    return [
        more_accurate(relu, sigmoid, 0.03, ANY, "at least three points"),
        at_full_scale(lift, reaches(relu, 0.881)),
        more_accurate(
            with_relu, with_sigmoid, 0, ANY, "more", "ReLU in lenet, nothing else changed (claims/init)", "sigmoid"
        ),
        more_accurate(few, many, -MARGIN, ANY, "no more than a point less", "10 maps", "16 maps"),
    ]


def _alexnet_lenet(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/alexnet_lenet"]
    lenet, alexnet = (experiment.arm(name) for name in ("lenet", "alexnet"))
    slower = difference(epochs_to_learn(alexnet), epochs_to_learn(lenet))
    findings = [
        takes_time(alexnet, lenet, 3 / ABOUT, 3 * ABOUT, "2 to 4.5 times"),
        more_accurate(alexnet, lenet, 0.05, 0.15, "5 to 15 points"),
        Finding(
            f"To come within five points of the accuracy that it ends with takes {epochs_in_words(alexnet)}, "
            f"{epochs_in_words(lenet)}.",
            lies_in(slower, 0, ANY),
            "more epochs with alexnet",
        ),
    ]
    return [at_full_scale(experiment, finding) for finding in findings]


def _alexnet_batch(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/alexnet_batch"]
    small, large = ends(experiment)
    names = f"batch {large.label}", f"batch {small.label}"
    memory = takes_memory(large, small, 1 - VISIBLE, 1 + VISIBLE, "within 5 %", *names)
    return [more_accurate(large, small, -ANY, 0, "less", *names), at_full_scale(experiment, memory)]


def _vgg_alexnet(found: Experiments, computed: Computed) -> list[Finding]:
    alexnet, vgg = (found["claims/vgg_alexnet"].arm(name) for name in ("alexnet", "vgg11"))
    return [
        takes_time(vgg, alexnet, 1, ANY, "more than once"),
        takes_memory(vgg, alexnet, 1, ANY, "more", "vgg11", "alexnet"),
    ]


def _vgg_size(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/vgg_size"]
    small, large = ends(experiment)
    names = f"{small.label} px", f"{large.label} px"
    return [
        takes_time(small, large, 0.25 / ABOUT, 0.25 * ABOUT, "0.17 to 0.38 times", *names),
        at_full_scale(experiment, more_accurate(small, large, -0.03, 0, "up to three points less", *names)),
    ]


def _pooling(found: Experiments, computed: Computed) -> list[Finding]:
    avg, largest, least = (found["claims/pooling"].arm(name) for name in ("avg", "max", "min"))
    best, other = sorted((avg, largest), key=lambda arm: -statistics.fmean(arm.accuracies or [0.0]))
    pooled = computed.pooled
    return [
        Finding(
            f"The mean brightness of {computed.num_images:,} test images, which is mostly their background, changes by "
            f"{pooled['avg'].brightness.value:.1%} with average pooling, {pooled['max'].brightness.value:.1%} with max "
            f"and {pooled['min'].brightness.value:.1%} with min pooling.",
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
            least, best, -ANY, -0.1, "at least ten points less", "min", f"{best.label}, no worse than {other.label}"
        ),
    ]


def _init(found: Experiments, computed: Computed) -> list[Finding]:
    experiment, findings = found["claims/init"], []
    for activation, low, high, word in (
        ("sigmoid", 0, ANY, "more"),
        ("tanh", 0, ANY, "more"),
        ("relu", -ANY, 0, "less"),
    ):
        xavier, he = (experiment.arm(activation, each) for each in ("xavier_uniform", "kaiming_normal"))
        findings.append(more_accurate(xavier, he, low, high, word, f"{activation} and Xavier", f"{activation} and He"))
    return findings


def _batch_norm(found: Experiments, computed: Computed) -> list[Finding]:
    rates, inits = found["claims/batch_norm_rate"], found["claims/batch_norm_init"]
    tried = ", ".join(dict.fromkeys(arm.values[1] for arm in rates.arms))
    plain, normalised = (Figure.mean(largest_rates(rates, name)) for name in ("lenet", "bn_lenet"))
    narrow, wide = (Figure.mean(ranges(inits, name)) for name in ("bn_lenet", "lenet"))
    return [
        Finding(
            f"Of the rates tried ({tried}), the largest that costs no more than five points against the best, as the "
            f"mean over seeds: {number(normalised)} with batch normalisation, {number(plain)} without.",
            lies_in(difference(normalised, plain), 0, ANY),
            "larger with it",
        ),
        Finding(
            f"From the best initialisation to the worst the accuracy falls by {points(narrow)} with batch "
            f"normalisation, by {points(wide)} without.",
            lies_in(difference(wide, narrow), 0, ANY),
            "by less with it",
        ),
    ]


def _optimizers(found: Experiments, computed: Computed) -> list[Finding]:
    experiment = found["claims/optimizers"]
    sgd = experiment.arm("sgd")
    return [more_accurate(experiment.arm(name), sgd, 0, ANY, "more") for name in ("momentum", "adagrad", "adam")]


def _overfitting(name: str, what: str) -> Callable[[Experiments, Computed], list[Finding]]:
    """By test loss and accuracy alone: dropout lowers the train accuracy that is measured as it trains."""

    def judge(found: Experiments, computed: Computed) -> list[Finding]:
        without, given = ends(found[name])
        rise = without.test_loss_rise
        overfits = rise is not None and rise.value > OVERFITS
        none = "" if overfits or rise is None else " Without it too little overfits to judge."
        return [
            Finding(
                f"The test loss ends above its lowest by {loss(rise)} without {what}, by "
                f"{loss(given.test_loss_rise)} with {given.label}.{none}",
                lies_in(difference(rise, given.test_loss_rise), 0, ANY) if overfits else UNDECIDED,
                "by less with it",
            ),
            more_accurate(given, without, 0, ANY, "more", f"{what} {given.label}", f"{what} {without.label}"),
        ]

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
    ] + [remark(trained.arm("reflect"), trained.arm("zeros"))]


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
