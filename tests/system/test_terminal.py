"""Commands whose standard streams are terminals, closed, full or left by their readers."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import subprocess
import sys

import pytest

from tests.helpers import samples
from tests.unit.command_line import test_last_words, test_progress, test_terminal

evil_graph = test_terminal.evil_graph

COMMAND = (sys.executable, "-m", "aggregator")


def on_terminal(*arguments: str) -> tuple[int, str]:
    """Return exit code and output of a command on a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(COMMAND[0], [*COMMAND, *arguments], {**os.environ, "TERM": "xterm"})
    text = b""
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except OSError:
            break
        if not data:
            break
        text += data
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode().replace("\r\n", "\n")


def test_csv_on_a_terminal_does_not_steer_it(evil_graph: str) -> None:
    code, text = on_terminal("provenance-report", evil_graph, "--format", "csv")
    assert code == 0
    assert "owned" in text
    assert not test_terminal.steering(text)


def test_log_lines_stay_and_bars_go(sample: samples.Sample) -> None:
    arguments = test_last_words.aggregation(sample, "--interactive-status")
    code, output = on_terminal(*arguments)
    assert code == 0
    assert "━" in output
    assert re.search("ingested.*0/20", output)
    lines = test_progress.screen(output)
    for message in ("Scanning", "20 quanta in", "Reading "):
        assert [line for line in lines if line.startswith("INFO") and message in line]
    assert not [line for line in lines if "━" in line]
    assert [line for line in lines if line.startswith("Task  ")]


def spawn(arguments: list[str], redirection: str, cwd: pathlib.Path) -> tuple[int, str]:
    """Return exit code and standard error of a command whose standard output goes to nowhere."""
    line = f'exec "$@" {redirection}'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=cwd,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">/dev/full 2>/dev/full", ">&- 2>&- <&-"])
def test_a_complete_run_is_complete_whoever_listens(sample: samples.Sample, redirection: str) -> None:
    log = sample.root / "log"
    code, complaints = spawn(
        ["--log-file", str(log), *test_last_words.aggregation(sample, "-o", "out.qg")],
        redirection,
        sample.root,
    )
    assert code == 0
    assert (sample.root / "out.qg").exists()
    assert not (sample.repo / "predicted.qg.checkpoint").exists()
    assert "Traceback" not in complaints
    assert "Everything is done, but the summary could not be printed" in log.read_text()
    code, complaints = spawn(["ingest-graph", str(sample.repo), "out.qg"], redirection, sample.root)
    assert code == 0
    assert "Traceback" not in complaints


def test_closed_descriptors_are_not_given_to_files(sample: samples.Sample) -> None:
    """What is meant for the terminal would end up in the database otherwise."""
    code, _ = spawn(
        [*test_last_words.aggregation(sample, "-o", "out.qg"), "-j", "2"], ">&- 2>&- <&-", sample.root
    )
    assert code == 0
    code, complaints = spawn(["show", "out.qg"], "", sample.root)
    assert (code, complaints) == (0, "")


@pytest.mark.parametrize("command", ["show", "provenance-report", "--help"])
def test_what_can_not_be_printed_is_one_line(sample: samples.Sample, command: str) -> None:
    arguments = [command, *["provenance.qg"] * (command != "--help")]
    for redirection, reason in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        code, complaints = spawn(arguments, redirection, sample.root)
        assert code == 1
        assert len(complaints.splitlines()) == 1
        assert reason in complaints
    code, _ = spawn(arguments, ">/dev/full 2>/dev/full", sample.root)
    assert code == 1


def test_a_reader_that_goes_is_no_error(sample: samples.Sample) -> None:
    with subprocess.Popen(
        [*COMMAND, "provenance-report", str(sample.root / "provenance.qg"), "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_removed_directory_is_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'cd gone && rmdir ../gone && exec "$@"', "sh", *COMMAND, "show", "x.qg"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: the current directory can't be used")
    assert len(done.stderr.splitlines()) == 1
