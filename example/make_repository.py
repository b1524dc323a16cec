"""Makes a repository for the survey in a directory, and the table of what overlaps. See docs/example.md."""

import pathlib
import sys

from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import registry

import aggregator

VISITS, DETECTORS, NIGHT = range(1, 5), range(1, 4), 20260301

camera, sky = {"instrument": "Camera"}, {"skymap": "sky"}
RECORDS = {
    "instrument": [{"name": "Camera"}],
    "skymap": [{"name": "sky", "hash": b"sky"}],
    "physical_filter": [{**camera, "name": "red", "band": "r"}],
    "detector": [{**camera, "id": n, "full_name": f"D{n}"} for n in DETECTORS],
    "day_obs": [{**camera, "id": NIGHT}],
    "visit": [
        {**camera, "id": n, "name": f"V{n}", "physical_filter": "red", "day_obs": NIGHT} for n in VISITS
    ],
    "tract": [{**sky, "id": 0}],
    "patch": [{**sky, "tract": 0, "id": n} for n in DETECTORS],
}

directory = pathlib.Path(sys.argv[1])
aggregator.create_repository(directory)
with registry.open_repository(repository_config.load(directory), writeable=True) as repository:
    for element, records in RECORDS.items():
        repository.dimensions.insert(element, records)
    repository.collections.register_run("nothing")

# The telescope does not move: each detector always sees the same patch.
rows = [f"Camera,{visit},{n},sky,0,{n}" for visit in VISITS for n in DETECTORS]
(directory / "overlaps.csv").write_text("\n".join(["instrument,visit,detector,skymap,tract,patch", *rows]))
