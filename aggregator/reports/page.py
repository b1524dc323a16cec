"""The report as one self-contained page (docs/report.md)."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from typing import Final

import jinja2
import markupsafe
import msgspec

from aggregator.reports import document, listing, number_texts, samples, tables
from schemas import printable, provenance, statuses

_SCRIPTS: Final = (
    "vendor/echarts.min.js", "vendor/dagre.min.js", "numbers.js", "tables.js", "charts.js", "pipeline.js",
    "page.js",
)  # fmt: skip
_LICENCES: Final = {"vendor/dagre.min.js": "vendor/dagre.LICENSE"}
"""Licences of libraries that do not carry them."""

_SECTIONS: Final = {
    "summary": "Summary",
    "tasks": "Tasks",
    "pipeline": "Pipeline",
    "timeline": "Timeline",
    "distributions": "Run time, memory, wait",
    "failures": "Failures",
    "caveats": "Caveats",
}
_RARE: Final = {
    "ABORTED_SUCCESS": "the log is missing",
    "ABORTED": "no log, no metadata",
    "UNKNOWN": "nothing is on record",
}
_WORST: Final = {
    "SUCCESSFUL": "all successful",
    "FAILED": "some failed",
    "BLOCKED": "some blocked, none failed",
}
_MAX_ROWS: Final = 500
"""Rows of a table."""


def render(report: document.Report, listed: listing.Listing, graph: provenance.ProvenanceGraph) -> str:
    """Return the page; its size depends little on the number of quanta."""
    groups, n_hidden = samples.choose(graph, listed)
    scripts = [_script(name) for name in _SCRIPTS]
    exceptions = sorted(report.exceptions, key=lambda row: (-row["Failures"], -row["Successes"]))
    summary = report.summary
    return _template().render(
        report=report,
        summary=summary,
        verdict=_verdict(summary),
        cpu_share=number_texts.percentage(summary.cpu_time, summary.busy_time or 1.0),
        sections=_SECTIONS.items(),
        titles={name: statuses.TITLES[status] for status, name in statuses.NAMES.items()},
        rare=_RARE,
        worst=_WORST,
        listed_title="Failures"
        if not {"SUCCESSFUL", "BLOCKED"} & {*report.selection.states}
        else "Listed quanta",
        exceptions=exceptions[:_MAX_ROWS],
        groups=groups,
        n_shown=sum(len(group.shown) for group in groups),
        n_exceptions_hidden=n_hidden,
        caveats=_caveats(report),
        style=markupsafe.Markup(_asset("style.css")),
        data=_embedded(report),
        scripts=[markupsafe.Markup(script) for script in scripts],
        policy=_policy(scripts),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown)
    environment.filters |= {
        "grouped": number_texts.grouped,
        "duration": number_texts.duration,
        "bytes": number_texts.size,
        "moment": number_texts.moment,
        "zip": zip,
    }
    return environment.from_string(_asset("report.html"))


def _shown(value: object) -> object:
    """Return a value as it goes into the page; markup is made here, and no other text can be."""
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
        return printable.lines(value)
    return value


def _verdict(summary: document.Summary) -> str:
    """Return the run in a sentence or two."""
    if not summary.n_quanta:
        return "The graph has no quanta."
    counts = summary.statuses
    good = counts["SUCCESSFUL"] + counts["ABORTED_SUCCESS"]
    share = number_texts.percentage(good, summary.n_quanta)
    if good == summary.n_quanta:
        text = f"All {good:,} quanta succeeded."
    else:
        text = f"{good:,} of {summary.n_quanta:,} quanta succeeded ({share})."
        failed = counts["FAILED"] + counts["ABORTED"] + counts["UNKNOWN"]
        text += f" {failed:,} failed"
        if blocked := counts["BLOCKED"]:
            text += f", and {blocked:,} more {'was' if blocked == 1 else 'were'} blocked by failures before"
        text += "."
    if summary.n_quanta != summary.n_expected:
        text += f" The graph should have {summary.n_expected:,} quanta."
    return text


def _caveats(report: document.Report) -> list[tuple[str, int, str, list[tuple[str, int]]]]:
    """Return code, number of quanta, meaning, and numbers by task of each caveat code."""
    tasks: dict[str, dict[str, int]] = {}
    for details in report.details:
        for found in details.caveats:
            counts = tasks.setdefault(found.code, {})
            counts[details.task] = counts.get(details.task, 0) + found.count
    rows = [(c, sum(n.values()), tables.meaning(c), list(n.items())) for c, n in tasks.items()]
    return sorted(rows, key=lambda row: -row[1])


def _asset(name: str) -> str:
    return importlib.resources.files("aggregator.reports").joinpath("assets", name).read_text("utf-8")


def _script(name: str) -> str:
    lines = [line for line in _asset(name).splitlines() if not line.startswith("//# sourceMappingURL")]
    if name in _LICENCES:
        lines.insert(0, f"/*!\n{_asset(_LICENCES[name])}*/")
    return "\n".join(lines)


def _embedded(report: document.Report) -> markupsafe.Markup:
    """Return the report in JSON so that nothing in it can end the element that it is in."""
    text = msgspec.json.encode(printable.values(msgspec.to_builtins(report))).decode()
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _policy(scripts: list[str]) -> str:
    """Return a policy with which the page can load nothing, and run nothing but its own scripts."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"
