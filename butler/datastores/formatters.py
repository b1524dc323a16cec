"""Formatters: which class a dataset is recorded with, and the extension that it gives to the file.

Implements butler-repository.md section 10, but ``default`` in the configuration holds default write
parameters by formatter class; no formatter is the fallback for everything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aggregator.butler.datastores import lookup_keys
from aggregator.butler.dimensions import universe as universe_module
from aggregator.storage import errors

MOCK_PREFIX: Final = "_mock_"
"""How names of mock dataset types and mock storage classes begin."""

_JSON: Final = "lsst.daf.butler.formatters.json.JsonFormatter"
_RECIPES: Final = "write_recipes"


@dataclasses.dataclass(frozen=True, slots=True)
class Formatter:
    """What is known of a formatter class."""

    extension: str
    """Extension of the files that it writes, with the dot; "" for none."""

    formats: Mapping[str, str] | None = None
    """Extension by value of the write parameter ``format``; `None` if the class has no such parameter."""

    recorded: str | None = None
    """Name in datastore records where it differs from the name in configurations: the reference records
    the module that defines the class, without components that begin with an underscore."""


_FITS: Final = Formatter(".fits")

FORMATTERS: Final[Mapping[str, Formatter]] = {
    "lsst.atmospec.formatters.SpectractorFitParametersFormatter": Formatter(".json"),
    "lsst.atmospec.formatters.SpectractorImageFormatter": _FITS,
    "lsst.atmospec.formatters.SpectractorSpectrumFormatter": _FITS,
    "lsst.cell_coadds.CellCoaddFitsFormatter": _FITS,
    "lsst.daf.butler.formatters.astropyTable.AstropyTableFormatter": Formatter(".ecsv", {"ecsv": ".ecsv"}),
    _JSON: Formatter(".json"),
    "lsst.daf.butler.formatters.logs.ButlerLogRecordsFormatter": Formatter(".json"),
    "lsst.daf.butler.formatters.matplotlib.MatplotlibFormatter": Formatter(".png"),
    "lsst.daf.butler.formatters.packages.PackagesFormatter": Formatter(
        ".yaml", {"yaml": ".yaml", "json": ".json", "pickle": ".pickle", "pkl": ".pkl"}
    ),
    "lsst.daf.butler.formatters.parquet.ParquetFormatter": Formatter(".parq"),
    "lsst.daf.butler.formatters.pickle.PickleFormatter": Formatter(".pickle"),
    "lsst.daf.butler.formatters.yaml.YamlFormatter": Formatter(".yaml"),
    "lsst.images.formatters.GenericFormatter": Formatter(
        ".fits", {"fits": ".fits", "json": ".json", "sdf": ".sdf"}
    ),
    "lsst.meas.extensions.scarlet.io.ScarletModelFormatter": Formatter(
        ".scarlet", recorded="lsst.meas.extensions.scarlet.io.utils.ScarletModelFormatter"
    ),
    "lsst.meas.photoz.base.model_formatter.ModelFormatter": Formatter(".pickle", {"pickle": ".pickle"}),
    "lsst.meas.photoz.base.qp_formatter.QPFormatter": Formatter(".hdf5", {"hdf5": ".hdf5", "fits": ".fits"}),
    "lsst.meas.transiNet.modelPackages.NNModelPackageFormatter": Formatter(
        ".zip", recorded="lsst.meas.transiNet.modelPackages.formatters.NNModelPackageFormatter"
    ),
    "lsst.obs.base.formatters.fitsExposure.FitsExposureFormatter": _FITS,
    "lsst.obs.base.formatters.fitsExposure.FitsImageFormatter": _FITS,
    "lsst.obs.base.formatters.fitsExposure.FitsMaskFormatter": _FITS,
    "lsst.obs.base.formatters.fitsExposure.FitsMaskedImageFormatter": _FITS,
    "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter": _FITS,
    "lsst.pipe.base.formatters.pexConfig.PexConfigFormatter": Formatter(".py"),
    "lsst.pipe.base.quantum_graph.formatter.ProvenanceFormatter": Formatter(".qg"),
    "lsst.pipe.tasks.healSparseMapping.HealSparseMapFormatter": Formatter(".hsp"),
    "lsst.pipe.tasks.objectMasks.RegionFileFormatter": Formatter(".reg"),
    "lsst.pipe.tasks.sspAuxiliaryFile.SSPAuxiliaryFileFormatter": Formatter(""),
    "lsst.ts.observatory.control.utils.extras.vignetting_storage.VignettingCorrectionFormatter": Formatter(
        ".ecsv"
    ),
}
"""All formatter classes of the reference's default configuration.

