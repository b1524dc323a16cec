"""The reference and this project, with the files of one run in one bucket."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from tests.helpers import object_servers, small_runs, thinning
from tests.helpers.oracle import compare, reference

pytest.importorskip("lsst.pipe.base")


@pytest.mark.parametrize("profile", thinning.thinned([False, True], [True]))
def test_same_results(
    s3: object_servers.S3Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, profile: bool
) -> None:
    ours = small_runs.make(tmp_path / "ours", 60, failed=0.1, retried=0.05, caveats=0.1, aborted=0.05)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3.new_bucket()
    s3.take(bucket, "some repo", ours.root / "u")
    if profile:
        keys = f"{object_servers.KEY}:{object_servers.SECRET.replace('/', '%2F').replace('+', '%2B')}"
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", s3.url.replace("//", f"//{keys}@"))
        monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    config = yaml.safe_load((ours.root / "butler.yaml").read_text())
    config["datastore"]["root"] = f"s3://{'site@' if profile else ''}{bucket}/some repo"
    (ours.root / "butler.yaml").write_text(yaml.safe_dump(config))
    theirs = small_runs.copy(ours, tmp_path / "theirs")
    reference.aggregate_files(str(theirs.predicted), str(theirs.root), output_path=str(theirs.output))
    ours.aggregate()
    databases = [run.root / "gen3.sqlite3" for run in (theirs, ours)]
    compare.assert_databases_equal(*databases)
    assert ours.n_datasets() > 80
    compare.assert_provenance_equal(theirs.output, ours.output, ours.root, lossless=False)
