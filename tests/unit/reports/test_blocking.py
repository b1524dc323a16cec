"""What failures block: numbers and causes are those that following every link gives."""

from __future__ import annotations

import html
import json
import pathlib
import re
import shlex
from collections import Counter
from typing import Any

import hypothesis
import numpy as np
import pytest
from aggregator.schemas.execution import caveats, statuses
from hypothesis import strategies as st

import aggregator
from aggregator.reading import blocking
from aggregator.reports import blockers, samples, selection
from tests.helpers import graph_files, report_graphs
from tests.helpers.samples import Sample
from tests.unit.reports import test_reports

Links = dict[int, set[int]]
"""Parents of each blocked quantum."""


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, set[int], Links]:
    """Return the number of quanta, those that failed, and the parents of the others, in no certain order."""
    n = draw(st.integers(1, 24))
    order = draw(st.permutations(range(n)))
    parents: Links = {}
    failed = set()
    for place, quantum in enumerate(order):
        above = draw(st.sets(st.sampled_from(order[:place]), max_size=4)) if place else set()
        if draw(st.booleans()) and not above:
            failed.add(quantum)
        else:
            parents[quantum] = above
    return n, failed, parents


def above(parents: Links, quantum: int) -> list[set[int]]:
    """Return what is above a quantum, by distance."""
    levels, seen, level = [], {quantum}, parents.get(quantum, set())
    while level - seen:
        levels.append(level - seen)
        seen |= level
        level = {each for quantum in levels[-1] for each in parents.get(quantum, set())}
    return levels


@hypothesis.given(graphs(), st.integers(1, 3), st.randoms())
def test_results_are_those_of_following_every_link(
    graph: tuple[int, set[int], Links], n_kinds: int, random: Any
) -> None:
    n, failed, parents = graph
    pairs = [(child, parent) for child, above in parents.items() for parent in above]
    random.shuffle(pairs)
    children, links = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    kinds = np.array([random.randrange(n_kinds) for _ in range(n)])
    is_failed = np.isin(np.arange(n), list(failed))
    marks = np.where(is_failed, np.arange(n), blocking.NONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocking, "_SLICE", 16)
        graph_links = blocking.Blocking(n, children, links)
        counts = graph_links.count(marks, n, kinds, n_kinds)
        first, only = graph_links.first_causes(marks), graph_links.only_causes(marks)
    ways = graph_links.weights(is_failed)
    for quantum in range(n):
        causes = [level & failed for level in above(parents, quantum)]
        nearest = next(filter(None, causes), {blocking.NONE})
        assert first[quantum] == (quantum if quantum in failed else min(nearest))
        every = set().union(*causes)
        assert only[quantum] == (every.pop() if len(every) == 1 else blocking.NONE)
    for quantum in failed:
        below = [each for each in parents if any(quantum in level for level in above(parents, each))]
        assert Counter(kinds[below].tolist()) == {
            k: c for k, c in enumerate(counts[:, quantum].tolist()) if c
        }
        assert ways[quantum] >= len(below)


def test_many_failures_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 300
    children, parents = np.arange(200, 300), np.arange(100)
    links = blocking.Blocking(n, children, parents)
    marks = np.where(np.arange(n) < 200, np.arange(n), blocking.NONE)
    kinds = np.zeros(n, dtype=np.int64)
    monkeypatch.setattr(blocking, "_BITS_SIZE", 8 * n)
    assert links.count(marks, 200, kinds, 1)[0].tolist() == [1] * 100 + [0] * 100


def test_quanta_that_wait_for_each_other_have_no_cause() -> None:
    """No good graph has these, and no graph may make a report hang."""
    links = blocking.Blocking(4, np.array([1, 2, 3, 3]), np.array([2, 1, 0, 2]))
    marks = np.array([0, blocking.NONE, blocking.NONE, blocking.NONE])
    assert links.first_causes(marks).tolist()[:3] == [0, blocking.NONE, blocking.NONE]
    assert links.count(marks, 1, np.zeros(4, dtype=np.int64), 1)[0, 0] <= 1


