"""conf/claims.yaml: its statements, and the messages for its mistakes."""

from pathlib import Path

import pytest
import yaml
from helpers.reproduced_statements import FULL, STATEMENTS

from cnnbench.cli.hydra_app import conf_folder
from cnnbench.errors import ConfigError
from cnnbench.reports.reproduction.findings import FIGURES
from cnnbench.reports.reproduction.statements import Statements, load_statements, parse_arm

MINE = {
    "claims/mine": [["model=lenet", "optimizer.lr=0.1"], ["model=alexnet", "optimizer.lr=1"]],
    "claims/depth": [["model.widths=[128,128]"], ["model.widths=[128]"]],
}
FINDING = {
    "figure": "accuracy",
    "experiment": "claims/mine",
    "arms": ["model=alexnet optimizer.lr=0.1,1", "model=lenet"],
    "low": "0.1",
    "stated": "more",
}


def load(folder: Path, text: str) -> Statements:
    path = folder / "claims.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return load_statements(path, MINE, FIGURES, ["brightness"])


def of_finding(**changes: object) -> str:
    """Return a file with one claim that has this finding. None leaves a key out."""
    values = {key: value for key, value in (FINDING | changes).items() if value is not None}
    return yaml.safe_dump({"book": {}, "claims": {11: {"text": "Mine.", "findings": [values]}}})


def test_custom_claim_is_loaded(tmp_path: Path) -> None:
    claim = load(tmp_path, of_finding()).claims["11"]
    (finding,) = claim.findings
    assert (claim.text, claim.experiments) == ("Mine.", ["claims/mine"])
    assert (finding.low, finding.high) == (0.1, float("inf"))
    assert finding.placed_arms == [("claims/mine", arm) for arm in finding.arms]


def test_arms_may_be_of_other_experiments(tmp_path: Path) -> None:
    arms = ["model=alexnet", "experiment=claims/depth model.widths=[128,128]"]
    claim = load(tmp_path, of_finding(arms=arms)).claims["11"]
    places = [("claims/mine", "model=alexnet"), ("claims/depth", "model.widths=[128,128]")]
    assert claim.findings[0].placed_arms == places
    assert claim.experiments == ["claims/mine", "claims/depth"]


def test_commas_in_a_list_do_not_separate_values() -> None:
    parsed = parse_arm("model.widths=[128,128],[64] optimizer.lr=0.1,1")
    widths = {"model.widths=[128,128]", "model.widths=[64]"}
    assert parsed == [widths, {"optimizer.lr=0.1", "optimizer.lr=1"}]


def test_networks_papers_and_minutes_are_loaded(tmp_path: Path) -> None:
    text = of_finding() + yaml.safe_dump(
        {
            "course": {"claims/mine": {"title": "Mine"}},
            "papers": {"mine": {"title": "Mine", "figure": "6 %", "minutes": 10}},
            "gpu_minutes": {"claims/mine": 1.5},
        }
    )
    loaded = load(tmp_path, text)
    assert loaded.course["claims/mine"].title == "Mine"
    assert loaded.papers["mine"].figure == "6 %"
    assert loaded.gpu_minutes == {"claims/mine": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\udcff", "invalid start byte"),
        ("claims: [", "it is not YAML"),
        ("book: {}", "claims is not a group of keys"),
        ("book: {claims/yours: {title: x}}\nclaims: {}", "book: 'claims/yours' is not known"),
        ("book: {claims/mine: {title: x, accuracies: [1.5]}}\nclaims: {}", "accuracies=1.5"),
        ("book: {}\nclaims: {11: {text: x}}", "claims.11.findings has no value"),
        ("book: {}\nclaims: {11: {text: x, findings: []}}", "claims.11.findings"),
        (of_finding(lowest=0), "There is no key 'claims.11.findings.lowest'"),
        (of_finding(low="much"), "claims.11.findings.low=much is not a number"),
        (
            of_finding(only_if="full"),
            "only_if=full is not known. Did you mean 'full_scale'? Allowed: ",
        ),
        (of_finding(figure="accurcy"), "figure: 'accurcy' is not known. Did you mean 'accuracy'?"),
        (of_finding(figure="brightness"), "claims.11.figure: 'brightness' is not known"),
        (of_finding(experiment="claims/min"), "'claims/min' is not known. Did you mean"),
        (of_finding(arms=["modle=lenet"]), "arms: 'modle=lenet' is not known. Did you mean 'model"),
        (of_finding(arms=["model=lenet,nin"]), "arms: 'model=nin' is not known"),
        (of_finding(arms=["seed=0"] * 3), "claims.11.findings.arms"),
        (of_finding(arms=None), "accuracy needs either experiment and arms, or a text"),
        (of_finding(experiment=None), "accuracy needs either experiment and arms, or a text"),
        (of_finding(experiment=None, arms=None), "needs either experiment and arms, or a text"),
        (of_finding(arms=None, text="x"), "accuracy needs either experiment and arms, or a text"),
        (of_finding(text="x"), "accuracy needs either experiment and arms, or a text"),
        (of_finding(arms=["experiment=claims/min"]), "'claims/min' is not known. Did you mean"),
        (of_finding() + "gpu_minutes: {claims/yours: 1}", "gpu_minutes: 'claims/yours' is not kno"),
        (of_finding() + "gpu_minutes: {claims/mine: x}", "gpu_minutes.claims/mine=x is not a num"),
        (of_finding() + "course: {claims/yours: {title: x}}", "course: 'claims/yours' is not know"),
        (of_finding() + "papers: {mine: {title: x}}", "papers.mine.figure has no value"),
        (of_finding(low=1, high=1), "low=1 is not below high=1"),
        (of_finding(stated=None), "accuracy needs both a range and, as stated, its words"),
        (of_finding(low=None), "accuracy needs both a range and, as stated, its words"),
    ],
)
def test_invalid_claims_file_is_rejected_with_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'claims.yaml'}: ")
    assert message in str(raised.value)


def test_every_experiment_is_used_by_a_statement() -> None:
    names = [name for claim in STATEMENTS.claims.values() for name in claim.experiments]
    assert {*STATEMENTS.book, *STATEMENTS.course, *names} == set(FULL)


def test_claims_are_not_a_config_group() -> None:
    assert not (conf_folder() / "claims").exists()  # Hydra offers each folder as a group
