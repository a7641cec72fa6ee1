"""The statements of conf/claims.yaml, their jobs, and values for figures that need no runs."""

from collections.abc import Sequence

from cnnbench.analysis.judge import Estimate
from cnnbench.cli.hydra_app import conf_folder
from cnnbench.cli.reproduce import jobs_of
from cnnbench.reports.reproduction.arms import sort_runs
from cnnbench.reports.reproduction.findings import FIGURES, JudgedFinding, judge_finding
from cnnbench.reports.reproduction.statements import Finding, load_statements
from cnnbench.reports.reproduction.stored_runs import StoredRun

__all__ = ["COMPUTED", "FINDINGS", "FULL", "NOTHING", "PIXELS", "STATEMENTS", "judge_one"]


class AnyFigure(dict[str, Estimate]):
    """A mapping that has a figure for every name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Estimate:
        return Estimate(0.5)


NOTHING = Estimate(0.0)
FULL, PIXELS = jobs_of("all", "full"), jobs_of("all", "pixels")
COMPUTED = AnyFigure(dict.fromkeys(("border_reflect_smoothing", "border_reflect_lenet"), NOTHING))
STATEMENTS = load_statements(conf_folder() / "claims.yaml", FULL, FIGURES, COMPUTED)
FINDINGS = {
    f"{number}-{place}": finding
    for number, claim in STATEMENTS.claims.items()
    for place, finding in enumerate(claim.findings, start=1)
}


def judge_one(
    finding: Finding, runs: Sequence[StoredRun] = (), **computed: Estimate
) -> JudgedFinding:
    """Judge a finding by runs of the full scale or of pixels."""
    experiments = sort_runs(runs, [FULL, PIXELS], STATEMENTS.gpu_minutes)
    return judge_finding(finding, experiments, computed)
