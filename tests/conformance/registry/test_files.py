"""Files of datasets, as the database knows them."""

from typing import Any

import pytest

from tests.helpers import databases, samples

Pair = tuple[databases.Database, databases.Database]


def test_files_of_a_type_are_those_that_were_recorded(sample_databases: Pair, sample: samples.Sample) -> None:
    recorded = sample.expected["db"]["after_aggregate"]["records_in_run"]
    by_type: dict[str, set[tuple[str, str]]] = {}
    for dataset_id, dataset in sample.expected["provenance"]["datasets"].items():
        if dataset_id in recorded:
            files = by_type.setdefault(dataset["dataset_type"], set())
            files.add((sample.expected["run"], recorded[dataset_id]["path"]))
    assert len(by_type) > 10
    with sample_databases[1].open(writeable=False) as registry:
        for dataset_type, wanted in by_type.items():
            found = list(
                registry.datasets.files(dataset_type, "FileDatastore@<butlerRoot>", "file_datastore_records")
            )
            assert {(run, path) for run, path, _ in found} >= wanted
            assert {size for run, _, size in found if run == sample.expected["run"]} == {-1}
            assert len(found) == len(set(found))
            assert {path for run, path, _ in found if run == sample.expected["run"]} == {p for _, p in wanted}


@pytest.mark.parametrize(
    "where", [("nothing", "FileDatastore@<butlerRoot>"), ("clean_log", "other datastore")]
)
def test_there_need_not_be_any(sample_databases: Pair, where: Any) -> None:
    with sample_databases[1].open(writeable=False) as registry:
        assert not list(registry.datasets.files(*where, "file_datastore_records"))
