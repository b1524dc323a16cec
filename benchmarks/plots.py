"""Draws what the other benchmarks measured: ``python -m benchmarks.plots --results bench-out --to DIR``.

Reads ``compare.json``, ``growth.json``, ``growth-small.json`` and ``ceilings.json`` as far as they are there.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

COLOURS = {"reference": "#7f7f7f", "ours": "#0072b2"}
ROLES = {"coordinator": "#0072b2", "scanner": "#e69f00", "ingester": "#009e73", "writer": "#cc79a7"}
"""Colours that people who see few of them can tell apart."""

pyplot.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "benchmarks",
        "figure.constrained_layout.use": True,
    }
)


def save(figure: Any, path: pathlib.Path) -> None:
    """Write a figure; the same figure makes the same file."""
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(path)


def title(case: dict[str, Any]) -> str:
    """Return what was compared, in a line."""
    kind = f"level {case['level']}" if case["graph"] else "no graph"
    return f"{case['database']}, -j {case['processes']}, {kind}"


def draw_comparison(results: dict[str, Any], path: pathlib.Path) -> None:
    """Draw how many quanta a second both tools aggregate."""
    cases = [case for case in results["cases"] if len(case["medians"]) == 3]
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.45 * len(cases)))
    for row, case in enumerate(cases):
        for shift, tool in ((-0.2, "ours"), (0.2, "reference")):
            rate = case["medians"][tool]["quanta_per_s"]
            axes.barh(row + shift, rate, height=0.36, color=COLOURS[tool], label=tool if row == 0 else None)
        times = case["medians"]["ratio"]["quanta_per_s"]
        axes.annotate(
            f" {times:.1f} times", (case["medians"]["ours"]["quanta_per_s"], row - 0.2), va="center"
        )
    axes.set_yticks(range(len(cases)), [title(case) for case in cases])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(f"quanta per second, run of {results['quanta']:,} quanta")
    axes.legend(frameon=False, loc="lower right")
    save(figure, path)


def draw_growth(series: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """Draw CPU per quantum, memory of each role, and the cost of restarts against the number of quanta."""
    figure, (cpu, memory, restart) = pyplot.subplots(1, 3, figsize=(12, 3.4))
    for (name, results), style in zip(series.items(), ("-", "--"), strict=False):
        sizes = [result["quanta"] for result in results]
        cpu.plot(
            sizes, [r["cpu_ms_per_quantum"] for r in results], style, marker="o", color="#0072b2", label=name
        )
        for role, colour in ROLES.items():
            peaks = [result["peak_mb"][role] for result in results]
            memory.plot(sizes, peaks, style, marker="o", color=colour, label=role if style == "-" else None)
        killed = [result for result in results if "restart_share" in result]
        shares = [100 * result["restart_share"] for result in killed]
        restart.plot([r["quanta"] for r in killed], shares, style, marker="o", color="#0072b2", label=name)
    cpu.set(xscale="log", xlabel="quanta", ylabel="CPU time per quantum, ms", ylim=(0, None))
    memory.set(xscale="log", xlabel="quanta", ylabel="peak memory, MB", ylim=(0, None))
    restart.set(xscale="log", xlabel="quanta", ylabel="restart at 90 %, % of a run", ylim=(0, None))
    for axes in (cpu, memory, restart):
        axes.legend(frameon=False)
    save(figure, path)


def draw_ceilings(results: dict[str, Any], path: pathlib.Path) -> None:
    """Draw how many quanta a second each role can do alone."""
    roles = {name: taken["quanta_per_s"] for name, taken in results["roles"].items()}
    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.3 * len(roles)))
    axes.barh(list(roles), list(roles.values()), color="#0072b2")
    for row, rate in enumerate(roles.values()):
        axes.annotate(f" {rate:,.0f}", (rate, row), va="center")
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="quanta per second on one core")
    axes.margins(x=0.2)
    save(figure, path)


def main(arguments: list[str] | None = None) -> None:
    """Draw everything that there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("bench-out"))
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path("docs/plots"))
    given = parser.parse_args(arguments)
    given.to.mkdir(parents=True, exist_ok=True)
    found = {path.stem: json.loads(path.read_text()) for path in given.results.glob("*.json")}
    names = {"growth": "realistic files", "growth-small": "small files"}
    growth = {name: found[key]["results"] for key, name in names.items() if key in found}
    if "compare" in found:
        draw_comparison(found["compare"], given.to / "compare.svg")
    if growth:
        draw_growth(growth, given.to / "growth.svg")
    if "ceilings" in found:
        draw_ceilings(found["ceilings"], given.to / "ceilings.svg")


if __name__ == "__main__":
    main()
