"""Dataset types that a configuration shows under another name or storage class."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry

import aggregator
from tests.conformance.registry.test_admission import aggregate, refused
from tests.helpers import databases, samples

MOCK = "_mock_StructuredDataDict"
DETECTOR = ["instrument", "visit", "detector"]


@pytest.fixture
def database(sample: samples.Sample) -> databases.Database:
    return databases.Sqlite(sample.repo / "gen3.sqlite3")


def override(sample: samples.Sample, overrides: Any, **others: Any) -> None:
    path = sample.repo / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    managers = content["registry"]["managers"]
    cls = managers["datasets"] if isinstance(managers["datasets"], str) else managers["datasets"]["cls"]
    managers["datasets"] = {"cls": cls, "config": {"overrides": overrides, **others}}
    path.write_text(yaml.safe_dump(content))


def open_repository(sample: samples.Sample) -> registry.Registry:
    return registry.open_repository(repository_config.load(sample.repo), writeable=True)


def kinds(database: databases.Database) -> dict[str, int]:
    """Return the number of datasets of each registered type, by its name in the database."""
    query = (
        "SELECT t.name, count(d.id) FROM dataset_type t LEFT JOIN dataset d ON d.dataset_type_id = t.id "
        "GROUP BY t.name"
    )
    return dict(database.query(query))


def test_datasets_go_under_the_name_in_the_database(
    sample: samples.Sample, database: databases.Database
) -> None:
    override(sample, {"old_sources": {"rename": "sources"}})
    aggregate(sample)
    found = kinds(database)
    assert found["old_sources"] > 0
    assert "sources" not in found
    content = database.content()
    assert aggregate(sample, defensive_ingest=True).n_ingested == 0
    assert database.content() == content


def test_a_name_can_be_that_of_another_type_in_the_database(
    sample: samples.Sample, database: databases.Database
) -> None:
    with open_repository(sample) as opened:
        opened.dataset_types.register("sources", "Plot", ["band"])
        opened.dataset_types.register("new_sources", MOCK, DETECTOR)
    override(sample, {"sources": {"rename": "plots"}, "new_sources": {"rename": "sources"}})
    aggregate(sample)
    found = kinds(database)
    assert found["new_sources"] > 0
    assert found["sources"] == 0
    with open_repository(sample) as opened:
        assert opened.dataset_types.row("sources").storage_class == MOCK
        assert opened.dataset_types.row("plots").storage_class == "Plot"


def test_a_storage_class_is_replaced(sample: samples.Sample, database: databases.Database) -> None:
    with open_repository(sample) as opened:
        opened.dataset_types.register("sources", "ArrowAstropy", DETECTOR)
    refused(sample, database, "'sources' is registered with another definition")
    override(sample, {"sources": {"storageClass": MOCK}})
    aggregate(sample)
    assert kinds(database)["sources"] > 0
    assert database.query("SELECT storage_class FROM dataset_type WHERE name = 'sources'") == [
        ("ArrowAstropy",)
    ]
    assert database.query(
        "SELECT DISTINCT r.storage_class FROM file_datastore_records r JOIN dataset d ON d.id = r.dataset_id "
        "JOIN dataset_type t ON t.id = d.dataset_type_id WHERE t.name = 'sources'"
    ) == [(MOCK,)]


def test_a_renamed_type_with_another_storage_class(
    sample: samples.Sample, database: databases.Database
) -> None:
    with open_repository(sample) as opened:
        opened.dataset_types.register("old", "ArrowAstropy", DETECTOR)
    override(sample, {"old": {"rename": "sources", "storageClass": MOCK}})
    aggregate(sample)
    assert kinds(database)["old"] > 0


@pytest.mark.ordering("B6")
@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"sources": {"rename": "plots"}}, "its name is one that the configuration replaces"),
        ({"sources": {"storageClass": MOCK}}, "replaces its storage class"),
        ({"old": {"rename": "sources", "storageClass": MOCK}}, "replaces its storage class"),
    ],
)
def test_types_that_can_not_be_registered(
    sample: samples.Sample, database: databases.Database, overrides: Any, problem: str
) -> None:
    override(sample, overrides)
    refused(sample, database, "'sources' can't be registered", problem)


@pytest.mark.ordering("B6")
@pytest.mark.parametrize(
    ("overrides", "others", "problem"),
    [
        ({"sources": {"rename": "a", "dimensions": ["visit"]}}, {}, "has dimensions"),
        ({"sources": {"rename": 3}}, {}, "has to be a name"),
        ({"sources": "a"}, {}, "has to be a mapping"),
        (["sources"], {}, "has to be a mapping"),
        ({"a": {"rename": "c"}, "b": {"rename": "c"}}, {}, "renames b to the name that a has"),
        ({"a": {"rename": "a"}}, {}, "renames a to itself"),
        ({}, {"cache": 1}, "has cache"),
        ({"a": {"rename": "run_provenance"}}, {}, "concern run_provenance"),
        ({"run_provenance": {"rename": "a"}}, {}, "concern run_provenance"),
        ({"run_provenance": {"storageClass": "a"}}, {}, "concern run_provenance"),
    ],
)
def test_refused(
    sample: samples.Sample, database: databases.Database, overrides: Any, others: Any, problem: str
) -> None:
    override(sample, overrides, **others)
    refused(sample, database, problem)
    with pytest.raises(aggregator.RefusedError, match=problem):
        aggregator.ingest_graph(sample.repo, sample.root / "provenance.qg")


def test_empty_sections_are_none(sample: samples.Sample) -> None:
    override(sample, {"a": {}, "b": {"rename": None}})
    assert repository_config.load(sample.repo).overrides == repository_config.type_overrides.NONE
    override(sample, None)
    assert repository_config.load(sample.repo).overrides == repository_config.type_overrides.NONE


def test_graphs_are_ingested_under_other_names(sample: samples.Sample, database: databases.Database) -> None:
    override(sample, {"old_log": {"rename": "clean_log"}, "old_config": {"rename": "stack_config"}})
    aggregate(sample, output_path=str(sample.root / "ours.qg"))
    aggregator.ingest_graph(sample.repo, sample.root / "ours.qg")
    rows = database.query(
        "SELECT DISTINCT t.name, r.path LIKE '%.qg' FROM file_datastore_records r JOIN dataset d "
        "ON d.id = r.dataset_id JOIN dataset_type t ON t.id = d.dataset_type_id "
        "WHERE t.name LIKE '%_log' OR t.name LIKE '%_config'"
    )
    assert {"old_log", "old_config"} <= {name for name, _ in rows}
    assert "clean_log" not in {name for name, _ in rows}
    assert {kept for _, kept in rows} == {1}
