"""A repository with six images, and policies that write them to files and rows, as tests use them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import sqlite3
import textwrap
from typing import Any

import numpy as np
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry
from aggregator.stages import repository_butler

import aggregator
from tests.helpers import stage_storages

VISITS, DETECTORS = (1, 2), (1, 2, 3)
WHERE = "instrument = 'Cam'"
_CAMERA = {"instrument": "Cam"}
_RECORDS: dict[str, list[dict[str, Any]]] = {
    "instrument": [{"name": "Cam"}],
    "physical_filter": [{**_CAMERA, "name": "red", "band": "r"}],
    "detector": [{**_CAMERA, "id": n, "full_name": f"D{n}"} for n in DETECTORS],
    "day_obs": [{**_CAMERA, "id": 20260301}],
    "visit": [
        {**_CAMERA, "id": n, "name": f"V{n}", "physical_filter": "red", "day_obs": 20260301} for n in VISITS
    ],
}
TABLE = (
    "CREATE TABLE quality (visit BIGINT, detector BIGINT, median DOUBLE PRECISION, "
    "PRIMARY KEY (visit, detector))"
)
EXPORT = textwrap.dedent(
    """\
    function: tests.helpers.stage_functions.measure
    parameters:
      butler: {{collections: [in]}}
      inputItems:
        image:
          datasetType: image
          datasetId: {{fromJobIdentity: [instrument, visit, detector]}}
      outputItems:
        image:
          type: NumpyArray
          storagePolicy:
            - {{storage: BoostStorage, location: "{out}/%(instrument)/%(visit)/%05d(detector).item"}}
            - {{storage: XmlStorage, location: "{out}/%(instrument)/%(visit)/%05d(detector).json"}}
        quality:
          type: PropertySet
          storagePolicy: {{storage: {rows}, location: "{url}"}}
      persistence:
        Formatter.PropertySet: {{KeyList: [visit=visit, detector=detector, median=median]}}
    """
)
IMPORT = textwrap.dedent(
    """\
    input:
      parameters:
        inputItems:
          image:
            type: NumpyArray
            pythonType: numpy.ndarray
            storagePolicy:
              storage: BoostStorage
              location: "{out}/%(instrument)/%(visit)/%05d(detector).item"
    output:
      parameters:
        butler: {{run: back}}
        outputItems:
          image:
            datasetId: {{datasetType: image, fromJobIdentity: [instrument, visit, detector]}}
    """
)


@dataclasses.dataclass(frozen=True, slots=True)
class StageRun:
    """A directory with a repository, a database for rows, and a policy."""

    root: pathlib.Path
    """The directory."""

    @property
    def repo(self) -> pathlib.Path:
        """The repository."""
        return self.root / "repo"

    @property
    def out(self) -> pathlib.Path:
        """Where files go."""
        return self.root / "out"

    @property
    def policy(self) -> pathlib.Path:
        """The policy."""
        return self.root / "export.yaml"

    def copy(self, root: pathlib.Path) -> StageRun:
        """Return a copy."""
        shutil.copytree(self.root, root)
        copy = StageRun(root)
        copy.write_policy()
        return copy

    def write_policy(self, text: str = EXPORT, rows: str = "DbTsvStorage", url: str = "") -> pathlib.Path:
        """Write the policy."""
        url = url or f"sqlite:///{self.root}/quality.sqlite3"
        self.policy.write_text(text.format(out=self.out, rows=rows, url=url))
        return self.policy

    def arguments(self, *more: str) -> list[str]:
        """Return the command line."""
        return ["stage", str(self.policy), "--repo", str(self.repo), "--where", WHERE, *more]

    def files(self) -> dict[str, bytes]:
        """Return the content of all files by name, without those that only a killed process leaves."""
        paths = sorted(path for path in self.out.rglob("*") if path.is_file() and path.suffix != ".pending")
        return {str(path.relative_to(self.out)): path.read_bytes() for path in paths}

    def is_complete(self) -> bool:
        """Return whether all files and rows are there, each once."""
        ends = ("item", "json")
        names = [f"Cam/{v}/{d:05d}.{end}" for v in VISITS for d in DETECTORS for end in ends]
        return list(self.files()) == names and self.rows() == ROWS

    def rows(self) -> list[Any]:
        """Return all rows."""
        with contextlib.closing(sqlite3.connect(self.root / "quality.sqlite3")) as connection:
            return connection.execute("SELECT * FROM quality ORDER BY visit, detector").fetchall()


ROWS = [(visit, detector, float(10 * visit + detector)) for visit in VISITS for detector in DETECTORS]
"""What is in the table in the end."""


def make(root: pathlib.Path) -> StageRun:
    """Make all of it."""
    run = StageRun(root)
    root.mkdir()
    aggregator.create_repository(run.repo)
    with registry.open_repository(repository_config.load(str(run.repo)), writeable=True) as repository:
        for element, records in _RECORDS.items():
            repository.dimensions.insert(element, records)
        repository.dataset_types.register("image", "NumpyArray", ["visit", "detector"])
    policy = stage_storages.policy(f"{{repository: {run.repo}, run: in}}")
    with contextlib.closing(repository_butler.RepositoryButler(policy)) as butler:
        for visit in VISITS:
            for detector in DETECTORS:
                image = np.full((2, 2), 10.0 * visit + detector)
                butler.put(image, "image", {**_CAMERA, "visit": visit, "detector": detector})
    with contextlib.closing(sqlite3.connect(root / "quality.sqlite3")) as connection:
        connection.execute(TABLE)
    run.write_policy()
    return run
