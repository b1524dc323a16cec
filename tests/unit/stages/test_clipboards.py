"""Clipboards, queues, property sets, datasets and additional data (stages.md sections 3, 4 and 7)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from aggregator.stages import additional_data, clipboards, dataset_specifiers, property_sets, stage
from aggregator.storage import errors

from tests.unit.stages import test_paf


def test_a_clipboard_has_items_and_knows_those_that_are_shared() -> None:
    clipboard = clipboards.Clipboard()
    clipboard.put("b", 1)
    clipboard.put("a", None, shared=True)
    clipboard.put("c", 3, shared=True)
    assert clipboard.keys() == ["b", "a", "c"]
    assert clipboard.shared_keys() == ["a", "c"]
    assert clipboard.contains("a")
    assert not clipboard.contains("x")
    assert (clipboard.get("b"), clipboard.get("a", 5), clipboard.get("x"), clipboard.get("x", 5)) == (
        1,
        None,
        None,
        5,
    )
    clipboard.put("c", 4)
    assert (clipboard.get("c"), clipboard.shared_keys()) == (4, ["a"])
    clipboard.remove("a")
    clipboard.remove("a")
    assert (clipboard.keys(), clipboard.shared_keys()) == (["b", "c"], [])


def test_the_first_in_is_the_first_out_and_can_be_looked_at() -> None:
    queue, (first, second) = clipboards.Queue(), (clipboards.Clipboard(), clipboards.Clipboard())
    queue.add(first)
    queue.add(second)
    assert queue.element() is first
    assert len(queue) == 2
    assert queue.take() is first
    assert queue.take() is second
    for look in (queue.element, queue.take):
        with pytest.raises(errors.AggregatorError, match="There is no clipboard in the queue"):
            look()


def test_property_sets_have_paths() -> None:
    values = property_sets.PropertySet({"a.b": 1, "c": {"d": {"e": 2}}})
    values["a.f"] = [3]
    assert (values["a.b"], values["a"]["f"], values["c.d.e"]) == (1, [3], 2)
    assert values.as_dict() == {"a": {"b": 1, "f": [3]}, "c": {"d": {"e": 2}}}
    assert values == {"a": {"b": 1, "f": [3]}, "c": {"d": {"e": 2}}}
    assert ("a.b" in values, "a.b.c" in values, "a.x" in values, "x.y" in values) == (
        True,
        False,
        False,
        False,
    )
    assert list(values) == ["a", "c"]
    copy = values.copy()
    copy["a.b"] = 9
    del copy["c.d"]
    assert (values["a.b"], values["c.d.e"], copy.as_dict()) == (1, 2, {"a": {"b": 9, "f": [3]}, "c": {}})
    with pytest.raises(KeyError):
        values["a.b.c"] = 1
    assert pickle.loads(pickle.dumps(values)) == values


def test_datasets_are_equal_by_type_and_ids() -> None:
    dataset = dataset_specifiers.Dataset("postISR", {"visit": 7, "ccd": 3, "amp": 1, "field": "deep"})
    assert str(dataset) == "postISR-amp1-ccd3-fielddeep-visit7"
    other = dataset_specifiers.Dataset("postISR", dict(reversed(dataset.ids.items())), path="x", valid=False)
    assert dataset == other
    assert hash(dataset) == hash(other)
    assert dataset != dataset_specifiers.Dataset("raw", dataset.ids)
    assert dataset != dataset_specifiers.Dataset("postISR", {"visit": 7})
    assert str(dataset_specifiers.Dataset("packages")) == "packages"


class Unlike:
    """Neither mapping nor property set."""


def board() -> clipboards.Clipboard:
    clipboard = clipboards.Clipboard()
    clipboard.put("root", "raw")
    clipboard.put("nothing", None)
    clipboard.put("event", property_sets.PropertySet({"a.b": 1}))
    clipboard.put("dict", {"a.b": 2, "c": {"d": 3}})
    clipboard.put("object", Unlike())
    return clipboard


def collected(*pairs: str) -> property_sets.PropertySet:
    values = " ".join(f'"{pair}"' for pair in pairs)
    policy = test_paf.parsed(f"parameters: {{\n additionalData: {values}\n}}")
    surroundings = stage.Surroundings(rank=3, universe_size=5, run_id="r1")
    return additional_data.collect(policy, board(), stage.Processing(policy, surroundings).predefined())


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("x=root", "x", "raw"),
        ("x=event.a.b", "x", 1),
        ("x=dict.a.b", "x", 2),
        ("x=dict.c", "x", {"d": 3}),
        ("runId=root", "runId", "r1"),
        ("sliceId=root", "sliceId", 3),
        ("universeSize=root", "universeSize", 5),
    ],
)
def test_pairs_are_looked_up_and_what_is_predefined_wins(pair: str, key: str, value: Any) -> None:
    assert collected(pair)[key] == value


def test_what_is_predefined_is_always_there() -> None:
    policy = test_paf.parsed("")
    predefined = stage.Processing(policy, stage.Surroundings()).predefined()
    data = additional_data.collect(policy, board(), predefined)
    assert data == {"runId": "user-driven", "sliceId": -1, "universeSize": 1}


def test_the_later_of_two_pairs_wins() -> None:
    assert collected("x=root", "x=event.a.b")["x"] == 1


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("x=absent", "expected data not found on clipboard: absent."),
        ("x=nothing", "expected data not found on clipboard: nothing."),
        ("x=absent.y", "expected data not found on clipboard: absent."),
        ("x=object.y", "object is a Unlike, in which there is no y; it has to be a mapping."),
        ("x=root.y", "root is a str, in which there is no y; it has to be a mapping."),
        ("x=dict.y", "there is no y in dict."),
        ("x=event.a.y", "there is no a.y in event."),
        ("x", "'x' has to be 'key=item' or 'key=item.rest'."),
        ("x=root=y", "'x=root=y' has to be"),
        ("=root", "'=root' has to be"),
    ],
)
def test_what_is_not_there_is_an_error_with_its_line(pair: str, message: str) -> None:
    with pytest.raises(errors.RefusedError) as refusal:
        collected(pair)
    assert str(refusal.value).startswith("a.paf:2: parameters.additionalData: ")
    assert message in str(refusal.value)


def test_a_part_of_a_stage_knows_where_it_is() -> None:
    class Part(stage.SerialProcessing):
        def setup(self) -> None:
            self.seen = (self.rank, self.universe_size, self.run_id, self.name, self.stage_id, self.policy)

    policy = test_paf.parsed("a: 1")
    made = stage.Stage(policy, serial_class=Part, name="measure")
    part = made.serial(stage.Surroundings(stage_id=2))
    assert isinstance(part, Part)
    assert part.seen == (-1, 1, "user-driven", "measure", 2, policy)
    clipboard = board()
    keys = clipboard.keys()
    part.preprocess(clipboard)
    made.parallel(stage.Surroundings(rank=0)).process(clipboard)
    part.postprocess(clipboard)
    assert clipboard.keys() == keys