Whoever needs another class adds it here: its name as configurations spell it, and what its
``get_write_extension`` returns.
"""


class FormatterMap:
    """The section ``formatters`` of a datastore's configuration.

    Parameters
    ----------
    section
        The section, defaults merged in.
    universe
        Dimensions of the graph.
    mocks
        Whether names of mocks that match nothing else get the JSON formatter.
    """

    def __init__(
        self, section: Mapping[str, Any], universe: universe_module.Universe, mocks: bool = False
    ) -> None:
        entries = lookup_keys.parse_mapping(section, universe, values_are_mappings=True)
        defaults = entries.pop(lookup_keys.Key(lookup_keys.DEFAULT), None) or {}
        entries.pop(lookup_keys.Key(_RECIPES), None)
        if not isinstance(defaults, Mapping):
            raise errors.RefusedError(
                f"Datastore configuration: 'formatters: default' is {defaults!r}; it has to map formatter "
                "classes to their default write parameters."
            )
        self._defaults: Mapping[str, Any] = defaults
        self._entries = entries
        self._mocks = mocks

    def choose(self, keys: Iterable[lookup_keys.Key]) -> tuple[str, str]:
        """Return the class name to record and the extension of the file.

        Parameters
        ----------
        keys
            Lookup keys of the dataset, the strongest first.

        Raises
        ------
        aggregator.storage.errors.RefusedError
            Nothing matches, or the matching entry or its class can't be used; the message is the end
            of a sentence that begins with the dataset type.
        """
        keys = tuple(keys)
        for key in keys:
            if key in self._entries:
                return self._resolve(key, self._entries[key])
        if self._mocks and any(isinstance(k.name, str) and k.name.startswith(MOCK_PREFIX) for k in keys):
            return _JSON, FORMATTERS[_JSON].extension
        names = ", ".join(dict.fromkeys(_text(key) for key in keys))
        raise errors.RefusedError(
            f"no formatter is configured. Add one of {names} to 'datastore: formatters' in butler.yaml."
        )

    def _resolve(self, key: lookup_keys.Key, entry: Any) -> tuple[str, str]:
        given: Any = {}
        if isinstance(entry, Mapping) and set(entry) <= {"formatter", "parameters"}:
            name, given = entry.get("formatter"), entry.get("parameters") or {}
        else:
            name = entry
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise errors.RefusedError(
                f"'datastore: formatters: {_text(key)}' is {entry!r}; it has to be a class name, or a "
                "mapping with 'formatter' and 'parameters'."
            )
        formatter = FORMATTERS.get(name) or _addition(name)
        if formatter is None:
            raise errors.RefusedError(
                f"formatter class {name} is not known, so its file extension is not either. "
                "Add it by an entry point in the group 'aggregator.formats'."
            )
        parameters = {**(self._defaults.get(name) or {}), **given}
        return formatter.recorded or name, _extension(name, formatter, parameters)


def _addition(name: str) -> Formatter | None:
    """Return a formatter that another distribution adds."""
    # Most repositories have none, and most processes neither read nor write datasets.
    from aggregator.butler.formatting import choices

    addition = choices.additions().get(name)
    return None if addition is None else Formatter(addition.extension)


def _extension(name: str, formatter: Formatter, parameters: Mapping[str, Any]) -> str:
    if formatter.formats is None or "format" not in parameters:
        return formatter.extension
    extension = formatter.formats.get(parameters["format"])
    if extension is None:
        raise errors.RefusedError(
            f"formatter class {name} has no format {parameters['format']!r}, "
            f"only {sorted(formatter.formats)}."
        )
    return extension


def _text(key: lookup_keys.Key) -> str:
    return key.name if isinstance(key.name, str) else "+".join(key.name)
