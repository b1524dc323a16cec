"""Options of a merge of repositories."""

from __future__ import annotations

import dataclasses
from typing import Final

from aggregator.butler.transfers import renaming
from aggregator.storage import errors
from aggregator.transfer import transfer_config

IDS: Final = ("keep", "renew")
"""What becomes of ids, the default first."""


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
        if self.ids not in IDS:
            raise errors.RefusedError(f"ids must be one of {', '.join(IDS)}, not {self.ids!r}.")
        if self.salt and self.ids != "renew":
            raise errors.RefusedError("salt has a meaning only together with ids='renew'.")
        renaming.Renaming(self.rename)
