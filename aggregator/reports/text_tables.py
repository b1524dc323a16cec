"""The tables of quanta and exceptions as rows of text (aggregate-and-ingest.md sections 7.1 and 7.2)."""

from __future__ import annotations

from typing import Any

from aggregator.reports import caveat_codes, document
from aggregator.schemas import printable
from aggregator.schemas.execution import statuses

_NUMBERS = "TOTAL", "EXPECTED", "Successes", "Failures", *statuses.TITLES.values()

MULTIPLE = "(multiple)"
"""Stands for caveats of more than one kind."""

Table = list[list[str]]
"""Heads of the columns, then the rows."""


def quanta(report: document.Report) -> Table:
    """Return the table of quanta."""
    left_out = {statuses.TITLES[status] for status in statuses.RARE}
    left_out -= {title for title in left_out for row in report.tasks if row[title]}
    heads = ["Task", "Caveats", *statuses.TITLES.values(), "TOTAL", "EXPECTED"]
    heads = [head for head in heads if head not in left_out]
    return [heads, *([_cell(row, head) for head in heads] for row in report.tasks)]


def exceptions(report: document.Report) -> Table:
    """Return the table of exceptions."""
    heads = ["Task", "Exception", "Successes", "Failures"]
    return [heads, *([str(row[head]) for head in heads] for row in report.exceptions)]


def fix_first(report: document.Report) -> Table:
    """Return the table of failures, first what blocks most."""
    heads = ["Task", "Status", "Exception", "Quanta", "Blocked", "Blocked alone", "Worst quantum"]
    rows = [
        [
            kind.task,
            kind.status,
            kind.exception or "",
            str(kind.n_quanta),
            "not counted" if kind.n_blocked is None else str(kind.n_blocked),
            str(kind.n_blocked_alone),
            kind.worst,
        ]
        for kind in report.fix_first
    ]
    return [heads, *rows]


def caveats(report: document.Report) -> Table:
    """Return the table of caveats: those of tasks for which the table of quanta says `MULTIPLE`, too."""
    rows = [
        [details.task, entry.code or "-", str(entry.count)]
        for details in report.details
        for entry in details.caveats
    ]
    return [["Task", "Caveats", "Quanta"], *rows]


def legend(report: document.Report) -> list[str]:
    """Return what the characters mean that codes of caveats have here."""
    used = {character for details in report.details for entry in details.caveats for character in entry.code}
    return [f"{character}  {text}" for character, text in caveat_codes.LEGEND.items() if character in used]


def meaning(code: str) -> str:
    """Return what a caveat code says."""
    return "; ".join(caveat_codes.LEGEND[letter] for letter in code)


def plain(table: Table) -> list[str]:
    """Return the lines of a table: texts to the left, numbers to the right."""
    table = [[printable.line(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = [_is_number(head) for head in table[0]]
    rule = ["-" * width for width in widths]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (table[0], rule, *table[1:])
    ]


def markdown(table: Table) -> list[str]:
    """Return the lines of a table in Markdown."""
    rule = ["---:" if _is_number(head) else "---" for head in table[0]]
    rows = [table[0], rule, *([escape(cell) for cell in row] for row in table[1:])]
    return [f"| {' | '.join(row)} |" for row in rows]


_ESCAPES = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|~$!#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def escape(text: str) -> str:
    """Return a text for a cell in Markdown: one line, without markup."""
    return printable.line(" ".join(text.split())).translate(_ESCAPES)


def _is_number(head: str) -> bool:
    return head in _NUMBERS or head in ("Quanta", "Blocked alone")


def _cell(row: dict[str, Any], head: str) -> str:
    if head != "Caveats":
        return str(row[head])
    entries = [entry for entry in row["Caveats"] if entry]
    if len(entries) > 1:
        return MULTIPLE
    return "".join(f"{entry['token']}{entry['code']}({entry['count']})" for entry in entries)
