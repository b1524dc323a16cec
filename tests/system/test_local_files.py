"""A directory that refuses access."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile


def test_a_directory_that_refuses_access_is_no_fact(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "closed" / "file.json"
    path.parent.mkdir()
    path.write_bytes(b"{}")
    script = (
        "import os, sys\nfrom aggregator.storage import local_files, errors\nos.setuid(65534)\n"
        "try: local_files.read(sys.argv[1])\n"
        "except (errors.MachineError, local_files.UnusableError) as exc: print(type(exc).__name__)\n"
    )
    for directory in (tmp_path, *tmp_path.parents):
        if pathlib.Path(tempfile.gettempdir()) in directory.parents:
            directory.chmod(0o755)
    for mode, file_mode, expected in ((0o755, 0, "UnusableError"), (0o600, 0o644, "MachineError")):
        path.chmod(file_mode)
        path.parent.chmod(mode)
        found = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=pathlib.Path.cwd()
        )
        assert found.stdout.strip() == expected, found.stderr
    path.parent.chmod(0o755)
