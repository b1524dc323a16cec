"""What a graph holds in place of files reads like the files that it stands in for."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler")

from aggregator.schemas.graphs import backed_contents, provenance_graph
from aggregator.storage import errors

from tests.helpers import samples
from tests.helpers.oracle import compare


@pytest.fixture
def models(sample: samples.Sample) -> dict[str, Any]:
    return compare.provenance_models(sample.root / "provenance.qg")


def _read(path: pathlib.Path, *dataset: str) -> bytes:
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        return backed_contents.BackedContents(graph).read(*dataset)


def test_logs_and_metadata_are_those_of_the_last_attempt(
    sample: samples.Sample, models: dict[str, Any]
) -> None:
    from lsst.daf.butler.logging import ButlerLogRecords
    from lsst.pipe.base import TaskMetadata

    n_read = 0
    for node, quantum in models["quanta"].items():
        log = models["logs"][f"{node} by quantum"]
        for which, storage_class in (("log", "ButlerLogRecords"), ("metadata", "TaskMetadata")):
            found = [None] if not log else log if which == "log" else models["metadata"][node][0]
            dataset = quantum[f"{which}_id"], f"{quantum['task']}_{which}", storage_class
            if isinstance(models["metadata"][node], compare.MetadataUnreadable):
                continue
            if found[-1] is None:
                with pytest.raises(errors.FormatError, match=r"should be in it, and is not"):
                    _read(sample.root / "provenance.qg", *dataset)
                continue
            content = _read(sample.root / "provenance.qg", *dataset)
            n_read += 1
            if which == "log":
                records = ButlerLogRecords.from_raw(content)
                assert [record.model_dump(mode="json") for record in records] == found[-1]
            else:
                assert TaskMetadata.model_validate_json(content).model_dump() == found[-1]
    assert n_read > 20


def test_configs_are_those_of_the_pipeline(sample: samples.Sample, models: dict[str, Any]) -> None:
    text = models["pipeline_graph"]["tasks"]["clean"]["config_str"]
    config_id = models["init_quanta"]["clean"][1]
    assert _read(sample.root / "provenance.qg", config_id, "clean_config", "Config").decode() == text
    with pytest.raises(errors.FormatError, match="nothing_config"):
        _read(sample.root / "provenance.qg", config_id, "nothing_config", "Config")
    with pytest.raises(errors.FormatError, match="image"):
        _read(sample.root / "provenance.qg", config_id, "image", "ExposureF")
