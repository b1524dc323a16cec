"""Options of a merge of repositories."""

from __future__ import annotations

import dataclasses
from typing import Final

from aggregator.butler.transfers import renaming, transfer_policies
from aggregator.storage import errors
from aggregator.transfer import transfer_config

IDS: Final = ("keep", "renew")
"""What becomes of ids, the default first."""

GRAPHS: Final = ("whole", "slice", "loose")
"""What becomes of provenance graphs, the default first."""

_UNWRITTEN: Final = (transfer_policies.DIRECT, transfer_policies.IN_PLACE)
"""Modes in which no file can be written anew."""

_LEADING_BACK: Final = ("symlink", "relsymlink")
"""Modes in which nothing is left when what was written anew is removed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MergeConfig(transfer_config.TransferConfig):
    """Options of a merge; those of all transfers are inherited."""

    registry: str = "full"
    """How much of the database comes along; see `TransferConfig`."""

    ids: str = IDS[0]
    """What becomes of ids: "keep", or "renew", so that datasets are copies that lead a life of their own."""

    rename: tuple[str, ...] = ()
    """New names of collections: a regular expression for the whole name, ``=``, and the new name."""

    salt: str = ""
    """Anything, for copies with other new ids than those that a merge without it gives."""

    graphs: str = GRAPHS[0]
    """What becomes of provenance graphs that stand in for configs, logs and metadata: "whole" ones come
    along; of a "slice" just the quanta whose logs or metadata do, with their datasets; "loose" gives these
    files of their own, and needs no graph."""

    @property
    def changes(self) -> bool:
        """Whether names or ids become others."""
        return bool(self.rename) or self.ids == "renew"

    def check(self) -> None:
        """Refuse values that are none.

        Raises
        ------
        RefusedError
            If there are some.
        """
        transfer_config.TransferConfig.check(self)
        for name, values in (("ids", IDS), ("graphs", GRAPHS)):
            if (value := getattr(self, name)) not in values:
                raise errors.RefusedError(f"{name} must be one of {', '.join(values)}, not {value!r}.")
        if self.salt and self.ids != "renew":
            raise errors.RefusedError("salt has a meaning only together with ids='renew'.")
        renaming.Renaming(self.rename)
        if self.files in _LEADING_BACK and (self.changes or self.graphs == "loose"):
            raise errors.RefusedError(
                f"files={self.files!r} can't be used where files are written anew: the links would lead "
                "nowhere. Use auto, hardlink or copy."
            )
        if self.files == transfer_policies.MANIFEST:
            raise errors.RefusedError(
                "A merge has no manifest. Bring each source into a repository of its own (subset), and merge "
                "these when the files are there."
            )
        if self.files == transfer_policies.MOVE and (self.changes or self.graphs == "loose"):
            raise errors.RefusedError(
                "Files that are written anew, or get other names, can't be moved. Use auto, and remove them "
                "when all is well."
            )
        if self.files in _UNWRITTEN and self.graphs == "loose":
            raise errors.RefusedError(
                f"files={self.files!r} leaves files where they are: graphs can't be loose."
            )
