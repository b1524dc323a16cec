"""How the package is imported: by itself, beside files of the same names, and by type checkers."""

import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]

_SCRIPT = """
    import aggregator
    import schemas, workers, butler, storage  # the user's own

    run = aggregator.synthesize(
        "run", aggregator.SynthesisParameters(quanta=600, log_size=500, metadata_size=500), n_processes=2
    )
    config = aggregator.AggregatorConfig(output_path="out.qg", n_processes=2)
    done = aggregator.aggregate_graph(run.predicted, run.root, config)
    print(done.n_counted, len(done.peaks), aggregator.ingest_graph("run", "out.qg").n_failed, schemas.NAME)
"""


def _run(script: str, directory: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "script.py").write_text(textwrap.dedent(script))
    return subprocess.run(
        [sys.executable, *options, "script.py"], cwd=directory, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_files_beside_the_script_are_not_taken_for_parts_of_the_package(
    tmp_path: pathlib.Path, kind: str
) -> None:
    """As nearly every web service has them; spawned processes must not see them either."""
    for name in ("schemas", "workers", "butler", "storage"):
        place = tmp_path / f"{name}.py"
        if kind == "folders":
            place = tmp_path / name / "__init__.py"
            place.parent.mkdir()
        place.write_text('NAME = "mine"\n')
    done = _run(_SCRIPT, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "600 5 0 mine"


def test_import_takes_no_time_until_something_is_used(tmp_path: pathlib.Path) -> None:
    script = """
        import sys
        before = set(sys.modules)
        import aggregator
        dir(aggregator)
        loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(loaded - set(sys.stdlib_module_names)))
        import time
        aggregator.RefusedError
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"numpy", "sqlalchemy", "msgspec", "click", "rich", "pyarrow", "pandas"}))
    """
    # Not beside this project's folders, whose finder other packages may share.
    done = _run(script, tmp_path)
    assert done.stdout.splitlines() == ["['aggregator']", "[]"], done.stderr


_TYPED = """
    import pathlib
    import aggregator
    from aggregator import AggregatorConfig, Cancellation, Provenance, ProgressUpdate, Status

    def show(update: ProgressUpdate) -> None:
        reveal_type(update.done)

    config = AggregatorConfig(output_path=pathlib.Path("out.qg"), n_processes=2)
    try:
        summary = aggregator.aggregate_graph(
            "a.qg", pathlib.Path("repo"), config, on_progress=show, cancellation=Cancellation()
        )
    except aggregator.Interrupted as error:
        if isinstance(error.summary, aggregator.Summary):
            reveal_type(error.summary.n_ingested)
        raise
    reveal_type(summary)
    with Provenance("out.qg") as provenance:
        for quantum in provenance.quanta("isr", status=[Status.FAILED]):
            reveal_type(quantum.status)
        for failure in provenance.failures():
            reveal_type(failure.cause)
    reveal_type(aggregator.__version__)
    aggregator.aggregate_graphs
    AggregatorConfig(n_processes="2")
"""


def test_a_user_s_script_is_checked_with_the_types_of_the_package(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mypy")
    # Put together as the package is installed; an editable installation is beyond mypy.
    package = tmp_path / "site" / "aggregator"
    shutil.copytree(ROOT / "aggregator", package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    for part in ("butler", "schemas", "storage", "workers"):
        shutil.copytree(ROOT / part, package / part, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_TYPED))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "script.py"]
    environment = {"MYPYPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    assert [text.replace("builtins.", "").replace("typing.", "") for text in revealed] == [
        "Mapping[str, int]",
        "int",
        "aggregator.aggregation.aggregation_summary.Summary",
        "aggregator.schemas.execution.statuses.Status",
        "aggregator.schemas.graphs.nodes.Quantum | None",
        "str",
    ], done.stdout
    wrong = [line for line in lines if line.startswith("error")]
    assert len(wrong) == 2, done.stdout
    assert 'Module has no attribute "aggregate_graphs"' in wrong[0]
    assert 'incompatible type "str"; expected "int"' in wrong[1]
