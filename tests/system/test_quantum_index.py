"""A look-up starts fast."""

from __future__ import annotations

import pathlib
import subprocess
import sys

from tests.unit.schemas import test_quantum_index

root = test_quantum_index.root


def test_nothing_large_is_imported_for_a_look_up(root: pathlib.Path) -> None:
    code = (
        "import sys, aggregator\n"
        f"aggregator.Provenance({str(root / 'provenance.qg')!r}).counts()\n"
        "print([m for m in ('sqlalchemy', 'rich', 'multiprocess', 'lsst') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
