"""What a run needs to be registered before its datasets can be ingested."""

import contextlib

from aggregator.butler.registry import registry
from aggregator.schemas.graphs import pipeline
from aggregator.storage import errors


def register(
    target: registry.Registry,
    header: pipeline.Header,
    source: pipeline.Pipeline,
    *,
    dataset_types: bool,
    output_chain: bool,
) -> None:
    """Register dataset types and collections; all of it can be repeated.

    Parameters
    ----------
    target
        The repository's database, open for writing.
    header
        Names the run, the chain and the inputs.
    source
        Has the dataset types.
    dataset_types
        Whether dataset types are registered; otherwise they have to be.
    output_chain
        Whether the chain is made to begin with the run.

    Raises
    ------
    RefusedError
        If one can't be registered; nothing has been changed.
    AggregatorError
        If something fails later.
    """
    with contextlib.ExitStack() as begun:
        if dataset_types:
            target.dataset_types.register_all(
                [
                    target.dataset_types.definition(t.name, t.storage_class, t.dimensions, t.is_calibration)
                    for t in source.dataset_types
                    if t.is_produced
                ]
            )
            begun.enter_context(errors.after_changes())
        target.collections.register_run(header.output_run)
        begun.enter_context(errors.after_changes())
        if output_chain and header.output is not None:
            target.collections.update_output_chain(header.output, header.output_run, header.inputs)
