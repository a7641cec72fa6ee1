"""Weights & Biases: a run in a project, or offline in the run directory, by its client."""

import hashlib
import os
import secrets

from cnnbench.config import join_words
from cnnbench.runs.directory import RunDirectory
from cnnbench.trackers.base import Row, Rows, Tracker

__all__ = ["Client"]

MAX_WAIT_S = 10.0  # seconds to wait for the server, both at the start and at the end


class Client(Tracker):
    """The client of a run in Weights & Biases. wandb.json in the run directory has the run's id."""

    def start(self) -> str:
        import wandb

        directory = self.directory
        # ids start with a digest of the directory, so that a copied directory begins another run
        owner = hashlib.sha256(str(directory).encode()).hexdigest()[:8]
        run_id = self.read_id("wandb.json")
        is_resumed = run_id.startswith(f"{owner}-")
        if not is_resumed:
            run_id = f"{owner}-{secrets.token_hex(4)}"
        settings = wandb.Settings(
            silent=True,  # also keeps it from asking for a key
            console="off",
            symlink=False,
            init_timeout=MAX_WAIT_S,
            finish_timeout=MAX_WAIT_S,
            finish_timeout_raises=True,
        )
        wandb.setup(settings)
        try:
            self.tracked = wandb.init(
                project=self.config.project,
                entity=self.config.entity,
                mode=self.config.mode,
                dir=directory,
                id=run_id,
                resume="allow",
                name=directory.name,
                group=self.tags.get("sweep"),
                config={**self.parameters, "environment": self.tags},
                allow_val_change=True,
                reinit="create_new",
            )
        except wandb.errors.UsageError as error:  # no API key is configured
            error.args = (f"{error} Or set tracker.wandb.mode=offline.",)
            raise
        finally:
            for link in directory.glob("wandb/*/logs/*-core.log"):
                link.unlink()  # a run directory with links to places outside cannot be resumed
        RunDirectory(directory).write_json("wandb.json", {"run_id": run_id})
        if self.steps_per_epoch:
            self.tracked.define_metric("*", step_metric="epoch")
            self.tracked.define_metric("steps/*", step_metric="steps/step")
        if not (is_resumed and self.tracked.offline):
            self._log_history()  # a server ignores steps that it has
        sync = f"{join_words(['wandb', 'sync', os.path.relpath(directory)])}/wandb/offline-run-*"
        return self.tracked.url or sync

    def _log_history(self) -> None:
        """Log the rows that a resumed run starts with, in the order of their steps."""
        steps = list(self.step_history)
        for row, ended_at in self.history:
            before = [step for step in steps if step[0]["epoch"] <= row["epoch"]]
            self.log_steps(before)
            self.log_rows([(row, ended_at)])
            steps = steps[len(before) :]
        self.log_steps(steps)

    def log_rows(self, rows: Rows) -> None:
        """Log rows by their epoch or, if there are rows of steps, by their step."""
        for row, _ in rows:
            epoch = int(row["epoch"])
            metrics = {name: row[name] for name in row if name != "epoch"}
            if self.steps_per_epoch:
                metrics["epoch"] = epoch
            self.tracked.log(metrics, step=epoch * (self.steps_per_epoch or 1), commit=True)

    def log_steps(self, rows: Rows) -> None:
        for row, _ in rows:
            metrics = {f"steps/{name}": row[name] for name in row if name != "epoch"}
            self.tracked.log(metrics, step=int(row["step"]), commit=True)

    def log_result(self, figures: Row, last_row: Row) -> None:
        import wandb

        curves = wandb.Image(str(self.directory / "curves.png"))
        self.tracked.summary.update({**figures, "curves": curves})

    def end(self, state: str) -> None:
        self.tracked.finish(exit_code=int(state != "finished"))
