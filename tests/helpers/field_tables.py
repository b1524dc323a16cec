"""Tables of docs/outputs.md, made from the code: `python -m tests.helpers.field_tables` writes them."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

from aggregator.schemas import metrics_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "outputs.md"

_TABLE = re.compile(r"(<!-- (?:fields: (\S+) (\w+)|metrics) -->\n\n)((?:\|.*\n)*)")


def fields(path: pathlib.Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a class, and what the text after each says."""
    tree = ast.parse(path.read_text())
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    for field, text in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(text, ast.Expr), f"{name} has a field that is not described"
            yield ast.unparse(field.target), ast.literal_eval(text.value)


def _rows(match: re.Match[str]) -> Iterator[str]:
    if match[2]:
        yield "| field | what it is |\n|---|---|\n"
        for name, text in fields(ROOT / match[2], match[3]):
            yield f"| `{name}` | {_cell(text)} |\n"
    else:
        yield "| metric | further label | what it is |\n|---|---|---|\n"
        for metric in metrics_text.METRICS:
            label = f"`{metric.label}`" if metric.label else ""
            yield f"| `{metric.name}` | {label} | {_cell(metric.help)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").replace("|", r"\|")


def tables(page: str) -> str:
    """Return a page with the tables as they should be."""
    return _TABLE.sub(lambda match: match[1] + "".join(_rows(match)), page)


if __name__ == "__main__":
    PAGE.write_text(tables(PAGE.read_text()))
