import itertools
import random
import time
import tracemalloc

import numpy as np
import pytest
from aggregator.schemas import verdicts
from aggregator.schemas.checkpoints import digest
from aggregator.schemas.execution import statuses
from aggregator.schemas.graphs import addresses
from aggregator.storage import errors
from hypothesis import given
from hypothesis import strategies as st

from aggregator.aggregation import judgement as judging
from aggregator.aggregation import shards

STATUSES = [statuses.SUCCESSFUL, statuses.ABORTED_SUCCESS, statuses.FAILED, digest.UNREADABLE]
Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn, max_size: int = 25) -> tuple[int, Edges]:
    """Return the number of quanta and edges, each from a quantum to a later one."""
    n = draw(st.integers(0, max_size))
    if n < 2:
        return n, []
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda pair: pair[0] != pair[1])
    return n, [(min(pair), max(pair)) for pair in draw(st.lists(pairs, max_size=3 * n))]


def as_array(edges: Edges) -> np.ndarray:
    return np.array(edges, dtype=np.int32).reshape(-1, 2)


def naive(n: int, edges: Edges, found: list[int], incomplete: bool) -> list[int]:
    """Judge one quantum after the other."""
    result: list[int] = []
    for i in range(n):
        producers = {a for a, b in edges if b == i}
        failed = {p for p in producers if result[p] == verdicts.ACCEPTED and found[p] == statuses.FAILED}
        unsure = found[i] == digest.UNREADABLE or (incomplete and found[i] == statuses.FAILED)
        if failed or any(result[p] == verdicts.BLOCKED for p in producers):
            result.append(verdicts.BLOCKED)
        elif unsure or any(result[p] == verdicts.HELD for p in producers):
            result.append(verdicts.HELD)
        else:
            result.append(verdicts.ACCEPTED)
    return result


def judge(n: int, edges: Edges, found: list[int], size: int, incomplete: bool) -> list[int]:
    """Judge shard by shard."""
    judged = judging.Judge(*shards.by_consumer([as_array(edges)], n), incomplete)
    result: list[int] = []
    for begin in range(0, n, size):
        result += judged.judge(begin, np.array(found[begin : begin + size], dtype=np.int8)).tolist()
    return result


@given(graphs(), st.integers(1, 30), st.booleans(), st.data())
def test_verdicts_are_those_of_plain_reasoning(
    graph: tuple[int, Edges], size: int, incomplete: bool, data: st.DataObject
) -> None:
    n, edges = graph
    found = data.draw(st.lists(st.sampled_from(STATUSES), min_size=n, max_size=n))
    assert judge(n, edges, found, size, incomplete) == naive(n, edges, found, incomplete)


@given(graphs(), st.integers(1, 30), st.booleans(), st.data())
def test_nothing_below_trouble_is_accepted(
    graph: tuple[int, Edges], size: int, incomplete: bool, data: st.DataObject
) -> None:
    n, edges = graph
    found = data.draw(st.lists(st.sampled_from(STATUSES), min_size=n, max_size=n))
    result = judge(n, edges, found, size, incomplete)
    ancestors: list[set[int]] = []
    for i in range(n):
        producers = {a for a, b in edges if b == i}
        ancestors.append(producers.union(*(ancestors[p] for p in producers)))
        above = {found[a] for a in ancestors[i]}
        bad = {statuses.FAILED, digest.UNREADABLE}
        assert (result[i] == verdicts.ACCEPTED) == (
            not above & bad
            and found[i] != digest.UNREADABLE
            and not (incomplete and found[i] == statuses.FAILED)
        )
        if statuses.FAILED in above and digest.UNREADABLE not in above:
            assert result[i] == (verdicts.HELD if incomplete else verdicts.BLOCKED)
        if digest.UNREADABLE in above and statuses.FAILED not in above:
            assert result[i] == verdicts.HELD
        if incomplete:
            assert result[i] != verdicts.BLOCKED


def test_a_long_chain_in_one_shard_is_judged_in_reasonable_time() -> None:
    n = 20_000
    edges = [(i, i + 1) for i in range(n - 1)]
    begin = time.process_time()
    result = judge(n, edges, [statuses.FAILED, *[statuses.SUCCESSFUL] * (n - 1)], n, False)
    assert time.process_time() - begin < 20
    assert result == [verdicts.ACCEPTED, *[verdicts.BLOCKED] * (n - 1)]


def table(ids: list[int], places: list[int]) -> addresses.AddressTable:
    """Return an address table of blocks of 10 bytes, given the ids and their order in the file."""
    keys = np.frombuffer(b"".join(i.to_bytes(16, "big") for i in ids), dtype=addresses.ID_TYPE)
    offsets = np.array(places, dtype=np.int64).reshape(-1, 1) * 10
    return addresses.AddressTable(8, keys, np.arange(len(ids)), offsets, np.full_like(offsets, 10))


