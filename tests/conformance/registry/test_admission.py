"""What a repository can't take is refused before anything is done, all of it at once."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from aggregator.butler.registry import dataset_types, registry
from aggregator.storage import errors

import aggregator
from tests.helpers import databases, samples

RUN, CHAIN = "u/sample/run1", "u/sample"


def aggregate(sample: samples.Sample, **config: Any) -> Any:
    options = aggregator.AggregatorConfig(mock_storage_classes=True, **config)
    return aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)


def files(root: pathlib.Path) -> set[pathlib.Path]:
    return {path for path in root.rglob("*") if "sqlite3-" not in path.name}


def configure(sample: samples.Sample, part: str, **values: Any) -> None:
    path = sample.repo / "butler.yaml"
    content = yaml.safe_load(path.read_text())
    content[part].update(values)
    path.write_text(yaml.safe_dump(content))


def refused(sample: samples.Sample, database: databases.Database, *parts: str, **config: Any) -> None:
    """Check that a run is refused for all these reasons, and that all is as it was."""
    before = database.content(), files(sample.root)
    with pytest.raises(aggregator.RefusedError) as caught:
        aggregate(sample, output_path=str(sample.root / "out.qg"), **config)
    assert [part for part in parts if part not in str(caught.value)] == [], caught.value
    assert (database.content(), files(sample.root)) == before


@pytest.fixture
def used(sample: samples.Sample, database: databases.Database) -> databases.Database:
    """Let the sample use a database of either kind."""
    if isinstance(database, databases.Postgresql):
        database.configure(sample.repo)
    return database


@pytest.fixture
def sqlite(sample: samples.Sample) -> databases.Database:
    return databases.Sqlite(sample.repo / "gen3.sqlite3")


def opened(sample: samples.Sample) -> registry.Registry:
    from aggregator.butler.configuration import repository_config

    return registry.open_repository(repository_config.load(sample.repo), writeable=True)


@pytest.mark.ordering("B6")
def test_everything_in_the_way_is_named_at_once(sample: samples.Sample, used: databases.Database) -> None:
    with opened(sample) as repository:
        repository.dataset_types.register("sources", "Plot", ["instrument", "visit", "detector"])
        repository.dataset_types.register("clean_config", "Config", [], is_calibration=True)
        repository.dataset_types.register("stack_log", "ButlerLogRecords", ["band"])
        repository.collections.register_run(CHAIN)
        repository.collections.register_chain(RUN)
    names = "'sources'", "'clean_config'", "'stack_log'", f"'{CHAIN}' is a RUN", f"'{RUN}' is a CHAINED"
    refused(sample, used, *names, "storage class Plot", "_mock_StructuredDataDict")
    refused(sample, used, *names, dry_run=True)


@pytest.mark.ordering("B6")
def test_types_that_nobody_registers_are_named_at_once(
    sample: samples.Sample, sqlite: databases.Database
) -> None:
    refused(sample, sqlite, "'sources' is not registered", "'packages' is", register_dataset_types=False)


def test_registered_types_need_not_be_registered(sample: samples.Sample, sqlite: databases.Database) -> None:
    aggregate(sample)
    content = sqlite.content()
    aggregate(sample, register_dataset_types=False)
    assert sqlite.content() == content


@pytest.mark.ordering("B6")
def test_inputs_of_a_new_chain_have_to_be_there(sample: samples.Sample, sqlite: databases.Database) -> None:
    sqlite.execute("UPDATE collection SET name = 'other' WHERE name = 'in/all'")
    refused(sample, sqlite, "no collection 'in/all'")
    assert aggregate(sample, update_output_chain=False).n_ingested


@pytest.mark.ordering("B6")
@pytest.mark.parametrize(
    "table", ["dataset_location", "file_datastore_records", "detector", "collection_chain"]
)
def test_missing_tables_are_named(sample: samples.Sample, used: databases.Database, table: str) -> None:
    cascade = " CASCADE" if isinstance(used, databases.Postgresql) else ""
    used.execute(f"DROP TABLE {table}{cascade}")
    refused(sample, used, f"no table {table}")


@pytest.mark.ordering("B6")
def test_a_repository_without_records_is_named(sample: samples.Sample, sqlite: databases.Database) -> None:
    sqlite.execute("DELETE FROM visit", "DELETE FROM patch")
    refused(sample, sqlite, "no visit record", "no patch record")


@pytest.mark.ordering("B6")
def test_an_empty_file_is_no_repository(sample: samples.Sample, sqlite: databases.Database) -> None:
    (sample.repo / "gen3.sqlite3").write_bytes(b"")
    refused(sample, sqlite, "gen3.sqlite3")


@pytest.mark.ordering("B6")
@pytest.mark.parametrize("fresh", [False, True])
def test_files_without_template_or_formatter_are_named(
    sample: samples.Sample, sqlite: databases.Database, fresh: bool
) -> None:
    aggregate(sample, keep_checkpoint=True)
    templates = {"sources": "{visit}/{nothing}", "packages": 7, "stack_image": "{run}/{patch"}
    configure(sample, "datastore", templates=templates, formatters={"visit_summary": 3})
    refused(sample, sqlite, "'sources'", "'packages'", "'stack_image'", "'visit_summary'", fresh=fresh)


@pytest.mark.ordering("B6")
@pytest.mark.parametrize("kind", ["clean_log", "report_metadata"])
def test_a_datastore_has_to_take_logs_and_metadata(
    sample: samples.Sample, sqlite: databases.Database, kind: str
) -> None:
    configure(sample, "datastore", constraints={"reject": [kind]})
    refused(sample, sqlite, f"'{kind}': no datastore takes it")


def test_what_changes_after_the_look_is_a_failure(
    sample: samples.Sample, sqlite: databases.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = dataset_types.DatasetTypes.register_all

    def late(self: dataset_types.DatasetTypes, wanted: Any) -> Any:
        register(self, [self.definition("sources", "Plot", ["instrument"], False)])
        return register(self, wanted)

    monkeypatch.setattr(dataset_types.DatasetTypes, "register_all", late)
    with pytest.raises(aggregator.AggregatorError, match="registered with another definition") as caught:
        aggregate(sample)
    assert caught.value.exit_code == 1
    assert kinds_registered(sqlite) == {"raw", "refcat", "sources"}


def kinds_registered(database: databases.Database) -> set[str]:
    return {name for (name,) in database.query("SELECT name FROM dataset_type")}


@pytest.mark.ordering("B6")
@pytest.mark.parametrize("dry_run", [False, True])
def test_live_tables_named_in_the_configuration(sample: samples.Sample, dry_run: bool) -> None:
    path = sample.repo / "butler.yaml"
    document = yaml.safe_load(path.read_text())
    document["registry"].setdefault("managers", {})["obscore"] = "lsst.ObsCoreLiveTableManager"
    path.write_text(yaml.safe_dump(document))
    before = {each: each.read_bytes() for each in sample.repo.rglob("*") if each.is_file()}
    config = aggregator.AggregatorConfig(output_path=str(sample.root / "out.qg"), dry_run=dry_run)
    with pytest.raises(errors.RefusedError, match=r"live ObsCore tables \(registry\.managers\.obscore\)"):
        aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), config)
    assert {each: each.read_bytes() for each in sample.repo.rglob("*") if each.is_file()} == before
    assert not (sample.root / "out.qg").exists()
