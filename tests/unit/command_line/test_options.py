"""The command line and the options that the comparison with the reference does not cover."""

from __future__ import annotations

import logging
import os
import pathlib
import pstats
import pty
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from aggregator.schemas.graphs import container, provenance_graph

import aggregator
from tests.helpers import samples


def command(sample: samples.Sample, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "aggregator.command_line.main", "aggregate-graph"),
        *(str(sample.repo / "predicted.qg"), str(sample.repo), "--mock-storage-classes", *options),
    ]


def run(sample: samples.Sample, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(sample, *options), capture_output=True, text=True, check=False)


def aggregate(sample: samples.Sample, **config: Any) -> Any:
    options = aggregator.AggregatorConfig(mock_storage_classes=True, **config)
    return aggregator.aggregate_graph(str(sample.repo / "predicted.qg"), str(sample.repo), options)


def test_last_words_tell_what_happened(sample: samples.Sample) -> None:
    done = run(sample, "-o", str(sample.root / "out.qg"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["Task", "Aborted", "success", "Failed", "Blocked", "Successful", "Total"]
    assert lines[3].split() == ["stack", "1", "1", "0", "2", "4"]
    assert "Datasets ingested: 61; already there: 0" in lines
    assert f"Provenance graph: {sample.root / 'out.qg'} (0.1 MB)" in lines


def test_a_provenance_graph_is_refused(sample: samples.Sample) -> None:
    (sample.repo / "predicted.qg").write_bytes((sample.root / "provenance.qg").read_bytes())
    done = run(sample)
    assert done.returncode == 2
    assert "a predicted graph is needed" in done.stderr


def test_task_without_log_output_is_refused_before_any_work(sample: samples.Sample) -> None:
    database = (sample.repo / "gen3.sqlite3").read_bytes()
    _rewrite_pipeline(sample.repo / "predicted.qg", "measure")
    done = run(sample, "-o", str(sample.root / "out.qg"))
    assert done.returncode == 2
    assert "task measure has no log output" in done.stderr
    assert (sample.repo / "gen3.sqlite3").read_bytes() == database
    assert not (sample.root / "out.qg").exists()
    assert not list(sample.repo.glob("*.checkpoint"))


def _rewrite_pipeline(path: pathlib.Path, label: str) -> None:
    """Take the log output away from a task of a graph."""
    import zipfile

    with container.Container(str(path)) as opened, zipfile.ZipFile(path) as archive:
        document = msgspec.json.decode(opened.read_block("pipeline_graph"))
        document["tasks"][label]["log_output"] = None
        members = {name: archive.read(name) for name in archive.namelist()}
        members["pipeline_graph.json.zst"] = opened.codec.compress(msgspec.json.encode(document))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_incomplete_with_output_warns_once_and_writes_none(
    sample: samples.Sample, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done = aggregate(sample, incomplete=True, output_path=str(sample.root / "out.qg"))
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [
        "No graph is written in incomplete mode; the output path has no effect"
    ]
    assert not (sample.root / "out.qg").exists()
    assert done.graph_path is None
    assert done.n_ingested == 59


def test_options_file_gives_defaults_that_the_command_line_overrides(sample: samples.Sample) -> None:
    path = sample.root / "options.yaml"
    output = sample.root / "from_file.qg"
    path.write_text(f"aggregate-graph:\n  output: {output}\n  zstd-level: 40\n  promise-ingest-graph: true\n")
    refused = run(sample, "-@", str(path))
    assert refused.returncode == 2
    assert "zstd_level must be an integer of -131,072 or more, at most 22, not 40" in refused.stderr
    done = run(sample, "--options-file", str(path), "--zstd-level", "5")
    assert done.returncode == 0, done.stderr
    assert "Datasets ingested: 22;" in done.stdout
    assert output.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aggregate-graph:\n  colour: red\n", "no such option: colour"),
        ("other: {}\n", "has no section 'aggregate-graph'"),
        ("a: [", "can't read it"),
    ],
)
def test_bad_options_file_is_a_usage_error(sample: samples.Sample, text: str, message: str) -> None:
    path = sample.root / "options.yaml"
    path.write_text(text)
    done = run(sample, "-@", str(path))
    assert done.returncode == 2
    assert message in done.stderr


def test_log_options(sample: samples.Sample) -> None:
    log = sample.root / "log.txt"
    arguments = command(sample, "--dry-run")
    arguments[3:3] = ["--log-level", "WARNING,aggregator=INFO", "--log-file", str(log), "--long-log"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for text in (done.stderr, log.read_text()):
        assert "MainProcess aggregator.aggregation.preparation: Reading" in text


def test_worker_logs_tell_of_every_quantum(sample: samples.Sample) -> None:
    logs = sample.root / "logs"
    aggregate(sample, n_processes=2, worker_log_dir=str(logs), worker_log_level="DEBUG", dry_run=True)
    assert sorted(p.name for p in logs.iterdir()) == ["ingester.log", "scanner-000.log", "scanner-001.log"]
    text = "".join(p.read_text() for p in logs.glob("scanner*"))
    for quantum_id in sample.expected["provenance"]["quanta"]:
        assert text.count(f"quantum {quantum_id} of ") == 1


def test_worker_profiles(sample: samples.Sample) -> None:
    profiles = sample.root / "profiles"
    aggregate(
        sample, n_processes=2, worker_profile_dir=str(profiles), output_path=str(sample.root / "out.qg")
    )
    names = {p.stem: p for p in profiles.iterdir()}
    assert names.keys() == {"ingester", "scanner-000", "scanner-001", "writer"}
    functions = {key[2] for key in pstats.Stats(str(names["writer"])).stats}  # type: ignore[attr-defined]
    assert "copy_blocks" in functions


def test_dictionary_and_level_are_used(sample: samples.Sample) -> None:
    sizes = {}
    for level in (1, 19):
        path = sample.root / f"{level}.qg"
        aggregate(sample, output_path=str(path), zstd_level=level, dry_run=True)
        sizes[level] = path.stat().st_size
    assert sizes[19] < sizes[1]
    path = sample.root / "dictionary.qg"
    config = {"zstd_dict_size": 4096, "zstd_dict_n_inputs": 20}
    aggregate(sample, output_path=str(path), dry_run=True, **config)
    with container.Container(str(path)) as opened:
        assert 0 < opened.size(container.DICTIONARY) <= 4096
    with provenance_graph.ProvenanceGraph(str(path)) as graph:
        assert len(list(graph.quanta())) == 20


def test_progress_bars_on_a_terminal(sample: samples.Sample) -> None:
    """On a terminal bars are shown without asking."""
    master, slave = pty.openpty()
    with subprocess.Popen(command(sample), stderr=slave, stdout=subprocess.DEVNULL) as running:
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                break
            if not piece:
                break
            shown += piece
    os.close(master)
    assert running.returncode == 0
    assert b"scanned" in shown
    assert b"20/20" in shown


def test_heartbeats_otherwise(sample: samples.Sample) -> None:
    done = run(sample, "--log-status-interval", "0.000001", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert "scanned 20 of 20" in done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_processes": 0}, "n_processes"),
        ({"zstd_level": 23}, "zstd_level must be .* not 23"),
        ({"worker_log_level": "LOUD"}, "unknown log level 'LOUD'"),
        ({"log_status_interval": 0.0}, "log_status_interval"),
        ({"output_path": "/nowhere/at/all/out.qg"}, "/nowhere/at/all"),
        ({"output_path": "s3://bucket/out.qg"}, "only local files"),
    ],
)
def test_options_that_cannot_work_are_refused(
    sample: samples.Sample, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(aggregator.RefusedError, match=message) as caught:
        aggregate(sample, **config)
    assert caught.value.exit_code == 2
    assert not list(sample.repo.glob("*.checkpoint"))


def test_help_is_quick_to_import() -> None:
    """The command line imports none of the large libraries before it is told what to do."""
    code = (
        "import sys, aggregator.command_line.main\n"
        "print([m for m in ('numpy', 'sqlalchemy', 'rich', 'yaml', 'multiprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_addresses_that_belong_to_other_quanta_are_noticed(sample: samples.Sample) -> None:
    """A graph whose address file names other quanta than its blocks is damaged."""
    import zipfile

    path = sample.repo / "predicted.qg"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rows = bytearray(members["quanta.addr"])
    # The last bytes of the first id, so that the order stays.
    rows[17 + 15] ^= 1
    members["quanta.addr"] = bytes(rows)
    with container.Container(str(path)) as opened:
        thin = opened.read_block("thin_graph")
        first = bytes(members["quanta.addr"][17:33]).hex()
        original = bytearray(bytes.fromhex(first))
        original[15] ^= 1
        names = [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in (original.hex(), first)]
        thin = thin.replace(names[0].encode(), names[1].encode())
        members["thin_graph.json.zst"] = opened.codec.compress(thin)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    done = run(sample)
    assert done.returncode == 1
    assert f"{first} has the address of {names[0]}" in done.stderr
