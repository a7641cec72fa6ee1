"""A Slurm cluster of one node in a folder of its own: apt-get install slurmctld slurmd slurm-client munge

It needs neither root nor systemd, cgroups or a data base: the daemons run as whoever starts them. Without the data
base there is no sacct, so submitit learns from its own files alone how jobs end.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["SlurmCluster", "missing_programs"]

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where Debian keeps daemons; not everyone has it
PATIENCE_S = 30.0

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2048 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=usual Nodes={host} Default=YES PriorityTier=1 GraceTime=60 State=UP
PartitionName=urgent Nodes={host} PriorityTier=2 State=UP
"""


def missing_programs() -> list[str]:
    """What of it is not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


class SlurmCluster:
    """While it is entered the daemons run. `environment` is what Slurm's commands need to find it.

    A job in the partition `urgent` preempts those in `usual`, the default, after a minute of grace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        values = {
            "folder": folder,
            "host": socket.gethostname().partition(".")[0],
            "user": getpass.getuser(),
            "cpus": os.cpu_count(),
        }
        controller_port, node_port = _free_ports(2)
        text = CONFIGURATION.format(**values, controller_port=controller_port, node_port=node_port)
        (folder / "slurm.conf").write_text(text)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self.environment = {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "SlurmCluster":
        folder = self.folder
        try:
            self._start(
                *("munged", "--foreground", "--force", f"--key-file={folder}/munge.key"),
                *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
                *(f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log"),
            )
            self._wait_until("munged listens", (folder / "munge.socket").exists)
            self._start("slurmctld", "-D", "-c")
            self._start("slurmd", "-D")
            self._wait_until(
                "the node is idle", lambda: self.output("sinfo", "-h", "-o", "%T") == "idle"
            )
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.output("scancel", "--user", getpass.getuser())
            self._wait_until(
                "no job is left", lambda: self.output("squeue", "-h") == ""
            )  # or its processes outlive us
        finally:
            self._stop()

    def output(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        environment = os.environ | self.environment
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def start_waiting_jobs(self) -> None:
        """Slurm lets a job that is queued again wait for two minutes; not here."""
        for line in self.output("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i %r").splitlines():
            job, reason = line.split(maxsplit=1)
            if reason == "BeginTime":
                self.output("scontrol", "update", f"JobId={job}", "StartTime=now")

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as log:
            self._daemons.append(
                subprocess.Popen(
                    command, env=os.environ | self.environment, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def _wait_until(self, what: str, happened: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not happened():
            if time.monotonic() > give_up_at or any(
                each.poll() is not None for each in self._daemons
            ):
                logs = "\n".join(
                    f"{path.name}:\n{path.read_text()[-2000:]}"
                    for path in self.folder.glob("*.out")
                )
                raise RuntimeError(
                    f"Slurm does not do what it should: waited until {what}.\n{logs}"
                )
            time.sleep(0.1)

    def _stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
