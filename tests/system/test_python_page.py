"""The examples of docs/python.md, run one after the other as they stand there."""

import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_work(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("pandas")
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 6
    script = tmp_path / "page.py"
    script.write_text("\n".join(examples))
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for expected in (
        "n_processes must be an integer, not '4'",
        "cancelled; what was done is kept. Make the same call to go on. 300",
        "writing the graph: scanned 300 of 300",
        "<Quantum ",
        "files deleted",
        "(300 quanta)",
    ):
        assert expected in done.stdout
    assert (tmp_path / "again.qg").exists()
