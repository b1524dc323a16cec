"""What the middleware exports and imports: it reads ours, and we read its (transfer.md 2, 4 and 7.9)."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aggregator.butler import creation
from aggregator.butler.dimensions import htm_pixels
from aggregator.execution import graph_context, graph_quanta
from aggregator.schemas import packs
from lsst import sphgeom
from lsst.daf.butler import Butler, Config

import aggregator
from aggregator.running import graph_run, run_config
from tests.helpers import merge_case, sharing, transfer_case
from tests.helpers.oracle import real_runs

_YAML, _ZIP = packs.FORMATS[1:]


class Node(real_runs.Case):
    """A repository with the graph of a job."""

    @property
    def graph(self) -> pathlib.Path:
        return self.root / "graph.qg"


@pytest.fixture(scope="module")
def half_done(
    real_case: Callable[..., real_runs.Case], tmp_path_factory: pytest.TempPathFactory
) -> real_runs.Case:
    """Return a graph whose first step has run, with nothing of it in the database."""

    def make(path: pathlib.Path) -> real_runs.Case:
        case = real_case(path / "repo", {})
        steps = [each.id for each in quanta(case) if each.task == "step"]
        graph_run.init_run(case.graph, case.root)
        config = run_config.RunConfig(in_process=True)
        with contextlib.suppress(graph_run.ExecutionError):
            graph_run.execute(str(case.graph), str(case.root), config, ids=steps)
        return case

    return sharing.made_once(tmp_path_factory, "export", make)


def quanta(case: real_runs.Case) -> list[Any]:
    with graph_context.GraphContext(str(case.graph), str(case.root)) as context:
        return list(graph_quanta.GraphQuanta(context))


def contents(root: pathlib.Path) -> dict[str, Any]:
    """Return type, run, data ID and content of all datasets, by id, as the reference reads them."""
    with Butler.from_config(str(root)) as butler:
        return {
            str(ref.id): (ref.datasetType.name, ref.run, str(ref.dataId), str(butler.get(ref)))
            for ref in butler.query_all_datasets("*", find_first=False, limit=None)
        }


def new_by_reference(root: pathlib.Path, beside: pathlib.Path) -> Butler:
    """Let the reference make a repository like that of an export."""
    Butler.makeRepo(
        str(root), config=Config(str(beside / "seed.yaml")), dimensionConfig=str(beside / "dimensions.json")
    )
    return Butler.from_config(str(root), writeable=True)


def test_the_reference_imports_a_job_and_executes_it(
    half_done: real_runs.Case, tmp_path: pathlib.Path
) -> None:
    case = half_done.copy(tmp_path / "repo")
    joins = [each.id for each in quanta(case) if each.task == "join"]
    done = aggregator.pack(case.root, case.graph, tmp_path / "job", quanta=joins, pack_format=_YAML)
    assert done.n_quanta == len(joins)
    node = tmp_path / "node"
    with new_by_reference(node, tmp_path / "job") as butler:
        butler.import_(
            directory=str(tmp_path / "job"), filename=str(tmp_path / "job/export.yaml"), transfer="copy"
        )
    assert len(contents(node)) == done.n_datasets
    shutil.copy(tmp_path / "job/graph.qg", node)
    real_runs.execute_by_reference(Node(node))
    written = {path.name for path in node.rglob("*join_metadata*") if path.is_file()}
    assert len(written) == len(joins)


def test_both_formats_hold_the_same(half_done: real_runs.Case, tmp_path: pathlib.Path) -> None:
    case = half_done.copy(tmp_path / "repo")
    joins = [each.id for each in quanta(case) if each.task == "join"]
    for name, pack_format in (("job", _YAML), ("job.zip", _ZIP)):
        aggregator.pack(case.root, case.graph, tmp_path / name, quanta=joins, pack_format=pack_format)
    aggregator.unpack(tmp_path / "job", tmp_path / "ours")
    assert (tmp_path / "ours/graph.qg").read_bytes() == (tmp_path / "job/graph.qg").read_bytes()
    with new_by_reference(tmp_path / "theirs", tmp_path / "job") as butler:
        butler.ingest_zip(str(tmp_path / "job.zip"), transfer="copy", transfer_dimensions=True)
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    assert len(contents(tmp_path / "ours")) > len(joins)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a repository with all that an export can tell, which is only read."""
    return transfer_case.make(tmp_path_factory.mktemp("source"))


def empty(source: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    creation.create_repository(root, dimension_config=transfer_case.dimensions(source))
    return root


def test_an_export_of_the_reference_comes_in_whole(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Butler.from_config(str(source)) as butler:
        refs = set(butler.query_all_datasets("*", find_first=False, limit=None))
        directory = tmp_path / "export"
        directory.mkdir()
        with butler.export(directory=str(directory), filename="export.yaml", transfer="copy") as export:
            export.saveDatasets(refs)
            for name in butler.collections.query("*"):
                export.saveCollection(name)
    target = empty(source, tmp_path / "target")
    for number in range(2):
        report = aggregator.merge([directory], target, merge_case.EVERYTHING)
        assert report.done.datasets_added == (0 if number else len(refs))
    expected, found = (transfer_case.content(root, merge_case.EVERYTHING) for root in (source, target))
    for batches in (batch for content in (expected, found) for batch in content.values()):
        for batch in batches:
            batch.get("rows", []).sort()
            # An export has no sizes; that of our own come with each file.
            batch["files"] = [record[:-1] for record in batch.get("files", [])]
    del expected["DatasetTypes "], found["DatasetTypes "]
    assert found == expected


def test_an_archive_of_the_reference_comes_in(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Butler.from_config(str(source)) as butler:
        refs = [*butler.query_datasets("flat", "calib/*", find_first=False)]
        refs += butler.query_datasets("clean_image", transfer_case.RUN)
        archive = butler.retrieve_artifacts_zip(refs, str(tmp_path))
    target = empty(source, tmp_path / "target")
    with pytest.raises(aggregator.RefusedError, match="there is no instrument record"):
        aggregator.subset(archive.ospath, target, merge_case.EVERYTHING)
    # Records that the archive lacks may be there.
    logs = aggregator.Selection(collections=(transfer_case.RUN,), dataset_types=("clean_log",))
    aggregator.subset(source, target, logs, aggregator.TransferConfig(files="none"))
    aggregator.subset(archive.ospath, target, merge_case.EVERYTHING)
    with Butler.from_config(str(source)) as before, Butler.from_config(str(target)) as after:
        for ref in refs:
            assert str(after.get(ref)) == str(before.get(ref))


def test_regions_overlap_the_pixels_that_the_reference_finds() -> None:
    pixels = sphgeom.HtmPixelization(7)
    random = np.random.RandomState(5)
    for _ in range(100):
        center, size = random.normal(size=3), 10 ** random.uniform(-4, -1)
        corners = [center / np.linalg.norm(center) + size * random.normal(size=3) for _ in range(6)]
        region = sphgeom.ConvexPolygon.convexHull([sphgeom.UnitVector3d(*corner) for corner in corners])
        expected = [each for begin, end in pixels.envelope(region) for each in range(begin, end)]
        polygon = htm_pixels.polygon(region.encode())
        assert polygon is not None
        assert htm_pixels.overlapping(polygon, 7) == expected
