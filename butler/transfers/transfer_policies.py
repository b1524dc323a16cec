"""What happens where a bundle and the repository that takes it disagree (transfer.md section 7.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from aggregator.butler.transfers import root_map
from aggregator.schemas import transfer_manifest
from aggregator.storage import errors, file_batches

NONE: Final = "none"
"""No file is moved, and none is recorded."""

IN_PLACE: Final = "in-place"
"""Files are where the records say already: the datastores have one root."""

DIRECT: Final = "direct"
"""Records say where the files are in the source."""

MOVE: Final = "move"
"""Files are linked or copied, and leave the source when the rows are committed."""

MANIFEST: Final = "manifest"
"""Another system brings the files, and they are recorded when they have arrived."""

NEWEST: Final = "newest"
"""What was ingested last, each in its own repository, takes the place of the other."""

MODES: Final = (*file_batches.MODES, MOVE, DIRECT, IN_PLACE, MANIFEST, NONE)
"""What becomes of files (section 7.3)."""

LINKS_BACK: Final = ("symlink", "relsymlink")
"""Modes in which nothing is left when what was written anew is removed."""

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "files": MODES,
    "manifest_format": transfer_manifest.FORMATS,
    "graphs": ("whole", "slice", "loose"),
    "on_conflict": ("fail", "skip", NEWEST),
    "on_dimension_conflict": ("keep", "fail"),
    "storage_class": ("fail", "keep-destination"),
    "chains": ("extend", "keep", "replace"),
    "on_tag_conflict": ("fail", "skip", NEWEST),
    "on_certification_conflict": ("fail", "skip"),
    "missing": ("fail", "skip", "register"),
}
"""Values of each policy, the default first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What becomes of files, and what happens where a bundle and its destination contradict each other."""

    files: str = CHOICES["files"][0]
    """What becomes of files."""

    jobs: int | None = None
    """Files that are copied at a time; by default one, or as many as suit an object store."""

    root_map: tuple[str, ...] = ()
    """Where the destination sees directories of the source whose files stay in place: "OLD=NEW" each."""

    manifest_format: str = CHOICES["manifest_format"][0]
    """How they are listed that another system brings: a JSON document a line, or a table (CSV) that begins
    with "from", "to" and "size"."""

    graphs: str = "whole"
    """What becomes of provenance graphs that stand in for configs, logs and metadata: "whole" ones come
    along; of a "slice" just the quanta whose logs or metadata do, with their datasets; "loose" gives these
    files of their own, and needs no graph."""

    on_conflict: str = "fail"
    """When there is another dataset of the same type, run and data ID (C3)."""

    on_dimension_conflict: str = "keep"
    """When a dimension record is there with other values (C6); "keep" keeps those."""

    storage_class: str = "fail"
    """When a dataset type has another storage class (C5)."""

    chains: str = "extend"
    """When a chain has other children (C8)."""

    on_tag_conflict: str = "fail"
    """When a tag holds another dataset of the same type and data ID (C9)."""

    on_certification_conflict: str = "fail"
    """When another dataset is valid at a part of the same time (C10)."""

    missing: str = "fail"
    """When a file is not in the source, though it is recorded (F1)."""

    allow_delete: bool = False
    """Whether datasets of the destination may be deleted, with their files, for newer ones (C3)."""

    overwrite_orphans: bool = False
    """Whether other files are replaced that no record refers to (C12)."""

    verify_files: bool = False
    """Whether the files of datasets that are there already are looked for, and brought if they are gone."""

    @property
    def moves(self) -> bool:
        """Whether files get other places, be it by us or by another system."""
        return self.files not in (NONE, IN_PLACE, DIRECT)

    def check(self) -> None:
        """Refuse a value that is none.

        Raises
        ------
        RefusedError
            If there is one.
        """
        for name, values in CHOICES.items():
            if (value := getattr(self, name)) not in values:
                raise errors.RefusedError(f"{name} must be one of {', '.join(values)}, not {value!r}.")
        if self.jobs is not None and self.jobs < 1:
            raise errors.RefusedError(f"jobs must be at least 1, not {self.jobs}.")
        root_map.RootMap(self.root_map)
        if self.root_map and self.files != IN_PLACE:
            raise errors.RefusedError("root_map has a meaning only together with files='in-place'.")
        if self.on_conflict == NEWEST and not self.allow_delete:
            raise errors.RefusedError(
                "on_conflict='newest' deletes datasets of the destination that are older: it needs "
                "allow_delete."
            )
        if self.on_conflict == NEWEST and self.files in (NONE, MANIFEST):
            raise errors.RefusedError(
                f"on_conflict='newest' can't be used with files={self.files!r}: datasets would be deleted, "
                "and there would be no file in their place."
            )