@pytest.fixture
def failing(sample: Sample, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a graph whose first three quanta failed in three ways, and what comes after is blocked."""
    exceptions = iter(["b.Common", "a.Rare", None])

    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        lost: set[str] = set()
        for block in blocks:
            reads = {i for ids in block["inputs"].values() for i in ids}
            name = next(exceptions, "") if block["task_label"] == "clean" else ""
            if name != "":
                exception = name and {"type_name": name, "message": "", "metadata": {}}
                block["attempts"] = [{"status": -1, "exception": exception}]
            elif reads & lost:
                block["attempts"] = []
            else:
                block["attempts"] = [{"status": 1}]
                continue
            lost |= {i for ids in block["outputs"].values() for i in ids}
        return blocks

    return report_graphs.alter(sample.root / "provenance.qg", tmp_path / "failing.qg", change)


def reachable(path: pathlib.Path) -> tuple[dict[str, report_graphs.Quantum], dict[str, set[str]]]:
    """Return all quanta by id, and the ids of the failed ones above each blocked one."""
    quanta = {q["quantum_id"]: q for q in graph_files.blocks(graph_files.members(path), "quanta")}
    writers = {i: name for name, q in quanta.items() for ids in q["outputs"].values() for i in ids}

    def causes(name: str) -> set[str]:
        if quanta[name]["attempts"]:
            return {name} if quanta[name]["attempts"][-1]["status"] == -1 else set()
        reads = {writers.get(i) for ids in quanta[name]["inputs"].values() for i in ids}
        return set().union(*(causes(writer) for writer in reads if writer))

    return quanta, {name: causes(name) for name, q in quanta.items() if not q["attempts"]}


def test_report_ranks_failures_by_what_they_block(failing: pathlib.Path) -> None:
    report = json.loads(test_reports.run(failing, "--format", "json", "--state", "BLOCKED"))
    quanta, causes = reachable(failing)
    assert len(causes) > 5

    def kind(name: str) -> str | None:
        exception = quanta[name]["attempts"][-1]["exception"]
        return exception and str(exception["type_name"])

    kinds = {each["exception"]: each for each in report["fix_first"]}
    assert kinds.keys() == {"b.Common", "a.Rare", None}
    for name, each in kinds.items():
        below = [blocked for blocked, above in causes.items() if name in map(kind, above)]
        assert each["n_blocked"] == len(below)
        assert each["blocked"] == Counter(quanta[blocked]["task_label"] for blocked in below)
        assert each["n_blocked_alone"] == sum({*map(kind, causes[blocked])} == {name} for blocked in below)
        assert kind(each["worst"]) == name
        assert each["worst_n_blocked"] == sum(each["worst"] in above for above in causes.values())
    numbers = [each["n_blocked"] for each in report["fix_first"]]
    assert numbers == sorted(numbers, reverse=True)
    assert report["summary"]["n_unexplained"] == 0
    for quantum in report["quanta"]:
        if quantum["status"] == "FAILED":
            assert quantum["n_blocked"] == sum(quantum["quantum_id"] in above for above in causes.values())
            assert quantum["cause"] is None
        else:
            assert quantum["n_blocked"] is None
            assert quantum["cause"] in causes[quantum["quantum_id"]]


def test_first_causes_are_those_that_show_tells(failing: pathlib.Path) -> None:
    report = json.loads(test_reports.run(failing, "--format", "json", "--state", "BLOCKED"))
    with aggregator.Provenance(str(failing)) as opened:
        told = {f.quantum.quantum_id: f.cause and f.cause.quantum_id for f in opened.failures()}
        few = {f.quantum.quantum_id: f.cause and f.cause.quantum_id for f in opened.failures(limit=100)}
    assert told == few
    assert {q["quantum_id"]: q["cause"] for q in report["quanta"]} == told


def test_too_many_failures_are_not_all_counted(
    failing: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not counted is not said to block nothing."""
    monkeypatch.setattr(blockers, "_WORD", 1)
    monkeypatch.setattr(blockers, "_MAX_WORK", 0)
    report = json.loads(test_reports.run(failing, "--format", "json"))
    assert [each["n_blocked"] is None for each in report["fix_first"]] == [False, True, True]
    assert sum(q["n_blocked"] is not None for q in report["quanta"]) == 1
    text = test_reports.run(failing, "--format", "md")
    assert text.count("| not counted |") == 2
    assert "not counted" in test_reports.run(failing, "--format", "html")


def test_blocked_quanta_without_a_failure_are_told(failing: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        return [b for b in blocks if not b["attempts"] or b["attempts"][-1]["status"] == 1]

    odd = report_graphs.alter(failing, tmp_path / "odd.qg", change)
    report = json.loads(test_reports.run(odd, "--format", "json"))
    assert report["summary"]["n_unexplained"] == report["summary"]["statuses"]["BLOCKED"] > 5
    assert report["fix_first"] == []
    assert "no failure above them is on record" in test_reports.run(odd, "--format", "html")


@hypothesis.given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 300))
def test_shares_use_all_the_room_there_is(sizes: list[int], total: int) -> None:
    parts = samples.shares(sizes, total)
    assert sum(parts) == min(total, sum(sizes))
    for size, part in zip(sizes, parts, strict=True):
        assert 0 <= part <= size
        # Who gets less than there is, gets no less than others but for what can't be divided.
        assert part == size or part >= max(parts) - 1


@hypothesis.given(
    st.sets(st.sampled_from(list(statuses.NAMES.values()))),
    st.sets(st.sampled_from(list(statuses.NAMES.values()))),
    st.sets(st.sampled_from(list(caveats.NAMES.values()))),
)
def test_options_make_the_same_selection(more: set[str], less: set[str], named: set[str]) -> None:
    wanted = selection.make(more, less, named)
    options = wanted.options()
    parts: dict[str, list[str]] = {"--state": [], "--no-state": [], "--caveat": []}
    for option, value in zip(options[::2], options[1::2], strict=True):
        parts[option].append(value)
    assert selection.make(*parts.values()) == wanted


def test_lists_for_another_run_are_what_their_command_writes(
    failing: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = test_reports.run(failing, "--format", "html", "--caveat", "NO_WORK")
    texts = [
        html.unescape(text) for text in re.findall(r'<div class="copyable"><pre[^>]*>(.*?)</pre>', page, re.S)
    ]
    [command] = [text for text in texts if text.startswith("aggregator ")]
    monkeypatch.chdir(tmp_path)
    program, name, *options = shlex.split(command)
    assert (program, name) == ("aggregator", "provenance-report")
    test_reports.run(*options)
    written = {str(path): path.read_text() for path in pathlib.Path("data-ids").rglob("*.ecsv")}
    assert len(written) == 3
    assert sorted(text for text in texts if text.startswith("# %ECSV")) == sorted(written.values())
    builders = [shlex.split(text) for text in texts if text.startswith("pipetask ")]
    assert {words[words.index("--data-id-table") + 1] for words in builders} == written.keys()
    assert all(words[words.index("--select-tasks") + 1] == ">= clean" for words in builders)
    assert all("--skip-existing-in" in words for words in builders)
