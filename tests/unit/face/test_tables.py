"""What a provenance graph tells, as tables, in notebooks, and in one line."""

import sys
from collections.abc import Iterator

import pytest

import aggregator
from aggregator.reading import tables
from tests.helpers import small_runs

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def provenance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aggregator.Provenance]:
    root = tmp_path_factory.mktemp("tables") / "run"
    run = small_runs.make(root, 400, failed=0.03, blocked=0.1, retried=0.1, caveats=0.1, aborted=0.02)
    run.aggregate()
    with aggregator.Provenance(run.output) as opened:
        yield opened


@pytest.mark.parametrize("task", [None, "isr", "coadd"])
def test_table_of_quanta_is_what_the_blocks_tell(provenance: aggregator.Provenance, task: str | None) -> None:
    """The index and the addresses tell the same as the blocks, also where tasks have other dimensions."""
    quanta = provenance.quanta(task)
    table = quanta.to_arrow()
    assert table.num_rows == len(list(quanta)) > 0
    expected = [
        {
            "quantum_id": quantum.quantum_id,
            "task": quantum.task_label,
            "status": quantum.status.name,
            **provenance.data_id(quantum),
        }
        for quantum in quanta
    ]
    caveats: set[str] = set()
    for row, values in zip(table.to_pylist(), expected, strict=True):
        caveats.update((row.pop("caveats") or "").split("|"))
        assert {name: value for name, value in row.items() if value is not None} == values
    brief = quanta.detailed().to_arrow().select(table.column_names)
    assert brief.to_pylist() == table.to_pylist()
    assert "ANY_OUTPUTS_MISSING" in caveats or task is not None


def test_quanta_by_status_and_data_id(provenance: aggregator.Provenance) -> None:
    failed = provenance.quanta(status="failed")
    assert failed.to_arrow()["status"].to_pylist() == ["FAILED"] * len(list(failed))
    both = provenance.quanta(status=["FAILED", aggregator.Status.BLOCKED])
    assert [q.quantum_id for q in both] == both.to_arrow()["quantum_id"].to_pylist()
    assert {q.status for q in both} == {aggregator.Status.FAILED, aggregator.Status.BLOCKED}
    visit = provenance.data_id(next(iter(provenance.quanta("isr"))))["visit"]
    some = provenance.quanta("isr", {"visit": visit})
    assert 0 < some.to_arrow().num_rows < provenance.quanta("isr").to_arrow().num_rows
    assert set(some.to_pandas()["visit"]) == {visit}
    with pytest.raises(aggregator.RefusedError, match="'LOST' is no status; there are ABORTED, "):
        provenance.quanta(status="LOST")
    assert provenance.quanta(status=[]).to_arrow().num_rows == 0


def test_details_come_from_the_last_attempt(provenance: aggregator.Provenance) -> None:
    frame = provenance.quanta().detailed().to_pandas()
    quanta = list(provenance.quanta())
    assert frame["attempts"].tolist() == [len(quantum.attempts) for quantum in quanta]
    assert frame["attempts"].max() > 1
    exceptions = [q.attempts[-1].exception if q.attempts else None for q in quanta]
    assert frame["message"].dropna().tolist() == [e.message for e in exceptions if e is not None]
    usages = [q.attempts[-1].resource_usage if q.attempts else None for q in quanta]
    assert frame["run_time"].dropna().tolist() == [u.run_time for u in usages if u is not None]
    assert frame["memory"].max() > 0


def test_table_of_failures_names_causes(provenance: aggregator.Provenance) -> None:
    failures = provenance.failures()
    rows = failures.to_arrow().to_pylist()
    assert [row["quantum_id"] for row in rows] == [each.quantum.quantum_id for each in failures]
    causes = [None if each.cause is None else each.cause.quantum_id for each in failures]
    assert [row["cause_id"] for row in rows] == causes
    assert {row["status"] for row in rows if row["cause_id"]} == {"BLOCKED"}
    assert "SUCCESSFUL" not in {row["status"] for row in rows}


def test_table_of_datasets(provenance: aggregator.Provenance) -> None:
    name = provenance.pipeline.tasks[0].outputs
    for dataset_type in {*name.values()}:
        datasets = provenance.datasets(dataset_type)
        rows = datasets.to_arrow().to_pylist()
        assert [row["dataset_id"] for row in rows] == [each.dataset_id for each in datasets]
        for row, dataset in zip(rows, datasets, strict=True):
            assert row["produced"] == dataset.produced
            assert {name: row[name] for name in provenance.data_id(dataset)} == provenance.data_id(dataset)


def test_batches_are_bounded(provenance: aggregator.Provenance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 50)
    sizes = [batch.num_rows for batch in provenance.quanta().detailed().to_batches()]
    assert sum(sizes) == 400
    assert max(sizes) == 50


def test_without_the_libraries_the_message_tells_what_to_install(
    provenance: aggregator.Provenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("pandas", "pyarrow"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(aggregator.RefusedError, match=rf"need {library}.*graph-aggregator\[tables\]"):
                provenance.quanta().to_pandas()
    assert len(list(provenance.quanta())) == 400


def test_everything_shows_itself_in_one_line(provenance: aggregator.Provenance) -> None:
    quantum = next(iter(provenance.quanta(status="FAILED")))
    dataset = provenance.dataset(next(iter(quantum.outputs.values()))[0])
    shown = {
        repr(provenance): f"400 quanta): {provenance.path}>",
        repr(
            provenance.quanta("isr", status="FAILED")
        ): f"<quanta of isr that are FAILED in {provenance.path}>",
        repr(provenance.failures()): f"<failures in {provenance.path}>",
        repr(quantum): f"<Quantum {quantum.quantum_id} {quantum.task_label} [",
        repr(quantum.attempts[-1]): ": FAILED",
        repr(dataset): f"<Dataset {dataset.dataset_id} {dataset.dataset_type_name} [",
        repr(next(iter(provenance.failures()))): "Failure(quantum=<Quantum ",
        repr(provenance.explain(dataset.dataset_id)): "outcome='failed'",
        repr(provenance.counts()["isr"][0]): "<Status.FAILED: -1>",
    }
    for text, part in shown.items():
        assert part in text
        assert "\n" not in text
        assert len(text) < 600


def test_notebooks_see_tables_with_nothing_alive_in_them(provenance: aggregator.Provenance) -> None:
    page = provenance._repr_html_()
    assert "<td>isr</td>" in page
    assert "<th>FAILED</th>" in page
    failures = provenance.failures()._repr_html_()
    assert failures.count("<tr>") == 21
    assert failures.endswith("<p>…</p>")
    evil = '<script>alert("1")</script>\x1b[2J\u202e'
    page = tables.to_html(evil, [evil], [{evil: evil}], more=False)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count("&lt;script&gt;") == 3
