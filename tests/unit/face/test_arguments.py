"""Arguments of all entry points: any kind of path is taken, other types are refused by name."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from aggregator.schemas import argument_types

import aggregator
from tests.helpers import small_runs

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: aggregator.AggregatorConfig(n_processes="4"), "n_processes must be an integer, not '4'"),  # type: ignore[arg-type]
    (lambda: aggregator.AggregatorConfig(n_processes=True), "n_processes must be an integer, not True"),
    (lambda: aggregator.AggregatorConfig(dry_run=1), "dry_run must be True or False, not 1"),  # type: ignore[arg-type]
    (lambda: aggregator.AggregatorConfig(scan_timeout="9"), "scan_timeout must be a number or None, not '9'"),  # type: ignore[arg-type]
    (lambda: aggregator.AggregatorConfig(unreadable=None), "unreadable must be text, not None"),  # type: ignore[arg-type]
    (
        lambda: aggregator.AggregatorConfig(output_path=b"out.qg"),  # type: ignore[arg-type]
        "output_path must be a path (text, or an object like pathlib.Path) or None, not b'out.qg'",
    ),
    (
        lambda: aggregator.AggregatorConfig(output_path=[0] * 99),  # type: ignore[arg-type]
        "output_path must be a path (text, or an object like pathlib.Path) or None, not "
        "an object of type list",
    ),
    (lambda: aggregator.SynthesisParameters(quanta=60.0), "quanta must be an integer, not 60.0"),  # type: ignore[arg-type]
    (
        lambda: aggregator.aggregate_graph(1, "repo"),  # type: ignore[arg-type]
        "predicted_path must be a path (text, or an object like pathlib.Path), not 1",
    ),
    (
        lambda: aggregator.aggregate_graph("g.qg", "repo", {"n_processes": 2}),  # type: ignore[arg-type]
        "config must be AggregatorConfig or None, not {'n_processes': 2}",
    ),
    (
        lambda: aggregator.aggregate_graph("g.qg", "repo", on_progress="bar"),  # type: ignore[arg-type]
        "on_progress must be a function or None, not 'bar'",
    ),
    (
        lambda: aggregator.ingest_graph("repo", "g.qg", verify="no"),  # type: ignore[arg-type]
        "verify must be True or False, not 'no'",
    ),
    (
        lambda: aggregator.synthesize("out", 100),  # type: ignore[arg-type]
        "options must be SynthesisParameters, not 100",
    ),
    (
        lambda: aggregator.synthesize("out", aggregator.SynthesisParameters(quanta=60), n_processes=0),
        "n_processes must be an integer of 1 or more, at most 2,147,483,647, not 0",
    ),
    (
        lambda: aggregator.create_repository("out", dimension_config="dimensions.yaml"),  # type: ignore[arg-type]
        "dimension_config must be Mapping or None, not 'dimensions.yaml'",
    ),
    (
        lambda: aggregator.Provenance("provenance.qg", run=3),  # type: ignore[arg-type]
        "run must be text or None, not 3",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_wrong_types_are_refused_by_name(
    call: Callable[[], Any], message: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(aggregator.RefusedError) as caught:
        call()
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"out.qg"


def test_paths_of_bytes_are_refused() -> None:
    with pytest.raises(aggregator.RefusedError, match="output_path must be a path"):
        aggregator.AggregatorConfig(output_path=_BytesPath())  # type: ignore[arg-type]


def test_right_types_pass() -> None:
    def function(path: pathlib.Path | None, share: float, unseen: "Unknown") -> None:  # type: ignore[name-defined] # noqa: F821
        """Have annotations."""

    argument_types.check(function, {"path": pathlib.Path("x"), "share": 1, "unseen": object(), "local": 2})
    argument_types.check(function, {"path": None, "share": 0.5})


def test_every_path_can_be_a_path_object(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run"
    made = aggregator.synthesize(root, aggregator.SynthesisParameters(quanta=60, **small_runs.CLEAN))
    assert made.root == str(root)
    config = aggregator.AggregatorConfig(
        output_path=tmp_path / "out.qg",
        checkpoint_dir=tmp_path / "checkpoint",
        worker_log_dir=tmp_path / "logs",
        worker_profile_dir=tmp_path / "profiles",
        keep_checkpoint=True,
    )
    done = aggregator.aggregate_graph(root / "predicted.qg", root, config)
    assert done.graph_path == str(tmp_path / "out.qg")
    assert (tmp_path / "checkpoint" / "ledger").exists() or list((tmp_path / "checkpoint").iterdir())
    assert (tmp_path / "logs" / "scanner-000.log").exists()
    assert aggregator.ingest_graph(root, tmp_path / "out.qg").n_deleted > 0
    with aggregator.Provenance(root) as provenance:
        assert provenance.header.n_quanta == 60
