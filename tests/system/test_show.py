"""The command `aggregator show` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time

import click.testing

from aggregator.command_line import main, show
from tests.unit.command_line import test_show

root, path = test_show.root, test_show.path


def test_output_survives_any_encoding_and_a_closed_pipe(path: str) -> None:
    command = [sys.executable, "-m", "aggregator", "show", path, "--failed"]
    done = subprocess.run(
        command,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert b"FAILED" in done.stdout
    with subprocess.Popen(
        [*command, "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_help_starts_fast_and_lists_all_commands() -> None:
    started = time.process_time()
    done = click.testing.CliRunner().invoke(main.main, ["--help"])
    assert time.process_time() - started < 3
    assert "show" in done.output
    assert "Tell what a provenance graph knows." in done.output
    help_text = click.testing.CliRunner().invoke(main.main, ["show", "--help"]).output
    assert all(
        option in help_text for parameter in show.show.params for option in parameter.opts if "-" in option
    )
    code = (
        "import sys\nfrom aggregator.command_line import main\n"
        "try:\n    main.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "loaded = [m for m in ('numpy', 'aggregator.command_line.show', 'sqlalchemy') if m in sys.modules]\n"
        "print(loaded, file=sys.stderr)"
    )
    done_apart = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done_apart.stderr == "[]\n"
