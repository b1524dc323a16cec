"""Ingestion of a graph by somebody who may not delete or move everything."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.helpers import sample_case, samples

NOBODY = 65534


@pytest.fixture
def common(aggregated_sample: samples.Sample) -> Iterator[samples.Sample]:
    """Return the aggregated sample where everybody can get to it, owned by somebody without privileges."""
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        for path in (aggregated_sample.repo, aggregated_sample.root / "provenance.qg"):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, root / path.name)
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        yield samples.Sample(root, root / "repo", aggregated_sample.expected)


def as_nobody(
    sample: samples.Sample, other: samples.Sample, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as somebody whom permissions stop."""
    # That user may have no access to the libraries: ingesting another graph before imports all of them.
    code = (
        "import difflib, os, sys, aggregator, aggregator.command_line.main as c\n"
        "aggregator.ingest_graph(sys.argv[1], sys.argv[2], transfer='copy')\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "c.main(['ingest-graph', *sys.argv[3:]])"
    )
    command = [sys.executable, "-c", code, str(other.repo), str(other.root / "provenance.qg")]
    command += [str(sample.repo), str(sample.root / "provenance.qg"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")


@needs_root
def test_originals_that_cannot_be_deleted(common: samples.Sample, aggregated_sample: samples.Sample) -> None:
    """They are named, everything else is done, and the same command finishes it."""
    kept = sample_case.originals(common)[-1]
    os.chown(kept.parent, 0, 0)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 1, done.stderr
    assert f"{kept} (Permission denied)" in done.stderr
    assert "1 original files could not be deleted" in done.stderr
    assert sample_case.originals(common) == [kept]
    assert (common.root / "provenance.qg").exists()
    os.chown(kept.parent, NOBODY, NOBODY)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 0, done.stderr
    assert sample_case.originals(common) == []
    assert not (common.root / "provenance.qg").exists()


@needs_root
def test_move_from_where_nothing_can_be_removed(
    common: samples.Sample, aggregated_sample: samples.Sample
) -> None:
    os.chown(common.root, 0, 0)
    before = sample_case.database(common).content()
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 2, done.stderr
    assert "not writeable; copy it instead" in done.stderr
    assert sample_case.database(common).content() == before
    assert as_nobody(common, aggregated_sample, "-t", "copy").returncode == 0
    assert sample_case.originals(common) == []


@needs_root
def test_directories_that_cannot_be_removed(
    common: samples.Sample, aggregated_sample: samples.Sample
) -> None:
    """They are empty, so everything is done; but they are named."""
    kept = sample_case.originals(common)[-1].parent
    os.chown(kept.parent, 0, 0)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 0, done.stderr
    assert f"Directory left: {kept}: can't remove it (Permission denied)" in done.stdout
    assert kept.is_dir()


@needs_root
def test_originals_that_cannot_be_read(common: samples.Sample, aggregated_sample: samples.Sample) -> None:
    """They are not called changed, so nobody is told to delete them; when they can be read, they go."""
    kept = sample_case.originals(common)[-1]
    os.utime(kept, (2e9, 2e9))
    os.chown(kept, 0, 0)
    kept.chmod(0o600)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 1, done.stderr
    assert "1 original files could not be deleted" in done.stderr
    assert f"{kept} (can't open it (Permission denied))" in done.stderr
    assert sample_case.originals(common) == [kept]
    kept.chmod(0o644)
    done = as_nobody(common, aggregated_sample)
    assert done.returncode == 0, done.stderr
    assert sample_case.originals(common) == []
