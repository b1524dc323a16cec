"""What `aggregator show` tells, as JSON values; docs/show.md describes their form."""

from typing import Any

import msgspec

from aggregator.reading import explanation, failures, lineage, provenance
from aggregator.schemas.execution import caveats, log_records, statuses
from aggregator.schemas.graphs import nodes, origins, pipeline

FORMAT = 1
"""Version of the form of these documents; another one if something goes or gets another name or meaning."""

Document = dict[str, Any]


def summary(reader: provenance.Provenance) -> Document:
    """Return what is in a graph."""
    header, tasks = reader.header, []
    for label, (by_status, by_caveats) in reader.counts().items():
        counts = {statuses.NAMES[code]: n for code, n in by_status.items()}
        named = [{"caveats": caveat_names(bits), "quanta": n} for bits, n in by_caveats.items() if bits]
        expected = header.n_task_quanta.get(label, 0)
        tasks.append(
            {
                "task": label,
                "quanta": counts,
                "total": sum(counts.values()),
                "expected": expected,
                "caveats": named,
            }
        )
    return {
        "graph_size": reader.n_bytes,
        "output": header.output,
        "inputs": header.inputs,
        "built": {"user": header.user, "time": header.timestamp, "command": header.command},
        "datasets": header.n_datasets,
        "tasks": tasks,
        **({"merged_from": [_origin(each) for each in reader.origins]} if reader.origins else {}),
    }


def _origin(origin: origins.Origin) -> Document:
    result: Document = {
        "source": origin.source,
        "created": origin.created,
        "tool": origin.tool,
        "runs": [msgspec.to_builtins(run) for run in origin.runs],
    }
    if origin.slice is not None:
        result["slice"] = msgspec.to_builtins(origin.slice)
    return result


def node(reader: provenance.Provenance, each: lineage.Node) -> Document:
    """Return a quantum, init quantum or dataset."""
    former = reader.former_id(each)
    return _node(reader, each) | ({} if former is None else {"former_id": former})


def _node(reader: provenance.Provenance, each: lineage.Node) -> Document:
    if isinstance(each, nodes.Dataset):
        return {
            "kind": "dataset",
            "id": each.dataset_id,
            "dataset_type": each.dataset_type_name,
            "data_id": reader.data_id(each),
            "run": each.run,
            "produced": each.produced,
            "producer": each.producer,
            "consumers": each.consumers,
        }
    both = {"id": each.quantum_id, "task": each.task_label, "inputs": each.inputs, "outputs": each.outputs}
    if isinstance(each, nodes.InitQuantum):
        return {"kind": "init quantum", **both}
    return {
        "kind": "quantum",
        **both,
        "data_id": reader.data_id(each),
        "status": statuses.NAMES[each.status],
        "attempts": [_attempt(attempt) for attempt in each.attempts],
        "log_id": next(iter(each.outputs.get(pipeline.LOG_CONNECTION, ())), None),
        "metadata_id": next(iter(each.outputs.get(pipeline.METADATA_CONNECTION, ())), None),
    }


def _attempt(attempt: nodes.Attempt) -> Document:
    result: Document = msgspec.to_builtins(attempt)
    result["status"] = statuses.NAMES[attempt.status]
    result["caveats"] = None if attempt.caveats is None else caveat_names(attempt.caveats)
    return result


def caveat_names(bits: int) -> list[str]:
    """Return the names of caveat bits."""
    return [name for bit, name in caveats.NAMES.items() if bits & bit]


def brief(reader: provenance.Provenance, each: lineage.Node) -> Document:
    """Return what a line about a node tells."""
    result: Document = {"id": lineage.node_id(each), "data_id": reader.brief_data_id(each)}
    if isinstance(each, nodes.Dataset):
        produced = "input" if each.producer is None else "produced" if each.produced else "not produced"
        return {"kind": "dataset", "name": each.dataset_type_name, "state": produced, **result}
    if isinstance(each, nodes.InitQuantum):
        return {"kind": "init quantum", "name": each.task_label, "state": "", **result}
    return {"kind": "quantum", "name": each.task_label, "state": statuses.NAMES[each.status], **result}


def step(reader: provenance.Provenance, each: lineage.Step) -> Document:
    """Return a step of a lineage."""
    return {"depth": each.depth, **brief(reader, each.node), "via": each.via}


def failure(reader: provenance.Provenance, each: failures.Failure) -> Document:
    """Return something that failed, with where its log is."""
    result = brief(reader, each.quantum)
    attempts = each.quantum.attempts
    result["exception"] = _exception(each.quantum)
    result["cause"] = _cause(reader, each.cause)
    result["attempts"] = len(attempts)
    result["log"] = log_place(reader, each.quantum) if attempts else None
    return result


def _exception(quantum: nodes.Quantum) -> Document | None:
    last = quantum.attempts[-1].exception if quantum.attempts else None
    return None if last is None else msgspec.to_builtins(last)


def _cause(reader: provenance.Provenance, cause: nodes.Quantum | None) -> Document | None:
    return None if cause is None else {**brief(reader, cause), "exception": _exception(cause)}


def log_place(reader: provenance.Provenance, quantum: nodes.Quantum) -> Document:
    """Return where the log of the last attempt is, and its last error."""
    records = reader.logs(quantum.quantum_id)
    errors = [r for r in records or () if r.levelno >= _ERROR]
    return {
        "dataset_id": next(iter(quantum.outputs.get(pipeline.LOG_CONNECTION, ())), None),
        "records": None if records is None else len(records),
        "last_error": log_record(errors[-1]) if errors else None,
    }


_ERROR = 40
"""Number of the log level ERROR."""


def explained(reader: provenance.Provenance, each: explanation.Explanation) -> Document:
    """Return what happened to a dataset."""
    quantum = each.quantum
    result = {
        "dataset": brief(reader, each.dataset),
        "outcome": each.outcome,
        "reason": each.reason,
        "quantum": None if quantum is None else brief(reader, quantum),
        "exception": _exception(quantum) if isinstance(quantum, nodes.Quantum) else None,
        "cause": _cause(reader, each.cause),
    }
    ran = each.cause or quantum
    has_log = isinstance(ran, nodes.Quantum) and ran.attempts and each.outcome != "produced"
    result["log"] = log_place(reader, ran) if isinstance(ran, nodes.Quantum) and has_log else None
    return result


def log_record(record: log_records.LogRecord) -> Document:
    """Return a log record."""
    result: Document = msgspec.to_builtins(record)
    return result
