"""Datasets that the butler of a policy writes are read by the reference, and the other way round."""

from __future__ import annotations

from typing import Any

import pytest
from aggregator.stages import repository_butler
from aggregator.stages.policies import paf, policy
from aggregator.storage import errors

daf: Any = pytest.importorskip("lsst.daf.butler")
new: Any = pytest.importorskip("tests.helpers.new_repositories")

# Fixtures.
maker, made = new.maker, new.made


def opened(repository: Any, more: str) -> repository_butler.RepositoryButler:
    settings = policy.Policy()
    paf.parse(f"repository: {repository.root}\ninstrument: {new.CAMERA}\n{more}", settings)
    return repository_butler.RepositoryButler(settings)


def test_both_read_what_the_other_writes(made: Any) -> None:
    made.insert()
    first = {"instrument": new.CAMERA, "visit": 101, "detector": 1}
    with made.butler() as theirs:
        dimensions = theirs.dimensions.conform(["visit", "detector"])
        theirs.registry.registerDatasetType(daf.DatasetType("numbers", dimensions, "StructuredDataDict"))
        theirs.registry.registerRun("theirs")
        theirs.put({"by": "them"}, "numbers", first, run="theirs")
        theirs.put({"by": "them"}, "numbers", {**first, "visit": 102}, run="theirs")
    ours = opened(made, "run: ours\ncollections: theirs")
    assert ours.is_there("numbers", {"visit": 101, "ccd": 1})
    assert not ours.is_there("numbers", {"visit": 103, "ccd": 1})
    assert not ours.is_written("numbers", {"visit": 101, "ccd": 1})
    assert ours.get("numbers", {"visit": 101, "ccd": 1, "band": "g"}) == {"by": "them"}
    ours.put({"by": "us"}, "numbers", {"visit": 101, "ccd": 1, "band": "g"})
    assert ours.is_written("numbers", {"visit": 101, "detector": 1})
    ours.close()
    with made.butler() as theirs:
        assert theirs.get("numbers", first, collections="ours") == {"by": "us"}
        refs = [theirs.find_dataset("numbers", first, collections=run) for run in ("ours", "theirs")]
        ours_path, theirs_path = (theirs.getURI(ref).ospath for ref in refs)
        assert ours_path == theirs_path.replace("theirs", "ours")
        assert refs[0].dataId == refs[1].dataId
        # The database knows it as one of the run: another one of the same data ID is refused.
        theirs.put({"by": "them"}, "numbers", {**first, "visit": 102}, run="ours")
        with pytest.raises(daf.registry.ConflictingDefinitionError):
            theirs.put({"by": "them"}, "numbers", first, run="ours")
        assert theirs.get("numbers", first, collections="ours") == {"by": "us"}


def test_calibrations_are_not_taken_for_missing(made: Any) -> None:
    made.insert()
    with made.butler() as theirs:
        dimensions = theirs.dimensions.conform(["detector"])
        kind = daf.DatasetType("bias", dimensions, "StructuredDataDict", isCalibration=True)
        theirs.registry.registerDatasetType(kind)
        theirs.registry.registerRun("taken")
        ref = theirs.put({"by": "them"}, "bias", {"instrument": new.CAMERA, "detector": 1}, run="taken")
        theirs.registry.registerCollection("calib", daf.CollectionType.CALIBRATION)
        theirs.registry.certify("calib", [ref], daf.Timespan(None, None))
    ours = opened(made, "collections: calib")
    for look in (ours.is_there, ours.get):
        with pytest.raises(errors.RefusedError, match="has calibrations with times of validity"):
            look("bias", {"ccd": 1})
    ours.close()
    ours = opened(made, "collections: taken")
    assert ours.get("bias", {"ccd": 1}) == {"by": "them"}
    ours.close()
