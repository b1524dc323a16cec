"""Completion by shells: commands, options, choices and paths, without importing what is large."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(sys.executable).with_name("aggregator")


def ask(shell: str, *words: str) -> list[str]:
    """Return what click offers a shell for the last one of some words."""
    environment = {
        "COMP_WORDS": " ".join(["aggregator", *words]),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
        "_AGGREGATOR_COMPLETE": f"{shell}_complete",
    }
    done = subprocess.run([PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


def test_bash_completes_a_command() -> None:
    """With the script that is made for it, as the shell calls it."""
    environment = os.environ | {"_AGGREGATOR_COMPLETE": "bash_source"}
    script = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, check=True).stdout
    call = (
        f'PATH="{PROGRAM.parent}:$PATH"\n{script}\nCOMP_WORDS=(aggregator ingest); COMP_CWORD=1\n'
        '_aggregator_completion aggregator; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ingest-graph"]


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["stat"], ["plain", "status", "Tell how far an aggregation is."]),
        (["aggregate-graph", "--unreadable", "f"], ["plain", "failed", "_"]),
        (["aggregate-graph", "a.qg", "rep"], ["file", "rep", "_"]),
        (["status", "--f"], ["plain", "--format", "Text for people, or a JSON document."]),
    ],
)
def test_zsh_completes(words: list[str], offers: list[str]) -> None:
    assert ask("zsh", *words) == offers


def test_fish_completes() -> None:
    [offer] = ask("fish", "aggregate-graph", "--summary")
    assert offer.startswith("plain,--summary-json\tWrite what was done")


@pytest.mark.parametrize("words", ["aggregator s", "aggregator ingest-graph --", "aggregator synthesize --"])
def test_completion_imports_little(words: str) -> None:
    code = (
        "import sys\nfrom aggregator.command_line import main\n"
        "try:\n    main.main([], prog_name='aggregator')\n"
        "except SystemExit:\n    pass\n"
        "large = ('numpy', 'sqlalchemy', 'yaml', 'aggregator.command_line.show')\n"
        "print([name for name in large if name in sys.modules], file=sys.stderr)"
    )
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment | {"_AGGREGATOR_COMPLETE": "bash_complete"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("\n") > 1
    assert done.stderr == "[]\n"
