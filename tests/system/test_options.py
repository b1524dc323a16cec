"""The command line in processes of its own, with workers."""

from __future__ import annotations

import os
import pathlib
import pstats
import pty
import subprocess
import sys

import msgspec
import pytest
from aggregator.schemas.graphs import container

from tests.helpers import samples
from tests.unit.command_line import test_options


def command(sample: samples.Sample, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "aggregator", "aggregate-graph"),
        *(str(sample.repo / "predicted.qg"), str(sample.repo), "--mock-storage-classes", *options),
    ]


def run(sample: samples.Sample, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(sample, *options), capture_output=True, text=True, check=False)


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
    test_options.aggregate(
        sample, n_processes=2, worker_log_dir=str(logs), worker_log_level="DEBUG", dry_run=True
    )
    assert sorted(p.name for p in logs.iterdir()) == ["ingester.log", "scanner-000.log", "scanner-001.log"]
    text = "".join(p.read_text() for p in logs.glob("scanner*"))
    for quantum_id in sample.expected["provenance"]["quanta"]:
        assert text.count(f"quantum {quantum_id} of ") == 1


def test_worker_profiles(sample: samples.Sample) -> None:
    profiles = sample.root / "profiles"
    test_options.aggregate(
        sample, n_processes=2, worker_profile_dir=str(profiles), output_path=str(sample.root / "out.qg")
    )
    names = {p.stem: p for p in profiles.iterdir()}
    assert names.keys() == {"ingester", "scanner-000", "scanner-001", "writer"}
    functions = {key[2] for key in pstats.Stats(str(names["writer"])).stats}  # type: ignore[attr-defined]
    assert "copy_blocks" in functions


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
