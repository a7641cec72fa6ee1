"""Random command lines: each ends in an answer, none in a traceback."""

# ruff: noqa: SIM905  # a list of words is easier to read as a line of them

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
from helpers.command import clean_environment
from helpers.in_process import run_in_process
from helpers.paths import CONF
from helpers.raw_messages import RAW_TEXT
from helpers.small_runs import SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnbench import config
from cnnbench.cli import main as command_line

GROUPS = sorted(config.GROUPS)
CHOICES = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}
KEYS = sorted([*config.KEYS, "model.widths", "model.recipe.resize", "train", "augment.x"])
HYDRA_KEYS = """
    hydra hydra.mode hydra.verbose hydra.output_subdir hydra.run hydra.run.dir hydra.sweep
    hydra.sweep.dir hydra.sweep.subdir hydra.job hydra.job.chdir hydra.job.name hydra.job.num
    hydra.job.env_set hydra.job.env_set.X hydra.job.config.override_dirname hydra.job_logging
    hydra.job_logging.version hydra.hydra_logging hydra.launcher hydra.sweeper.max_batch_size
    hydra.sweeper.params hydra.callbacks hydra.searchpath hydra.help.template hydra.x
    hydra.runtime.output_dir hydra.overrides.task hydra/launcher hydra/sweeper hydra/help
    hydra/job_logging hydra/callbacks hydra/output
""".split()
VALUES = r"""
    0 1 -1 3 1000000 -0.0 1e-300 1e300 1e999 nan -inf 0x10 1_0 2024_11_24 1e3 1:30 03 1. .5 +1
    on no ~ '' null true auto none ??? lenet ü 日本 😀 ½ ٣ .inf - -- # % & * ! | > @ ` ? [ ] { } (
    ) , ; : 'x "x "'" \" '\ x\ 'a#b' ~/x ~nobody_at_all ../x /proc/x C:\x file:///x photos(1)
    x=y --x /dev/null [] {} [1,[2,{a:3}]] {a:{b:[null]}} [8,0] [-1] [nan] {name:lenet} ${x}
    ${seed} ${model} ${.name} ${...x} ${ ${} $ \${x} ${oc.env:HOME} ${oc.env:NOT_SET}
    ${oc.decode:'[1'} ${oc.create:{a:1}} ${hydra:job.num} ${oc.dict.keys:model} ${now:%Y}
    ${job_directory:x/y} ${nobody:1} ${oc.select:a,b} 1,2 a,b range(1,3) range(3,1) choice(1,2)
    interval(0,1) glob(*) sort(2,1) int(x) x,
""".split()
VALUES += [
    "",
    "9" * 5000,
    "a" * 300,
    "[" * 60,
    "\udcff",
    "a b",
    " x ",
    "a #b",
    "a: b",
    "\t",
    "x\ny",
    "'\n'",
]
PLACES = [
    "run",
    "run",
    ".",
    "~/x",
    "/dev/null",
    "/proc/self/fd",
    "-x",
    "学习",
    "\u202e",
    "a\u00a0b",
]
FLAGS = """
    -m --multirun --run --help --hydra-help --version --resolve --info --cfg -x -- - --cfg=job
    --cfg=all --cfg=hydra --cfg=x --info=all --info=defaults --info=x --package=model
    --package=_global_ --config-name=summary --config-name=x --config-dir=x --config-path=x -sc
    --shell-completion --experimental-rerun=x --depth=1 --depth=x --layer=x --json --rounds=0
""".split()
VERBS = ["train", "summary", "benchmark", "lr-find", "trian", "", " "]

text = st.text(st.characters(exclude_characters="\0/"), max_size=8).filter(
    lambda word: ".." not in word
)


@st.composite
def mutated(draw: st.DrawFn, word: str) -> str:
    """Return a word with a letter dropped, doubled or changed."""
    place = draw(st.integers(0, len(word)))
    return (
        word[:place]
        + draw(st.sampled_from(["", ".", "-", "Z", word[place : place + 1] * 2]))
        + word[place + 1 :]
    )


def seldom(*odd: str, usual: str) -> st.SearchStrategy[str]:
    """Return the usual value in seven of eight cases, so that most lines pass the first checks."""
    return st.integers(0, 7).flatmap(
        lambda number: st.sampled_from(odd) if number == 7 else st.just(usual)
    )


