"""The statements of conf/claims.yaml, their jobs, and values for figures that need no runs."""

from cnnbench.analysis.judge import Estimate
from cnnbench.cli.hydra_app import conf_folder
from cnnbench.cli.reproduce import jobs_of
from cnnbench.reports.reproduction.findings import FIGURES
from cnnbench.reports.reproduction.statements import load_statements

__all__ = ["COMPUTED", "JOBS", "NOTHING", "STATEMENTS"]


class AnyFigure(dict[str, Estimate]):
    """A mapping that has a figure for every name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Estimate:
        return Estimate(0.5)


NOTHING = Estimate(0.0)
JOBS = jobs_of("all", "full")
COMPUTED = AnyFigure(dict.fromkeys(("border_reflect_smoothing", "border_reflect_lenet"), NOTHING))
STATEMENTS = load_statements(conf_folder() / "claims.yaml", JOBS, FIGURES, COMPUTED)
