"""The page of a report in a real browser: numbers, tables, keyboard, colours, print."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common import by, keys
from selenium.webdriver.support import select, wait

from tests.helpers import browser, graph_files, report_graphs
from tests.unit.reports import test_reports

MARKUP = '<script>window.hacked = 1</script><img src="x" onerror="window.hacked = 1"> ]]> & "quoted"'


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return the sample's graph with markup in an exception and a huge message."""
    directory = graph_files.unpack_sample(tmp_path_factory.mktemp("page"))

    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        texts = iter([MARKUP, "long " * 400_000])
        for block in blocks:
            last = block["attempts"][-1] if block["attempts"] else {"status": 0}
            if last["status"] == -1:
                last["exception"] = {"type_name": "a.<b>Error</b>", "message": next(texts), "metadata": {}}
        return blocks

    return report_graphs.alter(directory / "provenance.qg", directory / "changed.qg", change)


@pytest.fixture(scope="module")
def report(graph: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(test_reports.run(graph, "--format", "json"))
    return found


@pytest.fixture(scope="module")
def page(graph: pathlib.Path) -> pathlib.Path:
    path = graph.with_name("page.html")
    test_reports.run(graph, "--format", "html", "-o", path)
    return path


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with browser.opened(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def shown(chrome: webdriver.Chrome, page: pathlib.Path) -> webdriver.Chrome:
    """Return the browser with the page, as it is after loading."""
    browser.prefer(chrome, "light")
    browser.resize(chrome, 1280)
    chrome.get(page.as_uri())
    assert chrome.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert browser.console(chrome) == []
    return chrome


def test_page_is_self_contained(page: pathlib.Path) -> None:
    text = page.read_text()
    assert len(text) < 1_700_000
    tags = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"<(?:link|img|iframe|script|object)[^>]*>", tags) == [
        '<link rel="icon" href="data:,">'
    ]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'").partition("script-src ")[2].split()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]


def test_vendored_libraries_are_what_their_table_says() -> None:
    vendor = pathlib.Path(__file__).resolve().parents[2] / "aggregator" / "reports" / "assets" / "vendor"
    table = (vendor / "README.md").read_text()
    for path in vendor.glob("*.js"):
        assert f"`{path.name}`" in table
        assert hashlib.sha256(path.read_bytes()).hexdigest() in table


def test_no_requests(shown: webdriver.Chrome, page: pathlib.Path) -> None:
    entries = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]  # type: ignore[no-untyped-call]
    urls = {e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"}
    # The browser's own start page is made of files in it.
    assert {url for url in urls if not url.startswith(("data:", "chrome:"))} == {page.as_uri()}


def test_numbers_are_those_of_json(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    tiles = {
        e.get_attribute("data-key"): (float(e.get_attribute("data-value") or "nan"), e.text.splitlines()[0])
        for e in shown.find_elements(by.By.CSS_SELECTOR, "[data-key]")
    }
    expected = {**report["summary"], **report["summary"]["statuses"]}
    assert {"n_quanta", "FAILED", "BLOCKED", "busy_time", "peak_concurrency"} <= tiles.keys()
    for key, (value, text) in tiles.items():
        assert value == expected[key]
        if isinstance(expected[key], int):
            assert text == f"{expected[key]:,}"
    cells = shown.execute_script(
        "return [...document.querySelectorAll('#table-tasks tbody tr')].map("
        "(row) => [...row.cells].map((cell) => cell.textContent))"
    )
    for row, task, details in zip(cells, report["tasks"], report["details"], strict=True):
        assert row[:8] == [
            task["Task"], str(task["TOTAL"]), str(task["Aborted success"]), str(task["Failed"]),
            str(task["Blocked"]), str(task["Successful"]), str(details["n_with_caveats"]),
            str(details["n_retried"]),
        ]  # fmt: skip
    exceptions = shown.execute_script(
        "return [...document.querySelectorAll('#table-exceptions tbody tr')].map("
        "(row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert sorted(exceptions) == sorted(
        [row["Task"], row["Exception"], str(row["Failures"]), str(row["Successes"])]
        for row in report["exceptions"]
    )


def series(chrome: webdriver.Chrome, name: str) -> list[dict[str, Any]]:
    """Return the series of a chart."""
    found: list[dict[str, Any]] = chrome.execute_script(
        "return echarts.getInstanceByDom(document.getElementById(arguments[0])).getOption().series"
        ".map(({name, data}) => ({name, data}))",
        f"chart-{name}",
    )
    return found


def test_charts_have_the_numbers_of_json(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    shares = {s["name"]: [share or 0 for share in s["data"]] for s in series(shown, "status")}
    for i, details in enumerate(report["details"]):
        total = report["tasks"][i]["TOTAL"]
        assert shares["Failed"][i] == pytest.approx(100 * details["statuses"]["FAILED"] / total)
        assert sum(values[i] for values in shares.values()) == pytest.approx(100)
    under_way, failed, succeeded, _ = series(shown, "timeline")
    assert [y for _, y in under_way["data"]][:-1] == report["timeline"]["concurrency"]
    assert [y for _, y in succeeded["data"]] == report["timeline"]["succeeded"]
    assert [y for _, y in failed["data"]] == report["timeline"]["failed"]
    for key in ("run_time", "memory"):
        for details, box in zip(report["details"], series(shown, key)[0]["data"], strict=True):
            assert (len(box) == 5) == (details[key] is not None)
            if box and key == "memory":
                assert box[2] == details[key]["median"]
    assert series(shown, "histogram")[0]["data"] == report["details"][0]["run_time"]["histogram"]["counts"]


def test_pipeline(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    found = {
        e.get_attribute("data-task"): e.get_attribute("data-worst")
        for e in shown.find_elements(by.By.CSS_SELECTOR, "#chart-pipeline a")
    }
    assert found == {
        "clean": "SUCCESSFUL", "measure": "SUCCESSFUL", "stack": "FAILED", "summarize": "FAILED",
        "report": "BLOCKED",
    }  # fmt: skip
    assert len(shown.find_elements(by.By.CSS_SELECTOR, "#chart-pipeline path.edge")) == len(
        report["pipeline"]
    )


def column(chrome: webdriver.Chrome, table: str, number: int) -> list[str]:
    """Return the texts of the visible cells of a column, counted from 0."""
    texts: list[str] = chrome.execute_script(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter((row) => !row.hidden)"
        ".map((row) => row.cells[arguments[1]].textContent)",
        table,
        number,
    )
    return texts


def test_sorting(shown: webdriver.Chrome) -> None:
    labels = column(shown, "table-tasks", 0)
    task, n_quanta = shown.find_elements(by.By.CSS_SELECTOR, "#table-tasks th button")[:2]
    n_quanta.click()
    numbers = [int(text) for text in column(shown, "table-tasks", 1)]
    assert numbers == sorted(numbers, reverse=True)
    head = n_quanta.find_element(by.By.XPATH, "..")
    assert head.get_attribute("aria-sort") == "descending"
    n_quanta.click()
    assert [int(text) for text in column(shown, "table-tasks", 1)] == sorted(numbers)
    # By keyboard, too.
    task.send_keys(keys.Keys.ENTER)
    assert column(shown, "table-tasks", 0) == sorted(labels)
    assert head.get_attribute("aria-sort") is None


def test_values_that_are_missing_stay_last(shown: webdriver.Chrome) -> None:
    button = shown.find_element(by.By.XPATH, "//table[@id='table-tasks']//button[.='Median run']")
    place = len(button.find_elements(by.By.XPATH, "../preceding-sibling::th"))
    for _ in range(2):
        button.click()
        assert column(shown, "table-tasks", place)[-1] == "–"


def test_filtering(shown: webdriver.Chrome) -> None:
    field = shown.find_element(by.By.ID, "filter-table-tasks")
    field.send_keys("su MARI")
    assert column(shown, "table-tasks", 0) == ["summarize"]
    assert shown.find_element(by.By.ID, "count-table-tasks").text == "1 of 5 tasks"
    field.clear()
    field.send_keys(" ")
    assert len(column(shown, "table-tasks", 0)) == 5


def test_drill_down_by_keyboard(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    group = shown.find_elements(by.By.CSS_SELECTOR, "details.group")[0]
    summary = group.find_element(by.By.TAG_NAME, "summary")
    assert "a.<b>Error</b>" in summary.text
    assert "2 quanta" in summary.text
    summary.send_keys(keys.Keys.ENTER)
    # What blocks another quantum comes first. Stack's quantum has no log.
    opener = group.find_elements(by.By.CSS_SELECTOR, ".opener")[0]
    opener.send_keys(keys.Keys.ENTER)
    assert opener.get_attribute("aria-expanded") == "true"
    [log] = [row for row in group.find_elements(by.By.CSS_SELECTOR, ".log-row") if row.is_displayed()]
    [failed] = [q for q in report["quanta"] if q["task"] == "summarize"]
    assert failed["quantum_id"] in log.text
    assert failed["log"]["dataset_id"] in log.text
    assert "Simulated failure" in log.find_element(by.By.TAG_NAME, "pre").text
    assert "no log" in group.find_elements(by.By.CSS_SELECTOR, ".log-row")[1].get_attribute("textContent")


def test_filter_of_quanta(shown: webdriver.Chrome) -> None:
    field = shown.find_element(by.By.ID, "filter-quanta")
    field.send_keys("visit=103")
    groups = shown.find_elements(by.By.CSS_SELECTOR, "details.group")
    assert [group.is_displayed() for group in groups] == [True, False]
    rows = groups[0].find_elements(by.By.CSS_SELECTOR, "tbody tr")
    assert [row.is_displayed() for row in rows] == [True, False, False, False]
    assert shown.find_element(by.By.ID, "count-quanta").text == "1 of 3 quanta"
    assert groups[0].find_element(by.By.CSS_SELECTOR, ".count").text == "1 of 2 quanta"
    # Exceptions are in the headings of groups only.
    field.clear()
    field.send_keys("<b>error")
    assert [group.is_displayed() for group in groups] == [True, False]
    assert shown.find_element(by.By.ID, "count-quanta").text == "2 of 3 quanta"


def test_markup_stays_text(shown: webdriver.Chrome) -> None:
    shown.find_element(by.By.ID, "open-all").click()
    messages = [e.text for e in shown.find_elements(by.By.CSS_SELECTOR, "td.message")]
    assert MARKUP in messages
    assert shown.execute_script("return window.hacked") is None
    assert any(m.endswith("more characters)") and len(m) < 500 for m in messages)
    assert browser.console(shown) == []


def test_dark_and_light(shown: webdriver.Chrome) -> None:
    def look() -> tuple[str, str]:
        background = "return getComputedStyle(document.body).backgroundColor"
        fill = "return document.querySelector('#chart-status svg text').getAttribute('fill')"
        return shown.execute_script(background), shown.execute_script(fill)

    light = look()
    browser.prefer(shown, "dark")
    # Charts are drawn again as soon as the browser tells of the change.
    wait.WebDriverWait(shown, 120).until(lambda _: look()[1] != light[1])
    assert look()[0] != light[0]
    assert browser.console(shown) == []


@pytest.mark.parametrize("width", [320, 360, 800, 1600])
def test_nothing_sticks_out(shown: webdriver.Chrome, width: int) -> None:
    browser.resize(shown, width)
    shown.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    for chart in shown.find_elements(by.By.CSS_SELECTOR, ".chart svg"):
        assert chart.size["width"] <= width


def test_print(shown: webdriver.Chrome) -> None:
    browser.prefer(shown, "dark")
    shown.execute_script(
        "window.addEventListener('beforeprint', () => { window.seen = {"
        "open: document.querySelectorAll('details.group[open]').length,"
        "ink: getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()}; })"
    )
    printed = base64.b64decode(shown.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    # Everything is unfolded, and dark on white.
    assert shown.execute_script("return window.seen") == {"open": 2, "ink": "#1c2430"}
    assert shown.find_elements(by.By.CSS_SELECTOR, "details.group[open]") == []
    assert browser.console(shown) == []


@pytest.mark.parametrize("kind", test_reports.ODD)
def test_odd_graphs(chrome: webdriver.Chrome, graph: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    odd = report_graphs.alter(graph, tmp_path / "odd.qg", test_reports.ODD[kind])
    test_reports.run(odd, "--format", "html", "--state", "BLOCKED", "-o", tmp_path / "page.html")
    chrome.get((tmp_path / "page.html").as_uri())
    assert chrome.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert browser.console(chrome) == []
    n_quanta = chrome.find_element(by.By.CSS_SELECTOR, "[data-key=n_quanta]").get_attribute("data-value")
    assert n_quanta == {"empty": "0", "all blocked": "20", "no failures": "16", "one task": "3"}[kind]
    verdict = chrome.find_element(by.By.CSS_SELECTOR, ".verdict").text
    assert verdict.startswith(
        {
            "empty": "The graph has no quanta",
            "all blocked": "0 of 20",
            "no failures": "All 16 quanta were successful.",
            "one task": "2 of 3",
        }[kind]
    )


def test_page_stays_light(chrome: webdriver.Chrome, graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Thousands of failures of hundreds of kinds are shown in part, all of them in CSV."""

    def change(blocks: list[report_graphs.Quantum]) -> list[report_graphs.Quantum]:
        [failed] = [b for b in blocks if b["task_label"] == "summarize" and b["attempts"][-1]["status"] == -1]
        result = []
        for i in range(4000):
            exception = {"type_name": f"a.Error{i % 300}", "message": f"{i} " * 2000, "metadata": {}}
            attempts = [{**failed["attempts"][-1], "exception": exception}]
            result.append({**failed, "quantum_id": f"01a2ffff-0000-7000-8000-{i:012x}", "attempts": attempts})
        return result

    odd = report_graphs.alter(graph, tmp_path / "odd.qg", change)
    test_reports.run(odd, "--format", "html", "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 2_200_000
    chrome.get((tmp_path / "page.html").as_uri())
    assert browser.console(chrome) == []
    assert len(chrome.find_elements(by.By.CSS_SELECTOR, "details.group")) == 60
    assert len(chrome.find_elements(by.By.CSS_SELECTOR, "details.group .opener")) == 400
    counts = chrome.find_elements(by.By.CSS_SELECTOR, "details.group .count")
    assert {count.get_attribute("data-value") for count in counts} == {"14"}
    assert "240 rarer exceptions are not shown" in chrome.page_source
    count = chrome.find_element(by.By.ID, "count-quanta")
    assert count.text == "400 of 4,000 quanta shown"
    chrome.find_element(by.By.ID, "filter-quanta").send_keys("a.error1 ")
    groups = [g for g in chrome.find_elements(by.By.CSS_SELECTOR, "details.group") if g.is_displayed()]
    fitting = [len(group.find_elements(by.By.CSS_SELECTOR, ".opener")) for group in groups]
    assert count.text == f"{sum(fitting)} of 400 shown; 4,000 quanta in all"
    assert 0 < sum(fitting) < 400
    assert len(test_reports.run(odd, "--format", "csv").splitlines()) == 4001


def test_accessible_names(shown: webdriver.Chrome) -> None:
    problems = shown.execute_script(
        "const named = (e) => e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length;"
        "return [...document.querySelectorAll('button, input, select, a, [role=img]')]"
        ".filter((e) => !named(e)).map((e) => e.outerHTML)"
    )
    assert problems == []
    levels = [int(e.tag_name[1]) for e in shown.find_elements(by.By.CSS_SELECTOR, "h1, h2, h3")]
    assert levels[0] == 1
    assert all(new - old <= 1 for old, new in itertools.pairwise(levels))


def test_successful_means_one_thing(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    """In chart, tooltip and table; those with caveats are among them."""
    shares = {s["name"]: [share or 0 for share in s["data"]] for s in series(shown, "status")}
    assert list(shares) == [
        "Aborted success", "Failed", "Blocked", "Successful with caveats", "Successful without caveats",
    ]  # fmt: skip
    heads = [e.text for e in shown.find_elements(by.By.CSS_SELECTOR, "#table-tasks th button")]
    place = heads.index("Successful")
    tiles = shown.find_elements(by.By.CSS_SELECTOR, ".tiles [data-key]")
    keys_of_tiles = [tile.get_attribute("data-key") for tile in tiles]
    assert [k for k in keys_of_tiles if k in report["summary"]["statuses"]] == [
        "ABORTED_SUCCESS", "FAILED", "BLOCKED", "SUCCESSFUL",
    ]  # fmt: skip
    for i, (details, cell) in enumerate(
        zip(report["details"], column(shown, "table-tasks", place), strict=True)
    ):
        n_good, total = details["statuses"]["SUCCESSFUL"], report["tasks"][i]["TOTAL"]
        assert int(cell) == n_good
        share = shares["Successful with caveats"][i] + shares["Successful without caveats"][i]
        assert share == pytest.approx(100 * n_good / total)
        lines = shown.execute_script("return statusLines(report, report.details[arguments[0]])", i)
        told = [line for line in lines if line.startswith("Successful")]
        assert [line.split(" (")[0] for line in told] == ([f"Successful: {n_good}"] if n_good else [])
        assert ["of them with caveats" in line for line in told] == [details["n_with_caveats"] > 0] * len(
            told
        )


def test_total_row(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    cells = [e.text for e in shown.find_elements(by.By.CSS_SELECTOR, "#table-tasks tfoot tr > *")]
    heads = [e.text for e in shown.find_elements(by.By.CSS_SELECTOR, "#table-tasks th button")]
    row = dict(zip(heads, cells, strict=True))
    summary = report["summary"]
    assert row["Task"] == "All tasks"
    assert row["Quanta"] == str(summary["n_quanta"])
    for head in ("Quanta", "Failed", "Blocked", "Successful", "with caveats", "Retried"):
        assert int(row[head]) == sum(map(int, column(shown, "table-tasks", heads.index(head))))
    assert float(row["CPU efficiency"].removesuffix(" %")) == pytest.approx(
        100 * summary["cpu_efficiency"], 0.01
    )
    # It stays below what is sorted.
    shown.find_element(by.By.CSS_SELECTOR, "#table-tasks th button").click()
    assert shown.find_element(by.By.CSS_SELECTOR, "#table-tasks tr:last-child > th").text != "All tasks"


def test_what_to_fix_first(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    rows = shown.find_elements(by.By.CSS_SELECTOR, "#table-fix-first tbody tr")
    assert [row.find_element(by.By.TAG_NAME, "th").text for row in rows] == [
        kind["task"] for kind in report["fix_first"]
    ]
    assert column(shown, "table-fix-first", 4) == [str(kind["n_blocked"]) for kind in report["fix_first"]]
    assert report["fix_first"][0]["n_blocked"] == 1
    [blocked] = shown.find_elements(by.By.CSS_SELECTOR, "#table-blocked tbody tr")
    cells = [cell.text for cell in blocked.find_elements(by.By.XPATH, "./*")]
    assert (cells[0], cells[2], cells[4]) == ("report", "summarize", "a.<b>Error</b>")


def test_timeline_of_a_task(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    select.Select(shown.find_element(by.By.ID, "timeline-task")).select_by_value("stack")
    [task] = [each for each in report["timeline"]["tasks"] if each["task"] == "stack"]
    _, failed, succeeded, tasks = series(shown, "timeline")
    assert sum(y for _, y in succeeded["data"]) == sum(task["succeeded"])
    assert sum(y for _, y in failed["data"]) == sum(task["failed"])
    assert len(succeeded["data"]) == len(report["timeline"]["succeeded"])
    assert len(tasks["data"]) == len(report["timeline"]["tasks"])
    shapes = shown.find_elements(by.By.CSS_SELECTOR, "#chart-timeline svg path")
    assert len(shapes) > len(tasks["data"])


def test_zoom_of_the_timeline_by_keyboard(shown: webdriver.Chrome) -> None:
    def part() -> list[float]:
        zooms = "echarts.getInstanceByDom(document.getElementById('chart-timeline')).getOption().dataZoom"
        found: list[list[float]] = shown.execute_script(
            f"return {zooms}.map((zoom) => [zoom.start, zoom.end])"
        )
        assert all(each == found[0] for each in found)
        return found[0]

    def press(name: str) -> list[float]:
        shown.find_element(by.By.CSS_SELECTOR, f"[data-zoom={name}]").send_keys(keys.Keys.ENTER)
        return part()

    note = shown.find_element(by.By.ID, "timeline-note")
    assert part() == [0, 100]
    assert press("in") == [25, 75]
    assert " to " in note.text
    assert press("on") == [50, 100]
    assert press("on") == [50, 100]
    assert press("back") == [25, 75]
    # Another size or colour does not change what is looked at.
    browser.resize(shown, 700)
    browser.prefer(shown, "dark")
    shown.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert part() == [25, 75]
    assert press("out") == [0, 100]
    assert press("in") == [25, 75]
    assert press("all") == [0, 100]
    assert note.text == ""


def test_copying(shown: webdriver.Chrome) -> None:
    origin = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    shown.execute_cdp_cmd("Browser.grantPermissions", origin)
    shown.find_element(by.By.CSS_SELECTOR, "details.rerun > summary").click()
    button = shown.find_element(by.By.CSS_SELECTOR, ".copy")
    button.click()
    wait.WebDriverWait(shown, 120).until(lambda _: button.text == "Copied")
    text = button.find_element(by.By.XPATH, "../pre").get_attribute("textContent")
    assert shown.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == text
    # Without a clipboard the text is at least selected.
    shown.execute_script(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('no'));"
        "document.execCommand = () => false; getSelection().removeAllRanges()"
    )
    button.click()
    wait.WebDriverWait(shown, 120).until(lambda _: button.text == "Selected")
    assert shown.execute_script("return getSelection().toString()").strip() == text


def test_without_scripts(chrome: webdriver.Chrome, page: pathlib.Path, report: dict[str, Any]) -> None:
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chrome.get(page.as_uri())
        assert "JavaScript is off" in chrome.find_element(by.By.CSS_SELECTOR, ".notice").text
        useless = ".chart, .controls, .copy, .opener, .pipeline"
        assert not [e for e in chrome.find_elements(by.By.CSS_SELECTOR, useless) if e.is_displayed()]
        rows = chrome.find_elements(by.By.CSS_SELECTOR, "#table-tasks tbody tr")
        assert len([row for row in rows if row.is_displayed()]) == len(report["tasks"])
        chrome.find_element(by.By.CSS_SELECTOR, "details.group > summary").click()
        log = chrome.find_element(by.By.CSS_SELECTOR, "details.group[open] .log-row pre")
        assert log.is_displayed()
    finally:
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


CONTRASTS = r"""
const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const numbers = (text) => text.match(/[\d.]+/g).map(Number);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const [r, g, b, a] = numbers(getComputedStyle(e).backgroundColor);
    if (a !== 0) return [r, g, b];
  }
};
for (const group of document.querySelectorAll("details")) group.open = true;
const words = [...document.querySelectorAll("main *, nav *")].filter((e) => e.checkVisibility()
  && !e.closest(".hidden-text") && [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
return words.map((e) => {
  const style = getComputedStyle(e);
  const [a, b] = [light(numbers(e.ownerSVGElement ? style.fill : style.color)), light(ground(e))];
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 120)];
}).sort((a, b) => a[0] - b[0]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_can_be_read(shown: webdriver.Chrome, scheme: str) -> None:
    """Contrast is 4.5 or more (WCAG 2, level AA), of zeros and labels of charts as well."""
    browser.prefer(shown, scheme)
    shown.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    contrasts = shown.execute_script(CONTRASTS)
    assert len(contrasts) > 200
    assert any("zero" in html for _, html in contrasts)
    assert [entry for entry in contrasts if entry[0] < 4.5] == []


def test_no_bar_for_nothing(shown: webdriver.Chrome, report: dict[str, Any]) -> None:
    """Bars have a least width, but those of nothing."""
    chart = "echarts.getInstanceByDom(document.getElementById('chart-status'))"
    layouts = shown.execute_script(
        f"const model = {chart}.getModel(); return model.getSeries().map((series) => [series.name,"
        "series.getData().mapArray((i) => series.getData().getItemGraphicEl(i)?.shape.width ?? 0)])"
    )
    widths = dict(layouts)
    for i, details in enumerate(report["details"]):
        for title, status in (("Failed", "FAILED"), ("Blocked", "BLOCKED")):
            assert (widths[title][i] > 0) == (details["statuses"][status] > 0)
