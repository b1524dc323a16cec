"""What README and tutorial show is what the commands print, run one after the other as they stand there."""

from __future__ import annotations

import doctest
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers import postgresql_server

ROOT = pathlib.Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page, and what it shall print; programs in Python may print anything."""
    for kind, block in _BLOCK.findall(page):
        if kind == "python":
            yield f"{sys.executable} - <<'END'\n{block}\nEND", "...\n"
            continue
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines(keepends=True)
            n = 1 + next(i for i, line in enumerate(lines) if not line.endswith("\\\n"))
            yield "".join(lines[:n]), "".join(lines[n:])


def run_script(commands: list[str], directory: pathlib.Path) -> list[str]:
    """Run commands in one shell; return what each prints."""
    mark = "-- end of a step --"
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-s"], input="".join(f"{command}\necho '{mark}'\n" for command in commands), cwd=directory,
        env={**os.environ, "PATH": path, "COLUMNS": "100"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    printed = done.stdout.split(f"{mark}\n")
    assert len(printed) == len(commands) + 1, done.stdout
    return printed[:-1]


def run_page(page: str, directory: pathlib.Path) -> list[str]:
    """Run the commands of a page; return what is not as it says."""
    expected = list(steps(page))
    printed = run_script([command for command, _ in expected], directory)
    check = doctest.OutputChecker().check_output
    return [
        f"{command}\nshall print\n{text}\nand prints\n{output}"
        for (command, text), output in zip(expected, printed, strict=True)
        if not check(text, output, doctest.ELLIPSIS)
    ]


def test_a_step_that_prints_something_else_is_noticed(tmp_path: pathlib.Path) -> None:
    page = "```console\n$ echo one\n...\n$ echo two \\\n  three\ntwo 3\n```\n```python\nprint(1)\n```\n"
    [problem] = run_page(page, tmp_path)
    assert problem == "echo two \\\n  three\n\nshall print\ntwo 3\n\nand prints\ntwo three\n"


@pytest.mark.timeout(600)
def test_tutorial(tmp_path: pathlib.Path) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    assert len(list(steps(page))) > 15
    assert not run_page(page, tmp_path)
    assert (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, list[str]]:
    """Return a directory in which the commands of docs/example.md were run, and what was not as it says."""
    directory = tmp_path_factory.mktemp("survey")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SURVEY", str(ROOT / "example"))
        return directory, run_page((ROOT / "docs" / "example.md").read_text(), directory)


@pytest.mark.timeout(600)
def test_survey(survey: tuple[pathlib.Path, list[str]]) -> None:
    """A pipeline of its own: built, executed, killed, mended, aggregated; and one that a policy makes."""
    assert not survey[1]


@pytest.mark.timeout(600)
def test_export(
    survey: tuple[pathlib.Path, list[str]],
    postgresql: postgresql_server.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images go out as files, numbers into PostgreSQL, and images come back."""
    pytest.importorskip("astropy")
    page = (ROOT / "docs" / "how-to" / "export-products.md").read_text()
    for name in ("export.yaml", "import.yaml"):
        assert f"```yaml\n{(ROOT / 'example' / name).read_text()}```\n" in page
    postgresql.execute("postgres", "CREATE DATABASE quality")
    monkeypatch.setenv("SURVEY", str(ROOT / "example"))
    here = [str(ROOT / "example"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(here))
    monkeypatch.setenv("PATH", f"{postgresql_server.installation() / 'bin'}:{os.environ['PATH']}")
    for name, value in (
        ("PGHOST", postgresql.directory),
        ("PGPORT", postgresql.port),
        ("PGUSER", postgresql_server.OWNER),
    ):
        monkeypatch.setenv(name, str(value))
    try:
        assert not run_page(page, survey[0])
    finally:
        postgresql.drop_database("quality")
    files = sorted(str(path.relative_to(survey[0])) for path in (survey[0] / "products").rglob("*.*"))
    assert len(files) == 12
    assert files[0] == "products/Camera/1/00001.fits"
    assert len(list((survey[0] / "repo" / "u" / "back").rglob("*.pickle"))) == 12


@pytest.mark.timeout(600)
def test_hosts_that_share_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURVEY", str(ROOT / "example"))
    page = ROOT / "docs" / "how-to" / "work-on-hosts-that-share-nothing.md"
    assert not run_page(page.read_text(), tmp_path)


@pytest.mark.timeout(600)
def test_merges(tmp_path: pathlib.Path) -> None:
    page = ROOT / "docs" / "how-to" / "merge-repositories.md"
    assert not run_page(page.read_text(), tmp_path)


@pytest.mark.timeout(600)
def test_readme_works_with_the_demo(tmp_path: pathlib.Path) -> None:
    """Each of its commands succeeds, with a smaller run; what they print is not shown there."""
    [recipe] = re.findall(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    demo = re.findall(r"\$\(BIN\)/(aggregator (?:synthesize|aggregate-graph) .*)", recipe)
    assert len(demo) == 2
    prelude = "".join(f"$ {command}\n" for command in demo).replace("--quanta 3000", "--quanta 1200")
    page = f"```console\n{prelude}```\n" + (ROOT / "README.md").read_text()
    commands = [command for command, _ in steps(page)]
    assert len(commands) == 8
    printed = run_script([f"{command}\n[[ $? = 0 ]] || echo FAILED" for command in commands], tmp_path)
    assert not [output for output in printed if "FAILED" in output.splitlines()]
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(0, 0, False), (2, 0, False), (1, 0, True), (143, 2, True), (143, 3, False)],
)
def test_slurm_script(code: int, restarts: int, again: bool, tmp_path: pathlib.Path) -> None:
    """Slurm itself is not here: `srun` and `scontrol` print their arguments."""
    page = (ROOT / "docs" / "how-to" / "run-in-a-batch-system.md").read_text()
    scripts = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    [script] = [script for script in scripts if "srun" in script]
    for name, status in (("srun", code), ("scontrol", 0)):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@"\nexit {status}\n')
        stub.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "16", "SLURM_JOB_ID": "7",
        "SLURM_RESTART_COUNT": str(restarts),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-s", "p.qg", "repo", "o.qg"], input=script, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    lines = done.stdout.splitlines()
    assert lines[0] == "srun aggregator aggregate-graph p.qg repo -o o.qg -j 16"
    assert lines[1:] == (["scontrol requeue 7"] if again else [])


def test_recipes_of_transfers(tmp_path: pathlib.Path) -> None:
    """With a small run in place of the demonstration."""
    make = "aggregator synthesize demo --quanta 300 --small-files --seed 3"
    aggregate = "aggregator aggregate-graph demo/predicted.qg demo -o demo/provenance.qg"
    run_script([make, aggregate], tmp_path)
    assert not run_page((ROOT / "docs" / "how-to" / "give-a-part-away.md").read_text(), tmp_path)
