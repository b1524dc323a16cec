"""The final job of docs/how-to/run-in-a-batch-system.md, as bps makes it, and run as bps runs it."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.helpers import small_runs

pytest.importorskip("lsst.ctrl.bps")
from lsst.ctrl import bps
from lsst.ctrl.bps import bps_config, transform

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "how-to" / "run-in-a-batch-system.md"
OWN_KEYS = {"provenanceGraph"}


def sections() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def final_job(run: small_runs.SmallRun, text: str, **changes: Any) -> Any:
    """Return the final job that bps makes of a section, with its script beside the run's repository."""
    submit = run.root.parent / "submit"
    submit.mkdir(exist_ok=True)
    settings = {"finalJob": yaml.safe_load(text)["finalJob"] | changes} | {
        "butlerConfig": str(run.root), "submitPath": str(submit), "computeSite": "here",
        "payload": {"payloadName": "campaign", "butlerConfig": str(run.root)},
    }  # fmt: skip
    config = bps.BpsConfig(
        settings, defaults=bps_config.BPS_DEFAULTS, wms_service_class_fqn="lsst.ctrl.bps.BaseWmsService"
    )
    workflow = bps.GenericWorkflow("campaign")
    workflow.add_file(bps.GenericWorkflowFile("runQgraphFile", str(run.predicted)))
    return transform.create_final_job(config, workflow, str(submit))


def execute(job: Any, run: small_runs.SmallRun) -> subprocess.CompletedProcess[str]:
    arguments = job.arguments.replace("<FILE:runQgraphFile>", str(run.predicted)).split()
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [job.executable.src_uri, *arguments], env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_all_keys_are_those_of_bps() -> None:
    keys = set(yaml.safe_load(sections()[0])["finalJob"]) - OWN_KEYS
    attributes = {re.sub(r"_(\w)", lambda m: m[1].upper(), name) for name in transform._ATTRS_ALL}
    assert keys - set(bps_config.BPS_DEFAULTS["finalJob"]) <= attributes


def test_the_job_has_the_settings_and_aggregates(tmp_path: pathlib.Path) -> None:
    run = small_runs.make(tmp_path / "repo")
    job = final_job(run, sections()[0])
    assert (job.request_cpus, job.request_memory, job.memory_multiplier) == (16, 4096, 2)
    assert (job.number_of_retries, job.retry_unless_exit) == (3, [2])

    job = final_job(run, sections()[0], requestCpus=2)
    done = execute(job, run)
    assert done.returncode == 0, done.stderr
    assert "60 quanta" in done.stderr
    assert (tmp_path / "submit" / "provenance.qg").exists()
    assert (tmp_path / "submit" / "aggregation.json").exists()

    # A retry finds everything done.
    assert execute(job, run).returncode == 0


def test_the_job_can_ingest_the_graph_as_well(tmp_path: pathlib.Path) -> None:
    run = small_runs.make(tmp_path / "repo")
    job = final_job(run, "".join(sections()), requestCpus=1)
    done = execute(job, run)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "submit" / "provenance.qg").exists()
    assert list(run.root.rglob("run_provenance*.qg"))
