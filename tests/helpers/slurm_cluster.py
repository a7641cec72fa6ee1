"""A Slurm cluster of one node, with all its files in one folder.

It needs: apt-get install slurmctld slurmd slurm-client munge

It needs no root, systemd, cgroups or database: the daemons run as the current user. Without the
database there is no sacct, so that submitit learns only from its own files how jobs end.
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
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # Debian's folders of daemons
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
    """Return the programs of Slurm that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


class SlurmCluster:
    """A cluster whose daemons run inside a `with` block.

    `environment` has the variables that Slurm's commands need to find it. A job in the partition
    `urgent` preempts jobs in `usual`, the default partition, after a minute of grace.
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
            # processes of jobs would outlive the tests
            self._wait_until("no job is left", lambda: self.output("squeue", "-h") == "")
        finally:
            self._stop()

    def output(self, *command: str) -> str:
        """Return the output of a Slurm command."""
        environment = os.environ | self.environment
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def start_waiting_jobs(self) -> None:
        """Start requeued jobs at once: Slurm would let them wait for two minutes."""
        for line in self.output("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i %r").splitlines():
            job, reason = line.split(maxsplit=1)
            if reason == "BeginTime":
                self.output("scontrol", "update", f"JobId={job}", "StartTime=now")

    def _start(self, *command: str) -> None:
        environment = os.environ | self.environment
        with (self.folder / f"{command[0]}.out").open("wb") as log:
            daemon = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._daemons.append(daemon)

    def _wait_until(self, event: str, has_happened: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not has_happened():
            has_ended = any(daemon.poll() is not None for daemon in self._daemons)
            if has_ended or time.monotonic() > give_up_at:
                files = self.folder.glob("*.out")
                logs = "\n".join(f"{file.name}:\n{file.read_text()[-2000:]}" for file in files)
                raise RuntimeError(f"Slurm failed: waited until {event}.\n{logs}")
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
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()
