"""Identities of jobs: the data IDs for which a policy is carried out, one job each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aggregator.butler import dataset_refs
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import data_id_joins, registry
from aggregator.execution.graph_building import data_id_search, graph_nodes
from aggregator.stages import mappers, policy_items
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import errors

Identity = dataset_refs.DataId
"""Values of all dimensions, those that follow from others too."""


def find(
    repository: repository_config.RepositoryConfig,
    inputs: policy_module.Policy,
    outputs: policy_module.Policy,
    where: str,
) -> list[Identity]:
    """Return the identities of all jobs, in order.

    Their dimensions are the keys of all datasets of the items. Each has the input datasets that are required,
    if these are read from the repository.

    Parameters
    ----------
    repository
        The repository; only read.
    inputs, outputs
        The policies of input and output items.
    where
        Expression that the data IDs have to fulfil.

    Raises
    ------
    RefusedError
        If no item has a key, a dataset type or collection does not exist, or the expression does not fit.
    """
    keys = {
        name
        for policy in (inputs, outputs)
        for name in mappers.dimensions(policy, policy_items.job_keys(policy)).values()
    }
    if not keys:
        raise errors.RefusedError(
            f"{inputs.origin}: no item has a key (datasetId.fromJobIdentity), so nothing tells for which "
            "data IDs there is something to do."
        )
    with registry.open_repository(repository, writeable=False) as source:
        if strange := sorted(key for key in keys if key not in source.universe.dimensions):
            raise errors.RefusedError(
                f"{inputs.origin}: key {strange[0]!r} (datasetId.fromJobIdentity) is no dimension of "
                f"{repository.path}; there are {', '.join(sorted(source.universe.dimensions))}."
            )
        group = source.universe.group(keys)
        query = data_id_search.data_query(where, {}, None, source.universe)
        searches = _searches(source, inputs)
        whole = source.universe.group({*group.names, *query.dimensions, *_dimensions(searches)})
        request = data_id_joins.Request(whole, query.condition, {}, searches)
        rows = source.searches.project(request, None, {group.names})
        return graph_nodes.data_ids(group, rows[group.names])


def _dimensions(searches: Iterable[data_id_joins.Search]) -> list[str]:
    return [name for search in searches for name in search.dataset_type.required]


def _searches(source: registry.Registry, inputs: policy_module.Policy) -> list[data_id_joins.Search]:
    """Return the datasets that have to exist: required ones, of which a job has one."""
    butler = inputs.part("parameters.butler")
    if "parameters.butler" not in inputs:
        return []
    names = collections(butler)
    if missing := [name for name in names if source.collections.find(name) is None]:
        raise errors.RefusedError(f"{butler.origin}: there is no collection {missing[0]!r}.")
    rows = source.searches.collections(names)
    result = []
    for name in policy_items.names(inputs, "inputItems"):
        item = policy_items.dataset(inputs, "inputItems", name)
        if not item.is_required or item.is_multiple:
            continue
        registered = source.dataset_types.registered([item.dataset_type]).get(item.dataset_type)
        if registered is None:
            raise errors.RefusedError(
                f"{inputs.origin}: item {name!r}: dataset type {item.dataset_type!r} is not registered."
            )
        data_id_search.refuse_calibrations(source, registered, rows)
        result.append(data_id_joins.Search(registered, [each.id for each in rows]))
    return result


def collections(butler: policy_module.Policy) -> Sequence[str]:
    """Return the input collections of a policy ``butler``.

    Raises
    ------
    RefusedError
        If there are none.
    """
    names = butler.array("collections", str)
    if not names:
        raise policy_module.complaint(butler.origin, butler.full_name("collections"), "is missing.")
    return names
