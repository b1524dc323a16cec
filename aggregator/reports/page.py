"""The report as one self-contained page (docs/report.md)."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from typing import Any, Final

import jinja2
import markupsafe
import msgspec

from aggregator.reports import document, listing, number_texts, reruns, samples, selection, text_tables
from aggregator.schemas import printable
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import provenance_graph

_SCRIPTS: Final = (
    "vendor/echarts.min.js", "vendor/dagre.min.js", "numbers.js", "tables.js", "charts.js", "timeline.js",
    "pipeline.js", "page.js",
)  # fmt: skip
_LICENCES: Final = {"vendor/dagre.min.js": "vendor/dagre.LICENSE"}
"""Licences of libraries that do not carry them."""

_SECTIONS: Final = {
    "summary": "Summary",
    "tasks": "Tasks",
    "fix-first": "Fix first",
    "pipeline": "Pipeline",
    "timeline": "Timeline",
    "distributions": "Run time, memory, wait",
    "failures": "Failures",
    "caveats": "Caveats",
}
_CHARTS_ONLY: Final = ("pipeline", "timeline", "distributions")
"""Sections that have nothing but charts."""
_EMBEDDED: Final = ("summary", "tasks", "details", "timeline", "pipeline")
"""Parts of the report that are drawn."""
_RARE: Final = {
    "ABORTED_SUCCESS": "the log is missing",
    "ABORTED": "no log, no metadata",
    "UNKNOWN": "nothing is on record",
}
_WORST: Final = {
    "FAILED": "some failed",
    "BLOCKED": "some blocked, none failed",
    "SUCCESSFUL": "none failed or blocked",
}
_MAX_ROWS: Final = 500
"""Rows of a table."""
_MAX_KINDS: Final = 40
"""Kinds of failures that are ranked."""


def render(report: document.Report, listed: listing.Listing, graph: provenance_graph.ProvenanceGraph) -> str:
    """Return the page; its size depends little on the number of quanta."""
    scripts = [_script(name) for name in _SCRIPTS]
    return _template().render(
        report=report,
        summary=report.summary,
        sections=_SECTIONS.items(),
        charts_only=_CHARTS_ONLY,
        titles=_titles(),
        rare=_RARE,
        worst=_WORST,
        caveats=_caveats(report),
        json_command=reruns.listing_command(report, "json"),
        style=markupsafe.Markup(_asset("style.css")),
        data=_embedded(report),
        scripts=[markupsafe.Markup(script) for script in scripts],
        policy=_policy(scripts),
        **_overview(report),
        **_fix_first(report, listed),
        **_failures(report, listed, graph),
    )


def _overview(report: document.Report) -> dict[str, Any]:
    """Return what the parts on the whole run need."""
    summary = report.summary
    return {
        "verdict": _verdict(summary),
        "total_run_time": sum(task.run_time.total for task in report.details if task.run_time) or None,
        "shown_statuses": [
            name
            for status, name in statuses.NAMES.items()
            if status not in statuses.RARE or summary.statuses[name]
        ],
        "tile_notes": _tile_notes(summary),
    }


def _fix_first(report: document.Report, listed: listing.Listing) -> dict[str, Any]:
    """Return what the part on failures and what they block needs."""
    kinds = zip(report.fix_first[:_MAX_KINDS], listed.blocked.kinds, strict=False)
    return {
        "fix_first": [(described, listed.read(kind.worst)) for described, kind in kinds],
        "blocked": samples.some(listed.of(selection.Selection(frozenset({statuses.BLOCKED})))),
        "blocked_command": reruns.listing_command(report, "csv", "--state", "BLOCKED"),
    }


def _failures(
    report: document.Report, listed: listing.Listing, graph: provenance_graph.ProvenanceGraph
) -> dict[str, Any]:
    """Return what the part on listed quanta needs."""
    groups, n_hidden = samples.choose(graph, listed)
    exceptions = sorted(report.exceptions, key=lambda row: (-row["Failures"], -row["Successes"]))
    only_failures = not {"SUCCESSFUL", "BLOCKED"} & {*report.selection.states}
    return {
        "listed_title": "Failures" if only_failures else "Listed quanta",
        "exceptions": exceptions[:_MAX_ROWS],
        "groups": groups,
        "n_shown": sum(len(group.shown) for group in groups),
        "n_exceptions_hidden": n_hidden,
        "listing_command": reruns.listing_command(report, "csv", *listed.choice.options()),
        "reruns": reruns.make(report, listed, groups),
        "tables_command": reruns.tables_command(report, listed),
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown)
    environment.filters |= {
        "grouped": number_texts.grouped,
        "duration": number_texts.duration,
        "bytes": number_texts.size,
        "moment": number_texts.moment,
        "percent": number_texts.percent,
        "numbered": enumerate,
        "zip": zip,
    }
    return environment.from_string(_asset("report.html"))


def _titles() -> dict[str, str]:
    return {name: statuses.TITLES[status] for status, name in statuses.NAMES.items()}


def _tile_notes(summary: document.Summary) -> dict[str, str]:
    """Return what else is said about the number of quanta of each status."""
    return {
        **_RARE,
        "FAILED": f"{summary.n_retried:,} quanta retried",
        "BLOCKED": "below failed ones",
        "SUCCESSFUL": f"{summary.n_with_caveats:,} with caveats",
    }


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
    good, without_log = counts["SUCCESSFUL"], counts["ABORTED_SUCCESS"]
    if good == summary.n_quanta:
        text = f"All {good:,} quanta were successful."
    else:
        share = number_texts.percentage(good, summary.n_quanta)
        text = f"{good:,} of {summary.n_quanta:,} quanta were successful ({share})"
        text += f", {without_log:,} more succeeded without leaving a log." if without_log else "."
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
        for entry in details.caveats:
            counts = tasks.setdefault(entry.code, {})
            counts[details.task] = counts.get(details.task, 0) + entry.count
    rows = [(c, sum(n.values()), text_tables.meaning(c), list(n.items())) for c, n in tasks.items()]
    return sorted(rows, key=lambda row: -row[1])


def _asset(name: str) -> str:
    return importlib.resources.files("aggregator.reports").joinpath("assets", name).read_text("utf-8")


def _script(name: str) -> str:
    lines = [line for line in _asset(name).splitlines() if not line.startswith("//# sourceMappingURL")]
    if name in _LICENCES:
        lines.insert(0, f"/*!\n{_asset(_LICENCES[name])}*/")
    return "\n".join(lines)


def _embedded(report: document.Report) -> markupsafe.Markup:
    """Return what scripts need of the report, in JSON in which nothing can end the element that it is in."""
    data = {name: msgspec.to_builtins(getattr(report, name)) for name in _EMBEDDED}
    data["titles"] = _titles()
    text = msgspec.json.encode(printable.values(data)).decode()
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _policy(scripts: list[str]) -> str:
    """Return a policy with which the page can load nothing, and run nothing but its own scripts."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"
