"""What `import aggregator` offers, and how it shows itself."""

import copy
import pickle
import pydoc
from importlib import metadata

import pytest
from aggregator.butler.databases import database
from aggregator.storage import errors

import aggregator
from aggregator.aggregation import aggregation_summary


def test_everything_is_listed_and_can_be_had() -> None:
    assert set(aggregator.__all__) < set(dir(aggregator))
    assert sorted(aggregator.__all__) == aggregator.__all__
    for name in aggregator.__all__:
        assert getattr(aggregator, name).__name__ == name
    assert not [name for name in dir(aggregator) if name not in aggregator.__all__ and name[:2] != "__"]
    assert aggregator.__version__ == metadata.version("quantum-graph-aggregator")
    with pytest.raises(AttributeError, match="no attribute 'aggregate_graphs'"):
        aggregator.aggregate_graphs  # noqa: B018


def test_help_shows_functions_classes_and_fields() -> None:
    text = pydoc.plain(pydoc.render_doc(aggregator))
    for name in aggregator.__all__:
        assert name in text
    assert "Number of scanners; with 1, everything happens in the calling process." in text
    fields = pydoc.plain(pydoc.render_doc(aggregator.AggregatorConfig))
    for name in aggregator.AggregatorConfig.__dataclass_fields__:
        assert f"\n |  {name}\n |      " in fields, name


def _errors(kind: type[errors.AggregatorError]) -> list[type[errors.AggregatorError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _errors(below))]


def test_errors_have_public_names() -> None:
    public = {name for name in aggregator.__all__ if name.endswith(("Error", "Interrupted"))}
    for name in public:
        # Its module is imported when it is first asked for.
        getattr(aggregator, name)
    of_errors = {k.__name__ for k in _errors(errors.AggregatorError) if k.__module__ == "aggregator"}
    assert of_errors == public
    assert repr(aggregator.RefusedError) == "<class 'aggregator.RefusedError'>"


@pytest.mark.parametrize(
    "error",
    [
        aggregator.AggregatorError("what"),
        aggregator.FormatError("graph.qg", "header", "is cut off"),
        aggregator.MachineError("/data", "Stale file handle"),
        aggregator.Interrupted(15, at_once=True),
        aggregator.Interrupted(0, at_once=False),
        database.TransientError("deadlock"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_the_way_to_another_process(error: aggregator.AggregatorError) -> None:
    error.summary = aggregation_summary.empty(("isr",))
    error.summary.n_ingested = 3
    error.add_note("seen at noon")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)
        assert other.summary.n_ingested == 3
