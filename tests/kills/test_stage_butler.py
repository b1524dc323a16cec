"""A process that writes a dataset for a policy is killed, and the same is done again."""

from __future__ import annotations

import os
import pathlib
import signal

import pytest
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.stages import repository_butler
from aggregator.stages.policies import paf, policy

import aggregator
from tests.helpers import kills

POLICY = """
input:
  parameters:
    inputItems:
      numbers:
        type: PropertySet
        pythonType: builtins.dict
        storagePolicy: {storage: PafStorage, location: "DIRECTORY/%(detector).paf"}
output:
  parameters:
    butler: {run: back}
    outputItems:
      numbers:
        datasetId: {datasetType: numbers, fromJobIdentity: [instrument, detector]}
"""


@pytest.mark.ordering("S1")
def test_files_come_before_rows(tmp_path: pathlib.Path) -> None:
    root, marker = tmp_path / "repository", tmp_path / "marker"
    aggregator.create_repository(root)
    with registry.open_repository(repository_config.load(root), writeable=True) as opened:
        opened.dimensions.insert("instrument", [{"name": "Cam"}])
        opened.dimensions.insert("detector", [{"instrument": "Cam", "id": 1, "full_name": "D1"}])
        opened.dataset_types.register("numbers", "StructuredDataDict", ["detector"])
    (tmp_path / "1.paf").write_text("a: 1\n")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("DIRECTORY", str(tmp_path)))
    command = ["stage", str(tmp_path / "policy.yaml"), "--repo", str(root), "--where", "instrument = 'Cam'"]
    running = kills.start(command, "written:1", marker)
    try:
        os.kill(kills.wait_for(marker, running), signal.SIGKILL)
    finally:
        kills.kill_group(running.pid)
        running.communicate()
    settings = policy.Policy()
    paf.parse(f"repository: {root}\ncollections: back\ninstrument: Cam", settings)
    with registry.open_repository(repository_config.load(root), writeable=False) as opened:
        assert opened.collections.find("back") is None
    (written,) = [path for path in root.rglob("*") if path.is_file() and "back" in path.parts]
    before = written.read_bytes()
    kills.finish_here(command)
    butler = repository_butler.RepositoryButler(settings)
    assert dict(butler.get("numbers", {"detector": 1})) == {"a": 1}
    butler.close()
    assert written.read_bytes() == before
    assert [path for path in root.rglob("*") if path.is_file() and "back" in path.parts] == [written]
