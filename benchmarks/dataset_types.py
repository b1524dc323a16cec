"""Measure what many dataset types cost: those of a large pipeline, in a repository that has many others.

Does with a copy of the sample repository, in SQLite or in a PostgreSQL server of its own, what aggregation
does with the dataset types of a graph before the first batch: a look whether they fit, and registration; then
both again.
Each task has a configuration, a log, metadata and two other outputs. Run it from the top of the source tree:
``python -m benchmarks.dataset_types [--database postgresql] [--tasks N] [--others N ...]``.
"""

import argparse
import json
import pathlib
import time

from aggregator.butler.registry import obstacles, registry

from benchmarks import ingest_rows
from tests.helpers import databases

DETECTOR = ("band", "instrument", "day_obs", "detector", "physical_filter", "visit")
OUTPUTS = (
    ("config", "Config", ()),
    ("log", "ButlerLogRecords", DETECTOR),
    ("metadata", "TaskMetadata", DETECTOR),
    ("image", "StructuredDataDict", DETECTOR),
    ("catalog", "ArrowAstropy", ("band", "instrument", "day_obs", "physical_filter", "visit")),
)
"""Name, storage class and dimensions of what each task writes."""


def outputs(n_tasks: int) -> obstacles.Outputs:
    """Make the outputs of a run."""
    types = [
        obstacles.OutputType(f"task{task}_{name}", kind, dimensions, False)
        for task in range(n_tasks)
        for name, kind, dimensions in OUTPUTS
    ]
    tables = frozenset({"file_datastore_records"})
    return obstacles.Outputs(types, True, ingest_rows.RUN, None, [], tables)


def add_others(database: databases.Database, number: int) -> None:
    """Register further types, of the same dimensions as one of the sample's."""
    columns = ", ".join(name for name in database.columns("dataset_type") if name not in ("id", "name"))
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number})"
    select = f"SELECT 'other' || i || '_metadata', {columns} FROM dataset_type, n WHERE name = 'raw'"
    database.execute(f"{numbers} INSERT INTO dataset_type (name, {columns}) {select}")


def measure(opened: registry.Registry, wanted: obstacles.Outputs) -> float:
    """Return the seconds for a look and the registration."""
    start = time.perf_counter()
    found = opened.obstacles(wanted)
    assert not found, found
    definitions = [
        opened.dataset_types.definition(t.name, t.storage_class, t.dimensions, False) for t in wanted.types
    ]
    rows = opened.dataset_types.register_all(definitions)
    assert len(rows) == len(wanted.types)
    return time.perf_counter() - start


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--others", type=int, nargs="+", default=[0, 20_000])
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    results = []
    wanted = outputs(options.tasks)
    for number in options.others:
        with ingest_rows.sample(options.database) as database:
            if number:
                add_others(database, number)
            with database.open() as opened:
                new, known = measure(opened, wanted), measure(opened, wanted)
        results.append({"others": number, "types": len(wanted.types), "new": new, "known": known})
        print(f"{len(wanted.types)} types among {number} others: {new:.2f} s, once registered {known:.2f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
