"""Every page and section that the code refers to is there."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDERS = (
    "aggregator",
    "workers",
    "schemas",
    "butler",
    "execution",
    "stages",
    "storage",
    "tests",
    "benchmarks",
)

_PAGE = re.compile(r"\b([a-z][a-z-]+\.md)\b")
_SECTIONS = re.compile(r"\s+(?:sections?\s+)?(\d+(?:\.\d+)*(?:(?:, | and | to )\d+(?:\.\d+)*)*)")
_HEADING = re.compile(r"^#+ (?:(\d+(?:\.\d+)*)\b)?", re.MULTILINE)


def references(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield pages, and the sections of them, that a text refers to."""
    for page in _PAGE.finditer(text):
        sections = _SECTIONS.match(text, page.end())
        yield page[1], re.findall(r"\d+(?:\.\d+)*", sections[1]) if sections else []


def missing(name: str, sections: list[str]) -> list[str]:
    """Return what is not there of a page and its sections."""
    pages = [*ROOT.glob(name), *(ROOT / "docs").rglob(name)]
    if not pages:
        return [name]
    headings = {number for path in pages for number in _HEADING.findall(path.read_text())}
    return [f"{name} section {section}" for section in sections if section not in headings]


def test_references_are_recognized() -> None:
    text = "as in butler-repository.md sections 3, 4 and 12, formats.md, and quantum-graph-format.md 6.1"
    assert list(references(text)) == [
        ("butler-repository.md", ["3", "4", "12"]),
        ("formats.md", []),
        ("quantum-graph-format.md", ["6.1"]),
    ]
    assert missing("nowhere.md", []) == ["nowhere.md"]
    assert missing("quantum-graph-format.md", ["6.1", "99"]) == ["quantum-graph-format.md section 99"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_reference_dangles(folder: str) -> None:
    problems = [
        f"{path.relative_to(ROOT)}: {problem}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != pathlib.Path(__file__)
        for name, sections in references(path.read_text())
        for problem in missing(name, sections)
    ]
    assert not problems


def anchors(page: pathlib.Path) -> set[str]:
    """Return the names by which sections of a page are linked, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_link_of_a_page_dangles() -> None:
    problems = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text()):
            path = page.parent / target if target else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                problems.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert not problems
