"""Two people who may both write use one checkpoint directory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers import samples

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


_GROUP = 2000


def _as_member(sample: samples.Sample, *options: str) -> None:
    """Aggregate as a member of a group, with nothing but its rights."""
    capabilities = "-dac_override,-dac_read_search,-fowner,-chown"
    command = [
        *("setpriv", f"--bounding-set={capabilities}", "--inh-caps=-all", f"--regid={_GROUP}"),
        *("--clear-groups", sys.executable, "-m", "aggregator.command_line.main", "aggregate-graph"),
        *(str(sample.repo / "predicted.qg"), str(sample.repo), "-o", str(sample.root / "out.qg")),
        *("--mock-storage-classes", *options),
    ]
    done = subprocess.run(command, umask=0o002, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_root
def test_two_people_of_a_group(sample: samples.Sample) -> None:
    """The second resumes what the first began, with its lock, ledger and digests; both own files."""
    for path in (sample.root, *sample.root.rglob("*")):
        os.chown(path, -1, _GROUP)
        os.chmod(path, 0o2775 if path.is_dir() else 0o664)
    for parent in sample.root.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and os.access(parent, os.W_OK):
            os.chmod(parent, parent.stat().st_mode | 0o005)
    _as_member(sample, "--incomplete")
    directory = sample.repo / "predicted.qg.checkpoint"
    for path in (directory, *directory.iterdir(), sample.repo / "gen3.sqlite3"):
        assert path.stat().st_gid == _GROUP
        os.chown(path, 1001, -1)
    _as_member(sample)
    assert not directory.exists()
