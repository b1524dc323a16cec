"""A Slurm cluster of this machine alone, of packages that are unpacked and not installed (`make slurm`)."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence

import pytest

PACKAGES = "AGGREGATOR_SLURM_PACKAGES"
"""Variable that says where they are."""

_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/slurm-wlm")

_CONFIGURATION = """\
ClusterName=one
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
PluginDir={packages}/usr/lib/x86_64-linux-gnu/slurm-wlm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={home}/ended.txt
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SchedulerParameters=batch_sched_delay=1,sched_interval=1
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname=localhost CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """A cluster that runs.

    Parameters
    ----------
    packages
        Where the packages are unpacked.
    home
        Its own files.
    """

    def __init__(self, packages: pathlib.Path, home: pathlib.Path) -> None:
        self._home = home
        libraries = [str(packages / each) for each in _LIBRARIES]
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "SLURM_CONF": str(home / "slurm.conf"),
            "PATH": os.pathsep.join([str(packages / "usr/bin"), os.environ["PATH"]]),
        }

    @property
    def ended(self) -> pathlib.Path:
        """File with a line for each job that has ended."""
        return self._home / "ended.txt"

    def run(self, *command: str | os.PathLike[str]) -> str:
        """Run a command to its end; return what it has printed."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        return done.stdout

    def wait(self, jobs: Sequence[str], seconds: float = 300.0) -> list[str]:
        """Return the states of jobs, and of the elements of arrays, when all have ended."""
        end = time.monotonic() + seconds
        while set(self.run("squeue", "--noheader", "--format=%F").split()) & set(jobs):
            assert time.monotonic() < end
            time.sleep(0.5)
        states = []
        for line in self.run("scontrol", "--oneliner", "show", "jobs").splitlines():
            fields = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
            if fields.get("ArrayJobId", fields["JobId"]) in jobs:
                states.append(fields["JobState"])
        return states


@contextlib.contextmanager
def running(home: pathlib.Path) -> Iterator[Cluster]:
    """Run a cluster; where there are no packages, the test is skipped."""
    if PACKAGES not in os.environ:
        pytest.skip("make slurm gets the packages")
    packages = pathlib.Path(os.environ[PACKAGES])
    cluster = Cluster(packages, home)
    for name in ("state", "spool", "munge"):
        (home / name).mkdir(mode=0o700)
    home.chmod(0o755)
    (home / "slurm.conf").write_text(_CONFIGURATION.format(home=home, packages=packages))
    programs, munge = packages / "usr/sbin", home / "munge"
    cluster.run(programs / "mungekey", "-c", "-k", munge / "key")
    files = {"key": "key", "socket": "sock", "pid": "pid", "log": "log", "seed": "seed"}
    options = [f"--{name}-file={munge / file}" for name, file in files.items() if name != "socket"]
    cluster.run(programs / "munged", "--force", *options, f"--socket={munge / 'sock'}", "--num-threads=1")
    try:
        cluster.run(programs / "slurmctld-wlm", "-c")
        cluster.run(programs / "slurmd-wlm", "-N", "localhost", "-d", programs / "slurmstepd-wlm")
        end = time.monotonic() + 30
        while "idle" not in cluster.run("sinfo", "--noheader", "--format=%T"):
            assert time.monotonic() < end
            time.sleep(0.25)
        yield cluster
    finally:
        for path in (home / "slurmd.pid", home / "slurmctld.pid", munge / "pid"):
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
