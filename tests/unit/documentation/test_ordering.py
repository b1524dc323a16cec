"""Every sentence with a MUST in docs/ordering.md has a test that is marked with its name."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_each_rule_has_a_test() -> None:
    page = (ROOT / "docs" / "ordering.md").read_text()
    rules = re.findall(r"\[([A-Z]\d+)\]", page)
    assert len(rules) == len(set(rules)) > 30
    marked = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for names in re.findall(r"mark\.ordering\(([^)]*)\)", path.read_text()):
            marked.update(re.findall(r'"([A-Z]\d+)"', names))
    assert not marked - set(rules), "marks without a rule"
    assert not set(rules) - marked, "rules without a test"


def test_each_must_is_a_rule() -> None:
    page = (ROOT / "docs" / "ordering.md").read_text()
    body = page.split("## Everything that is written")[1]
    for piece in re.split(r"\[[A-Z]\d+\]", body)[:-1]:
        assert piece.count("MUST") == 1, piece
