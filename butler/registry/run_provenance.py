"""The dataset type of provenance graphs in a repository.

A module of its own without imports: processes that only look for files of graphs load no database libraries.
"""

from typing import Final

DATASET_TYPE: Final = "run_provenance"

STORAGE_CLASS: Final = "ProvenanceQuantumGraph"
"""Storage class that it is registered with."""
