"""What reaches the terminal: no control characters, no tracebacks, whatever standard streams are."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import pathlib
import re
import unicodedata

import pytest
from aggregator.schemas import printable
from aggregator.workers import log_handlers
from click import testing

from aggregator.command_line import main
from aggregator.console import terminal
from tests.helpers import report_graphs, samples

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202eall succeeded\u2066\u2028\r\x85"


def steering(text: str) -> set[str]:
    """Return the characters of a text that could steer a terminal."""
    kinds, directions = (
        {"Cc", "Zl", "Zp", "Cs"},
        {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"},
    )
    return {
        character
        for character in set(text) - {"\n", "\t"}
        if unicodedata.category(character) in kinds or unicodedata.bidirectional(character) in directions
    }


def test_what_steers_becomes_visible() -> None:
    text = printable.lines("a\tb\nc\r\nd" + EVIL + "\udcff\ud800", "  ")
    assert not steering(text)
    assert text.startswith("a\tb\n  c\n  d\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\x7f\\u202eall")
    assert text.endswith("\\xff\\ud800")
    assert printable.line("a\tb\nc") == "a\\tb\\nc"
    assert printable.lines("Ünïcode, שלום, 日本語 🙂") == "Ünïcode, שלום, 日本語 🙂"


def test_json_stays_the_same_document() -> None:
    document = json.dumps({EVIL: [EVIL]}, ensure_ascii=False, indent=1)
    shown = printable.json(document)
    assert json.loads(shown) == {EVIL: [EVIL]}
    assert not steering(shown)


@pytest.fixture
def evil_graph(sample: samples.Sample) -> str:
    """Return a graph with control characters in an exception, its metadata, and labels of a data ID."""

    def change(quanta: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        for quantum in quanta:
            for attempt in quantum["attempts"] or ():
                if attempt["exception"]:
                    attempt["exception"]["message"] = f"first\nTask  Successful  {EVIL}"
                    attempt["exception"]["type_name"] = f"lsst.Evil{EVIL}"
                    attempt["exception"]["metadata"] = {f"key{EVIL}": f"a\n{EVIL}"}
        return quanta

    return str(report_graphs.alter(sample.root / "provenance.qg", sample.root / "evil.qg", change))


def invoke(*arguments: str, code: int = 0) -> str:
    done = testing.CliRunner().invoke(main.main, arguments)
    assert done.exit_code == code, done.output
    return done.output


def failed_quantum(graph: str) -> str:
    document = json.loads(invoke("show", graph, "--failed", "--format", "json"))
    return next(each["id"] for each in document["failures"] if each["exception"])


def test_show_prints_no_control_characters(evil_graph: str) -> None:
    quantum = failed_quantum(evil_graph)
    for options in (["--failed"], ["--quantum", quantum], ["--quantum", quantum, "--logs"]):
        text = invoke("show", evil_graph, *options)
        assert not steering(text)
        assert "owned" in text or "--logs" in options
        # No line of a message passes for one of ours.
        assert not re.search("^Task  Successful", text, re.MULTILINE)
    document = invoke("show", evil_graph, "--quantum", quantum, "--format", "json")
    assert not steering(document)
    assert EVIL in json.loads(document)["attempts"][-1]["exception"]["message"]


@pytest.mark.parametrize("form", ["table", "md", "html"])
def test_reports_have_no_control_characters(evil_graph: str, form: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "report"
    invoke("provenance-report", evil_graph, "--format", form, "-o", str(path))
    text = path.read_bytes().decode()
    assert "owned" in text
    if form == "html":
        # Not in what is there of libraries.
        [data] = re.findall('id="report-data">(.*?)</script>', text)
        text = data + text[text.index("</head>") : text.index('id="report-data"')]
        assert not steering("".join(json.dumps(json.loads(data), ensure_ascii=False)))
    assert not steering(text)


def test_data_keep_their_content(evil_graph: str, tmp_path: pathlib.Path) -> None:
    message = f"first\nTask  Successful  {EVIL}"
    report = invoke("provenance-report", evil_graph, "--format", "json")
    assert not steering(report)
    assert message in [quantum["message"] for quantum in json.loads(report)["quanta"]]
    path = tmp_path / "report.csv"
    invoke("provenance-report", evil_graph, "--format", "csv", "-o", str(path))
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert message in [row["message"] for row in rows]


def test_paths_in_messages_and_log_do_not_steer(tmp_path: pathlib.Path) -> None:
    done = testing.CliRunner().invoke(main.main, ["show", str(tmp_path / f"no\n{EVIL}.qg")])
    assert done.exit_code == 2
    assert not steering(done.output)
    assert "\n  \\x1b" in done.output
    done = testing.CliRunner().invoke(main.main, ["show", f"--bad{EVIL}"])
    assert done.exit_code == 2
    assert not steering(done.output)
    testing.CliRunner().invoke(main.main, ["--log-file", str(tmp_path / "log"), "show", "x.qg"])
    logging.getLogger("somebody").warning("%s", EVIL)
    assert not steering((tmp_path / "log").read_text())
    assert "owned" in (tmp_path / "log").read_text()


def test_a_fault_of_the_program_ends_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LookupError(EVIL)

    monkeypatch.setattr(terminal, "tell", fail)
    monkeypatch.setattr("aggregator.aggregation.checkpoint_status.find", fail)
    text = invoke("status", "nothing", code=1)
    assert text.splitlines()[-1].startswith("Error: this is a fault of the program")
    assert not steering(text)


def test_levels_of_the_reference(sample: samples.Sample) -> None:
    path = sample.root / "log"
    graph = str(sample.root / "provenance.qg")
    invoke("--log-level", "TRACE", "--log-level", "chatty=error", "--log-file", str(path), "show", graph)
    try:
        logging.getLogger("somebody").log(5, "hardly worth saying")
        logging.getLogger("chatty").warning("not worth saying")
        text = path.read_text()
        assert "TRACE" in text
        assert "hardly worth saying" in text
        assert "not worth saying" not in text
    finally:
        logging.getLogger("chatty").setLevel(logging.NOTSET)
        invoke("show", graph)
    assert "unknown log level" in invoke("--log-level", "NOISY", "show", graph, code=2)
    assert "has no value" in invoke("--log-label", "noise", "show", graph, code=2)
    assert "can't write it" in invoke("--log-file", "/nowhere/x", "show", graph, code=2)


def test_a_log_file_that_can_not_be_written_ends_nothing(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").touch()
    handler = log_handlers.LogFile(str(tmp_path / "log"))
    handler.stream.close()
    handler.stream = open("/dev/full", "w")  # noqa: SIM115
    logger = logging.getLogger("somebody")
    logger.addHandler(handler)
    try:
        for number in range(3):
            logger.warning("%d", number)
    finally:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
    [line] = [
        record.getMessage() for record in caplog.records if "can't write the log" in record.getMessage()
    ]
    assert line == f"{tmp_path / 'log'}: can't write the log there any more (No space left on device)"
    assert "Traceback" not in capsys.readouterr().err
