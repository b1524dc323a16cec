"""Measure how fast datasets get into a repository: new ones, and ones that exist already.

Works on a copy of the sample repository, with visits and detectors added, in SQLite or in a PostgreSQL server
of its own; the datasets are of three types and two dimension groups. Run it from the top of the source tree:
``python -m benchmarks.ingest_rows [--database postgresql] [--datasets N] [--batch N]``.
"""

import argparse
import contextlib
import pathlib
import random
import tempfile
import time
import zipfile
from collections.abc import Iterator

from aggregator.butler.registry import batch, registry

from tests.helpers import databases, postgresql_repository, postgresql_server, registry_rows

SAMPLE = pathlib.Path(__file__).parents[1] / "tests" / "helpers" / "data" / "sample.zip"
RUN = "u/sample/benchmark"
DETECTORS = 50
"""Detectors of a visit; each has two datasets, and the visit has one more."""


def add_detectors(database: databases.Database) -> None:
    """Add detectors to the sample."""
    others = ", ".join(name for name in database.columns("detector") if name not in ("id", "full_name"))
    recursion = f"WITH RECURSIVE n(d) AS (SELECT 3 UNION ALL SELECT d + 1 FROM n WHERE d < {DETECTORS})"
    select = f"SELECT d, 'R0/S' || d || '.y', {others} FROM detector, n WHERE id = 1"
    database.execute(f"{recursion} INSERT INTO detector (id, full_name, {others}) {select}")


@contextlib.contextmanager
def sample(kind: str) -> Iterator[databases.Database]:
    """Make a database with the content of the sample's."""
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        with zipfile.ZipFile(SAMPLE) as archive:
            path = pathlib.Path(archive.extract("repo/gen3.sqlite3", scratch))
        if kind == "sqlite":
            yield databases.Sqlite(path)
        else:
            server = stack.enter_context(postgresql_server.running())
            yield postgresql_repository.load(server, path)


def file_of(dataset_id: str, name: str, visit: int, detector: int) -> batch.File:
    """Make a file row of the usual length."""
    directory = f"{RUN}/{name}/20260301/g/Sample-G_1/{visit}"
    path = f"{directory}/{name}_SampleCam_g_Sample-G_1_{visit}_R0_S{detector}_x_u_sample_benchmark.json"
    formatter = "lsst.daf.butler.formatters.json.JsonFormatter"
    store = "file_datastore_records", "FileDatastore@<butlerRoot>"
    return (*store, dataset_id, path, formatter, "StructuredDataDict", None)


def make_batches(opened: registry.Registry, visits: range, size: int) -> list[batch.Batch]:
    """Make the rows of all visits, with ids that grow with time."""
    image = opened.dataset_types.register("bench_image", "StructuredDataDict", ["visit", "detector"])
    log = opened.dataset_types.register("bench_log", "StructuredDataDict", ["visit", "detector"])
    summary = opened.dataset_types.register("bench_summary", "StructuredDataDict", ["visit"])
    datasets: list[batch.Dataset] = []
    files: list[batch.File] = []
    start = time.time_ns() // 1_000_000
    for visit in visits:
        wanted = [(kind, ("SampleCam", d, visit)) for d in range(1, DETECTORS + 1) for kind in (image, log)]
        for kind, values in [*wanted, (summary, ("SampleCam", visit))]:
            moment = start + len(datasets) // 50
            dataset_id = f"{moment:012x}7{random.getrandbits(12):03x}8{random.getrandbits(60):015x}"
            datasets.append((dataset_id, kind, values))
            files.append(file_of(dataset_id, kind.name, visit, values[1]))
    starts = range(0, len(datasets), size)
    return [batch.Batch(datasets[i : i + size], files[i : i + size]) for i in starts]


def measure(opened: registry.Registry, label: str, batches: list[batch.Batch], *, defensive: bool) -> None:
    """Ingest all batches and print the rate."""
    wall, cpu = time.perf_counter(), time.process_time()
    results = [opened.datasets.ingest(RUN, each, defensive=defensive) for each in batches]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total = sum(len(each.datasets) for each in batches)
    print(
        f"{label}: {total / wall:,.0f} datasets/s, {1e6 * wall / total:.1f} us wall and "
        f"{1e6 * cpu / total:.1f} us CPU per dataset; {sum(r.n_ingested for r in results)} ingested, "
        f"{sum(r.n_skipped for r in results)} skipped, {sum(len(r.conflicts) for r in results)} conflicts"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--datasets", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000)
    options = parser.parse_args()
    with sample(options.database) as database:
        add_detectors(database)
        visits = registry_rows.add_visits(database, options.datasets // (2 * DETECTORS + 1) + 1)
        with database.open() as opened:
            opened.collections.register_run(RUN)
            batches = make_batches(opened, visits, options.batch)
            measure(opened, "new, plain inserts", batches, defensive=False)
            measure(opened, "existing, plain inserts first", batches, defensive=False)
            measure(opened, "existing, looking first", batches, defensive=True)


if __name__ == "__main__":
    main()