@given(graphs(), st.integers(1, 9), st.randoms(use_true_random=False))
def test_division_respects_edges_whatever_the_order_of_the_file(
    graph: tuple[int, Edges], size: int, chance: random.Random
) -> None:
    n, edges = graph
    # Where each quantum lies in the file, and which row it is in the table: anything.
    places, rows = list(range(n)), list(range(n))
    chance.shuffle(places)
    chance.shuffle(rows)
    by_row = [places[rows.index(row)] for row in range(n)]
    in_rows = [(rows[a], rows[b]) for a, b in edges]
    found = table(list(range(256, 256 + n)), by_row)
    division = shards.divide(found, [as_array(in_rows)], size)
    assert sorted(int.from_bytes(addresses.id_at(division.ids, i), "big") for i in range(n)) == list(
        range(256, 256 + n)
    )
    position = {int.from_bytes(addresses.id_at(division.ids, i), "big") - 256: i for i in range(n)}
    told = division.edges(0, len(edges))
    assert sorted(told.tolist()) == sorted([position[a], position[b]] for a, b in in_rows)
    assert (told[:, 0] < told[:, 1]).all()
    assert (told[:-1, 1] <= told[1:, 1]).all()
    for row, place in enumerate(by_row):
        assert division.offsets[position[row]] == 10 * place
    # Each quantum is in one shard.
    assert division.n_shards == 1 + -(-n // size)
    requests = [division.request(shard) for shard in range(division.n_shards)]
    assert (requests[0].ids, requests[0].offsets, requests[0].sizes) == (b"", b"", b"")
    assert b"".join(r.ids for r in requests) == division.ids.tobytes()
    assert b"".join(r.offsets for r in requests) == division.offsets.tobytes()
    assert b"".join(r.sizes for r in requests) == division.sizes.tobytes()
    assert [r.shard for r in requests] == list(range(division.n_shards))
    assert all(len(r.ids) == 16 * size for r in requests[1:-1])


@given(graphs(), st.integers(1, 9))
def test_a_file_that_is_in_order_stays_so(graph: tuple[int, Edges], size: int) -> None:
    n, edges = graph
    division = shards.divide(table(list(range(n)), list(range(n))), [as_array(edges)], size)
    assert division.offsets.tolist() == [10 * i for i in range(n)]


@given(graphs(), st.integers(1, 9))
def test_consumers_are_those_that_the_edges_name(graph: tuple[int, Edges], size: int) -> None:
    n, edges = graph
    division = shards.divide(table(list(range(n)), list(range(n))), [as_array(edges)], size)
    pairs = {(a // size + 1, b // size + 1) for a, b in edges}
    consumers, n_shards = division.consumers(), division.n_shards
    for shard in range(n_shards):
        expected = range(n_shards) if shard == 0 else sorted({shard, *(b for a, b in pairs if a == shard)})
        ranges = consumers.of(shard).tolist()
        assert [s for first, end in ranges for s in range(first, end)] == list(expected)
        assert all(end < first for (_, end), (first, _) in itertools.pairwise(ranges))
        assert consumers.last()[shard] == expected[-1]


def test_consumers_of_many_shards_take_little_memory() -> None:
    n = 40_000
    edges = as_array([*itertools.pairwise(range(n)), *((i, n - 1) for i in range(n - 1))])
    division = shards.divide(table(list(range(n)), list(range(n))), [edges], 1)
    tracemalloc.start()
    consumers = division.consumers()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert consumers.of(7).tolist() == [[7, 9], [n, n + 1]]
    assert peak < 20_000_000


def test_long_chains_are_sorted_in_reasonable_time() -> None:
    n = 100_000
    backwards = table(list(range(n)), list(range(n - 1, -1, -1)))
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1).astype(np.int32)
    begin = time.process_time()
    division = shards.divide(backwards, [edges])
    assert time.process_time() - begin < 20
    told = division.edges(0, n)
    assert (told[:, 0] + 1 == told[:, 1]).all()


@pytest.mark.parametrize("cycle", [[0], [0, 1], [3, 1, 4], [0, 5, 2, 1, 3, 4]])
def test_a_cycle_is_refused(cycle: list[int]) -> None:
    edges = list(itertools.pairwise([*cycle, cycle[0]]))
    with pytest.raises(errors.AggregatorError, match="cycle"):
        shards.divide(table(list(range(7)), list(range(7))), [as_array([*edges, (5, 6)])], 3)


def test_shards_are_neither_many_nor_large() -> None:
    sizes = []
    for n in (0, 1, 50, 5_000, 100_000, 1_000_000):
        zeros = np.zeros((n, 1), dtype=np.int64)
        found = addresses.AddressTable(8, np.zeros(n, dtype=addresses.ID_TYPE), zeros[:, 0], zeros, zeros)
        sizes.append(shards.divide(found, []).size)
    assert sizes == [50, 50, 50, 113, 1000, 1000]
