"""The sweeper plugin of cnnbench, hydra/sweeper=cnnbench. Hydra finds plugins in this package.

Every Hydra application in the environment imports this file, so it imports nothing of cnnbench.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CnnbenchSweeper(Sweeper):
    """Runs a sweep, or what is left of it: finished jobs are skipped, interrupted ones resumed.

    Failed jobs are run again. conf/hydra/sweeper/cnnbench.yaml documents the parameters.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        jobs_file: str | None = None,
        dry_run: bool = False,
    ) -> None:
        self.params = dict(params or {})
        self.jobs_file = jobs_file
        self.dry_run = dry_run

    def setup(
        self,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> None:
        """Prepare the sweep; Hydra calls this first."""
        from cnnbench.sweeps.compose_once import ComposeOnce

        loader: Any = ComposeOnce(hydra_context.config_loader)
        self.hydra_context: HydraContext = HydraContext(loader, hydra_context.callbacks)
        self.task_function = task_function
        self.config: DictConfig = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs of the overrides in `arguments`; return their results."""
        from cnnbench.sweeps.sweeper import run_sweep

        return run_sweep(self, arguments)