@st.composite
def override(draw: st.DrawFn) -> str:
    """Return KEY=VALUE or GROUP=CHOICE, perhaps with signs of Hydra."""
    if draw(st.booleans()):
        key = draw(st.sampled_from(GROUPS))
        value = draw(st.sampled_from(CHOICES[key]))
    else:
        key = draw(st.sampled_from([*KEYS, *KEYS, *HYDRA_KEYS]))
        value = draw(st.sampled_from(VALUES) | text)
    key = draw(st.just(key) | mutated(key)) if draw(seldom("x", usual="")) else key
    sign = draw(seldom("+", "++", "~", usual=""))
    package = draw(seldom("@", "@_global_", "@model", "@x.y", "@:x", usual=""))
    return f"{sign}{key}{package}{draw(seldom('', '==', ':', usual='='))}{value}"


composing = st.builds(
    lambda verb, flags, overrides: [*verb, *flags, *overrides],
    st.one_of(st.just([]), st.just([]), st.sampled_from(VERBS).map(lambda verb: [verb])),
    st.one_of(st.just([]), st.just([]), st.lists(st.sampled_from(FLAGS), max_size=2)),
    st.lists(override(), min_size=1, max_size=3),
)
reading = st.builds(
    lambda verb, place, words: [verb, place, *words],
    st.sampled_from(["resume", "again", "evaluate", "predict", "inspect", "export", "report"]),
    st.sampled_from(PLACES),
    st.lists(override() | st.sampled_from(VALUES), max_size=2),
)
lines = st.one_of(composing, composing, composing, reading)


@pytest.fixture(scope="module", autouse=True)
def _skip_training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Replace training and measuring: the tests are of command lines alone."""
    folder = tmp_path_factory.mktemp("lines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for key, value in {**clean_environment(folder), "HOME": str(folder)}.items():
            patch.setenv(key, value)
        assert run_in_process(*SMALL, "hydra.run.dir=run", folder=folder).returncode == 0
        patch.setattr("os.fsync", lambda _: None)
        patch.setattr("cnnbench.training.run.train", lambda *_, **__: SimpleNamespace(value=0.0))
        patch.setattr("cnnbench.commands.benchmark.run", lambda *_, **__: {})
        patch.setattr("cnnbench.commands.benchmark.print_table", lambda _: None)
        patch.setattr("cnnbench.commands.lr_find.run", lambda *_, **__: None)
        yield


def outcome(arguments: list[str]) -> tuple[object, str, str]:
    """Run a command line in this process with text streams; return exit code, stdout and stderr."""
    output = io.TextIOWrapper(io.BytesIO(), "utf-8")
    errors = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["cnnbench", *arguments])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning is an answer, too
            try:
                code: object = command_line.main()
            except SystemExit as ended:
                code = ended.code or 0
    shown = []
    for stream in (output, errors):
        stream.flush()
        shown.append(stream.buffer.getvalue().decode())
    return code, *shown


def check(arguments: list[str]) -> None:
    code, shown, errors = outcome(arguments)
    assert code in (0, 2, 3, 5), errors
    assert "Traceback" not in shown
    assert not RAW_TEXT.search(errors), errors


@pytest.mark.parametrize(
    "line",
    [
        ["hydra.verbose=nan"],
        ["hydra.mode=foo"],
        ["hydra.sweeper=3"],
        ["hydra.sweeper.params=1"],
        ["+x={1:2}", "x.b=3"],
        ["hydra/launcher=nonsense"],
        ["hydra.job_logging.version=3", "data=sample"],
        ["-sc", f"augment={'9' * 5000}"],
        ["data=sample", "data.root=\udcff"],
        ["model=mlp", "model.widths=[1000000000000000000000]"],
        [
            "summary",
            "model=resnet9",
            "model.width=1000000",
            "data.resize=4096",
            "train.batch_size=100000",
        ],
    ],
    ids=lambda line: ascii(" ".join(line))[:40],
)
def test_odd_command_line_is_answered_without_traceback(line: list[str]) -> None:
    check(line)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("examples", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_random_command_lines_never_end_in_a_traceback(examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lines)
    def run(arguments: list[str]) -> None:
        check(arguments)

    run()
