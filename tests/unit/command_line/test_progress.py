"""Progress on a terminal: bars come and go, and every log line stays."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import time

import pytest

from aggregator.console import progress

_CODES = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


def screen(output: str) -> list[str]:
    """Return the lines of a terminal after some output."""
    lines, row, column = [""], 0, 0
    for number, code, back, feed, text in _CODES.findall(output):
        if back:
            column = 0
        elif feed:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
        elif code == "A":
            row -= int(number or 1)
            assert row >= 0
        elif code == "K":
            lines[row] = ""
        else:
            assert code in "mhl", code
    return lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_all_that_is_written_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of handlers that had the stream before, of libraries, warnings, and what follows."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    handler = logging.StreamHandler(stream)
    library = logging.getLogger("some.library")
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        with progress.Progress({"scanned": 10}, time.monotonic(), None, None) as shown:
            shown.advance("scanned", 5)
            library.info("from a [bold]library[/bold] :smile: %s", "x" * 300)
            print("from somebody", file=sys.stderr)
            time.sleep(0.3)
            shown.advance("scanned", 5)
        library.info("after it")
        assert handler.stream is stream
    finally:
        library.removeHandler(handler)
    lines = screen(stream.getvalue())
    assert "━" in stream.getvalue()
    assert not [line for line in lines if "━" in line]
    assert f"from a [bold]library[/bold] :smile: {'x' * 300}" in lines
    assert "from somebody" in lines
    assert "after it" in lines
    # The cursor is shown again.
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_a_terminal_without_room_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.Progress({"scanned": 10}, time.monotonic(), None, True) as shown:
            shown.advance("scanned", 10)
        reached = True
        monkeypatch.undo()
    assert reached


def test_without_standard_error_there_are_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress.Progress({"scanned": 10}, time.monotonic(), None, None) as shown:
        shown.advance("scanned", 10)
