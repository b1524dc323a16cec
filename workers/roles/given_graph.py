"""The predicted graph of a run, which each worker opens for itself."""

from aggregator.schemas import messages
from aggregator.schemas.graphs import predicted
from aggregator.storage import errors


def open_graph(setup: messages.Setup) -> predicted.PredictedGraph:
    """Return the predicted graph, open, as long as it is the one that the coordinator has read.

    Parameters
    ----------
    setup
        Names it.

    Raises
    ------
    AggregatorError
        If another graph is in its place now: nothing of that belongs to this run.
    """
    graph = predicted.PredictedGraph(setup.graph_path)
    if graph.fingerprint != setup.graph_fingerprint:
        graph.close()
        raise errors.AggregatorError(
            f"{setup.graph_path}: was replaced by another graph after the run had begun. Put back the one "
            "that was executed, or give --fresh to begin with the other one."
        )
    return graph
