"""From objects to the contents of the files of a dataset, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aggregator.butler import artifacts
from aggregator.butler.formatting import choices, file_formats, storage_classes
from aggregator.storage import errors


class SerializationError(errors.AggregatorError, RuntimeError):
    """An object can't be written as the dataset that it is to be."""


class Contents:
    """Contents of the files of datasets.

    Parameters
    ----------
    components
        Components of each storage class: names with their storage classes.
    unpickle
        Whether pickles of any objects may be read and written.
    """

    def __init__(self, components: Mapping[str, Mapping[str, str]], *, unpickle: bool) -> None:
        self._components = components
        self._unpickle = unpickle

    def encode(
        self, value: Any, storage_class: str, files: Sequence[artifacts.Artifact], notes: Mapping[str, Any]
    ) -> list[bytes]:
        """Return the content of each file of a dataset.

        Parameters
        ----------
        value
            The object.
        storage_class
            Storage class that it is stored with.
        files
            The files.
        notes
            What is to be noted of its origin.

        Raises
        ------
        TypeError
            If the object is of a type that the storage class does not allow.
        SerializationError
            If it can't be written.
        """
        whole = storage_classes.accepted(value, storage_class)
        return [self._encode(whole, artifact, notes) for artifact in files]

    def _encode(self, whole: Any, artifact: artifacts.Artifact, notes: Mapping[str, Any]) -> bytes:
        record = artifact.record
        part = whole if record.component is None else _part(whole, record.component, artifact)
        part = storage_classes.accepted(part, record.storage_class)
        try:
            return self._format(artifact).encode(part, notes)
        except errors.RefusedError:
            raise
        except Exception as error:
            raise SerializationError(
                f"{artifact.store.location(artifact.key)}: an object of type {type(part).__name__} can't be "
                f"written in the format of {record.formatter} ({error})."
            ) from error

    def decode(
        self,
        files: Sequence[tuple[artifacts.Artifact, bytes]],
        component: str | None,
        parameters: Mapping[str, Any],
        target: str,
    ) -> Any:
        """Return the object that a dataset, or a component of it, is.

        Parameters
        ----------
        files
            Files with their contents: all of the dataset, or that of the component alone.
        component
            The component; nothing for the whole dataset.
        parameters
            Which part of it, or how.
        target
            Storage class to have it as, or `dataset_refs.AS_STORED`.

        Raises
        ------
        KeyError
            If there is no such component or parameter.
        ValueError
            If it can't be had as this storage class, or has not what a parameter asks for.
        FormatError
            If the content of a file is something else.
        """
        first = files[0][0].record
        if first.component is None:
            value, source = self._decode_whole(*files[0], component, parameters)
            return storage_classes.converted(value, source, target)
        if component is not None:
            if component not in {artifact.record.component for artifact, _ in files}:
                raise KeyError(f"component {component!r} is none of the dataset's")
            return storage_classes.converted(self._decode(*files[0], parameters), first.storage_class, target)
        return {artifact.record.component: self._decode(artifact, data, {}) for artifact, data in files}

    def _decode_whole(
        self, artifact: artifacts.Artifact, data: bytes, component: str | None, parameters: Mapping[str, Any]
    ) -> tuple[Any, str]:
        """Return what is in the only file of a dataset, or a component of that, with its storage class."""
        source = artifact.record.storage_class
        value = self._decode(artifact, data, parameters)
        if component is None:
            return value, source
        file_format = self._format(artifact)
        classes = {**self._components.get(source, {}), **file_format.derived}
        if component not in classes:
            raise KeyError(f"storage class {source} has no component {component!r}")
        return file_format.component(value, component), classes[component]

    def _decode(self, artifact: artifacts.Artifact, data: bytes, parameters: Mapping[str, Any]) -> Any:
        file_format = self._format(artifact)
        if strange := sorted(set(parameters) - file_format.parameters):
            raise KeyError(f"storage class {artifact.record.storage_class} has no parameter {strange[0]!r}")
        try:
            return file_format.decode(data, parameters)
        except (file_formats.ParameterError, errors.RefusedError):
            raise
        except Exception as error:
            raise artifact.problem(f"is no {artifact.record.storage_class} ({error})") from error

    def _format(self, artifact: artifacts.Artifact) -> file_formats.Format:
        return choices.choose(artifact.record.storage_class, artifact.extension, unpickle=self._unpickle)


def _part(whole: Any, component: str, artifact: artifacts.Artifact) -> Any:
    """Return a component of an object: an entry, an attribute, or what its getter returns."""
    part = None
    if isinstance(whole, Mapping):
        part = whole.get(component)
    else:
        for name in (component, f"get_{component}", f"get{component[:1].upper()}{component[1:]}"):
            if (part := getattr(whole, name, None)) is not None:
                part = part() if callable(part) and name != component else part
                break
    if part is None:
        raise SerializationError(
            f"{artifact.store.location(artifact.key)}: the object has no component {component!r}. A dataset "
            "is written with all of its components, or not at all."
        )
    return part
