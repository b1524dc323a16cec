"""Tasks made of policies and functions."""

from __future__ import annotations

from typing import Any

from aggregator import stages
from tests.helpers import stage_functions, stage_storages

POLICY = """\
input:
  parameters:
    inputItems:
      image: {datasetType: image, storageClass: NumpyArray, datasetId: {fromJobIdentity: [visit, ccd]}}
output:
  parameters:
    outputItems:
      quality:
        datasetId: {datasetType: quality, fromClipboard: [visit, ccd]}
        storageClass: StructuredDataDict
"""
TOTAL = """\
parameters:
  inputItems:
    numbers:
      datasetType: quality
      storageClass: StructuredDataDict
      datasetId: {fromInputDatasets: true, fromJobIdentity: [visit, detector]}
  outputItems:
    total: {datasetType: total, storageClass: StructuredDataDict, datasetId: {fromJobIdentity: [visit]}}
    more:
      datasetType: more
      storageClass: StructuredDataDict
      datasetId: {fromJobIdentity: [visit]}
"""


def add(numbers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of numbers, and how many they are."""
    return {"total": {"sum": sum(each["median"] for each in numbers)}, "more": {"n": len(numbers)}}


Quality = stages.task(stage_storages.policy(POLICY), stage_functions.measure)
Total = stages.task(stage_storages.policy(TOTAL), add)

_OF_EACH = TOTAL.replace("fromInputDatasets: true, ", "").replace(
    "datasetType: quality", "datasetType: image"
)
OfEachDetector = stages.task(stage_storages.policy(_OF_EACH.replace("StructuredDataDict", "NumpyArray")), add)
"""Writes for each detector what there is one of for all."""
