"""Bundles under other names and ids."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from aggregator.butler.transfers import renaming, renewal
from aggregator.schemas import bundle
from aggregator.schemas.graphs import id_masks, renewals
from aggregator.storage import errors

_RULES = ("u/(.*)=prod/\\1",)


def _id(number: int, version: int = 7) -> str:
    digits = uuid.UUID(int=number << 64 | number, version=4).hex
    return f"{digits[:12]}{version}{digits[13:]}"


@dataclasses.dataclass
class _Producer:
    rows: Sequence[bundle.Batch]

    @property
    def head(self) -> bundle.Head:
        return bundle.Head("source", {}, ())

    def batches(self) -> Iterator[bundle.Batch]:
        return iter(self.rows)


@dataclasses.dataclass
class _Destination:
    runs: dict[str, str] = dataclasses.field(default_factory=dict)

    def runs_of(self, ids: list[str]) -> Iterable[tuple[str, str]]:
        return [(each, self.runs[each]) for each in ids if each in self.runs]

    def has_datasets(self, run: str) -> bool:
        return run in self.runs.values()


def _datasets(run: str, *ids: str, **changes: Any) -> bundle.Datasets:
    rows = [bundle.Dataset(each, "flat", ("Cam", n), 5) for n, each in enumerate(ids)]
    files = [bundle.FileRecord(each, "d", f"{run}/{each}", "F", "S", None, None, 3) for each in ids]
    return bundle.Datasets(run, rows, files, **changes)


def _collections(*pairs: tuple[str, Any]) -> bundle.Collections:
    return bundle.Collections([bundle.Collection(name, kind, None) for name, kind in pairs])


class _Graphs:
    def __init__(self) -> None:
        self.written: list[renewals.Renewal] = []

    def __call__(self, graph: bundle.Graph, change: renewals.Renewal) -> str:
        self.written.append(change)
        return f"/new/{graph.run}"


def _renewed(
    batches: Sequence[bundle.Batch],
    rules: Sequence[str] = _RULES,
    destination: _Destination | None = None,
    **wishes: Any,
) -> tuple[renewal.Renewed, list[bundle.Batch], _Graphs]:
    graphs = _Graphs()
    wished = renewal.Wishes(**{"names": renaming.Renaming(rules), "renews_ids": True, **wishes})
    made = renewal.Renewed(_Producer(batches), wished, destination or _Destination(), graphs)
    first = list(made.batches())
    assert list(made.batches()) == first
    return made, first, graphs


def _new(run: str, *ids: str, rules: Sequence[str] = _RULES) -> list[str]:
    mask = id_masks.derive(run, renaming.Renaming(rules).name(run))
    return [id_masks.apply_to_digits(mask, each) for each in ids]


def test_ids_follow_their_datasets_everywhere() -> None:
    a, b, c = _id(1), _id(2), _id(3)
    members = [bundle.Association(each, "flat", ("Cam", 0), None) for each in (a, b, c)]
    graph = bundle.Graph("provenance", "u/one", "/old.qg", "d", "old.qg", c)
    batches = [
        _collections(("u/all", "CHAINED"), ("u/one", "RUN"), ("u/two", "RUN"), ("x", "TAGGED")),
        graph,
        _datasets("u/one", a, c),
        _datasets("u/two", b),
        bundle.Associations("x", members),
        bundle.Chain("u/all", ("u/one", "u/two", "elsewhere")),
    ]
    made, after, graphs = _renewed(batches)
    [new_a, new_c], [new_b] = _new("u/one", a, c), _new("u/two", b)
    assert len({a, b, c, new_a, new_b, new_c}) == 6
    kinds, new_graph, one, two, tags, chain = after
    assert isinstance(kinds, bundle.Collections)
    assert [row.name for row in kinds.rows] == ["prod/all", "prod/one", "prod/two", "x"]
    assert new_graph == bundle.Graph("provenance", "prod/one", "/new/prod/one", "d", "old.qg", new_c)
    assert isinstance(one, bundle.Datasets)
    assert isinstance(two, bundle.Datasets)
    assert (one.run, two.run) == ("prod/one", "prod/two")
    assert one.is_renamed
    assert {row.id: row.values for row in one.rows} == {new_a: ("Cam", 0), new_c: ("Cam", 1)}
    assert {file.dataset_id: file.path for file in one.files} == {new_a: f"u/one/{a}", new_c: f"u/one/{c}"}
    assert isinstance(tags, bundle.Associations)
    assert {row.dataset_id for row in tags.rows} == {new_a, new_b, new_c}
    assert chain == bundle.Chain("prod/all", ("prod/one", "prod/two", "elsewhere"))
    change, again = graphs.written
    assert change == again
    assert {run: each.destination for run, each in change.runs.items()} == {
        "u/one": "prod/one",
        "u/two": "prod/two",
    }
    assert change.chains == {"u/all": "prod/all"}
    assert made.formatters == {"F": 3}


def test_ids_made_from_data_ids_stay() -> None:
    raw = _id(5, 5)
    made, [batch], _ = _renewed([_datasets("u/raw", raw)])
    assert isinstance(batch, bundle.Datasets)
    assert batch.run == "prod/raw"
    assert [row.id for row in batch.rows] == [raw]
    assert batch.is_renamed
    assert not made.formatters


def test_what_is_there_already_stays_where_it_is() -> None:
    a, b = _id(1), _id(2)
    there = _Destination({a: "u/one", b: "elsewhere"})
    batches = [
        _collections(("u/all", "CHAINED"), ("u/one", "RUN")),
        bundle.Graph("provenance", "u/one", "/old.qg", "d", "old.qg", _id(9)),
        _datasets("u/one", a, b),
        bundle.Associations("tag", [bundle.Association(a, "flat", (), None)]),
        bundle.Chain("u/all", ("u/one",)),
    ]
    _, after, graphs = _renewed(batches, destination=there)
    kinds, _, kept, moved, tags, chain = after
    assert isinstance(kinds, bundle.Collections)
    assert [row.name for row in kinds.rows] == ["prod/all", "prod/one", "u/one"]
    assert isinstance(kept, bundle.Datasets)
    assert isinstance(moved, bundle.Datasets)
    assert (kept.run, [row.id for row in kept.rows], kept.is_renamed) == ("u/one", [a], False)
    assert (moved.run, [row.id for row in moved.rows]) == ("prod/one", _new("u/one", b))
    assert isinstance(tags, bundle.Associations)
    assert tags.rows[0].dataset_id == a
    assert chain == bundle.Chain("prod/all", ("prod/one", "u/one"))
    assert graphs.written[0].kept == {bytes.fromhex(a)}


def test_a_run_that_only_has_what_is_there_is_not_renamed() -> None:
    a = _id(1)
    batches = [_collections(("u/one", "RUN")), _datasets("u/one", a), bundle.Chain("c", ("u/one",))]
    _, after, _ = _renewed(batches, destination=_Destination({a: "u/one"}))
    assert after == batches


def test_a_graph_that_is_there_is_not_that_of_datasets_with_new_ids() -> None:
    a, graph_id = _id(1), _id(9)
    graph = bundle.Graph("provenance", "u/one", "/old.qg", "d", "old.qg", graph_id)
    batches = [graph, _datasets("u/one", a), _datasets("u/one", graph_id)]
    [new_a], [new_graph_id] = _new("u/one", a), _new("u/one", graph_id)
    _, after, _ = _renewed(batches, destination=_Destination({graph_id: "u/one"}))
    assert [b.dataset_id for b in after if isinstance(b, bundle.Graph)] == [new_graph_id]
    assert [row.id for b in after if isinstance(b, bundle.Datasets) for row in b.rows] == [
        new_a,
        new_graph_id,
    ]
    _, same, graphs = _renewed(batches, destination=_Destination({graph_id: "u/one", a: "u/one"}))
    assert same == batches
    assert not graphs.written


def test_a_run_with_its_name_is_refused_if_it_is_there_with_other_datasets() -> None:
    batches = [_datasets("run", _id(1))]
    with pytest.raises(errors.RefusedError, match="--rename"):
        _renewed(batches, destination=_Destination({_id(7): "run"}))
    _renewed(batches)
    # Begun by an earlier merge.
    [new] = _new("run", _id(1))
    _renewed(batches, destination=_Destination({new: "run"}))


def test_names_can_change_without_ids() -> None:
    batches = [_datasets("u/one", _id(1)), _datasets("x", _id(2)), bundle.Graph("provenance", "u/one", "/g")]
    made, after, graphs = _renewed(batches, renews_ids=False)
    one, other, _ = after
    assert one == _datasets("u/one", _id(1)).__class__(
        "prod/one", batches[0].rows, batches[0].files, is_renamed=True  # type: ignore[union-attr]
    )  # fmt: skip
    assert other == batches[1]
    assert graphs.written[0].runs["u/one"].mask == id_masks.NONE.hex()
    assert not made.formatters


def test_what_is_only_named_keeps_its_id() -> None:
    named = bundle.Datasets("in/raw", [bundle.Dataset(_id(1), "raw", (), 5)])
    _, [batch, moved], graphs = _renewed([named, _datasets("u/one", _id(2))])
    assert isinstance(batch, bundle.Datasets)
    assert (batch.run, batch.rows, batch.is_renamed) == (named.run, named.rows, False)
    assert isinstance(moved, bundle.Datasets)
    assert moved.run == "prod/one"
    assert not graphs.written


def test_ids_made_from_data_ids_can_join_others_of_their_run() -> None:
    a, b = _id(5, 5), _id(6, 5)
    _, after, _ = _renewed([_datasets("raws", a, b)], destination=_Destination({a: "raws"}))
    assert [row.id for batch in after if isinstance(batch, bundle.Datasets) for row in batch.rows] == [a, b]
    assert {batch.run for batch in after if isinstance(batch, bundle.Datasets)} == {"raws"}


def test_a_salt_gives_other_ids() -> None:
    ids = [
        _renewed([_datasets("u/one", _id(1))], salt=salt)[1][0].rows[0].id  # type: ignore[union-attr]
        for salt in ("", "second")
    ]
    assert len({*ids, _id(1)}) == 3


def test_collections_of_two_types_cannot_get_one_name() -> None:
    with pytest.raises(errors.RefusedError, match="both be called"):
        _renewed([_collections(("a", "RUN"), ("b", "TAGGED"))], rules=["b=a"])
