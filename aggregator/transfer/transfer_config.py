"""Options of a transfer between repositories."""

from __future__ import annotations

import dataclasses
import os
from typing import Final

from aggregator.butler.transfers import transfer_policies
from aggregator.storage import errors
from aggregator.transfer import graph_lineage

REGISTRIES: Final = ("run", "full")
"""How much of the database comes along, the default first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferConfig(transfer_policies.Policies):
    """Options of a transfer; what happens where both repositories contradict each other is inherited."""

    registry: str = REGISTRIES[0]
    """How much of the database comes along with the datasets: "run" is what they need to be found and read,
    and the chains asked for; "full" is all dataset types, tags, and chains that have their runs, too."""

    lineage: str = ""
    """What comes along of the lineage that provenance graphs of the repository tell: "up" for all that the
    datasets came from, "down" for all that came of them, with ":" and the most quanta on the way. With
    ``registry="full"``, rows of all that they came from come along in any case."""

    all_dataset_types: bool = False
    """Whether dataset types come along of which no dataset does."""

    trust: bool = False
    """Whether files that the source has not recorded, but that are where its templates put them, come along
    (F2)."""

    dry_run: bool = False
    """Whether to find everything out, and to write nothing."""

    database: str | None = None
    """URL of the database of a new repository; by default a SQLite file in its directory."""

    namespace: str | None = None
    """Schema of that database; PostgreSQL only."""

    manifest_path: str | os.PathLike[str] | None = None
    """File that lists what another system has to bring, with ``files="manifest"``; compressed if its name
    ends with .zst."""

    conflicts_path: str | os.PathLike[str] | None = None
    """File for all that stands in the way, a JSON document a line."""

    interactive_status: bool | None = None
    """Whether to show progress bars; by default if standard error is a terminal."""

    log_status_interval: float | None = None
    """Seconds between progress messages where no bars are shown; 60 by default."""

    @property
    def changes(self) -> bool:
        """Whether names or ids become others."""
        return False

    def check(self) -> None:
        """Refuse values that are none.

        Raises
        ------
        RefusedError
            If there are some.
        """
        # Slots make another class, which `super` without arguments does not know.
        transfer_policies.Policies.check(self)
        if self.lineage:
            graph_lineage.Request.parse(self.lineage)
        if (self.files == transfer_policies.MANIFEST) != (self.manifest_path is not None):
            raise errors.RefusedError(
                "Files that another system brings need a manifest, and a manifest needs such files: give "
                "both --files manifest and --manifest FILE."
            )
        if self.files in transfer_policies.LINKS_BACK and (self.changes or self.graphs != "whole"):
            raise errors.RefusedError(
                f"files={self.files!r} can't be used where files are written anew: the links would lead "
                "nowhere. Use auto, hardlink or copy."
            )
        if self.files == transfer_policies.MOVE and (self.changes or self.graphs != "whole"):
            raise errors.RefusedError(
                "Files that are written anew, or get other names, can't be moved. Use auto, and remove them "
                "when all is well."
            )
        if self.files in (transfer_policies.DIRECT, transfer_policies.IN_PLACE) and self.graphs == "loose":
            raise errors.RefusedError(
                f"files={self.files!r} leaves files where they are: graphs can't be loose."
            )
        if self.registry not in REGISTRIES:
            raise errors.RefusedError(
                f"registry must be one of {', '.join(REGISTRIES)}, not {self.registry!r}."
            )
