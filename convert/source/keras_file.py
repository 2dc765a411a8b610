"""Look into a ``.keras`` archive or an HDF5 file as hostile data, without loading a model.

What is refused here would otherwise run code, read other files or fill the memory once Keras opens the file.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from convert.source.facts import Loader, ModelFacts
from convert.source.keras_config import MAX_CONFIG_BYTES, parse_config, read_facts, refuse_code
from edge_runtime.datasets.zip_entries import ZIP_ERRORS
from edge_runtime.errors import ModelError
from edge_runtime.labels import shorten

MAX_MODEL_BYTES = 4 << 30
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MAX_ENTRIES = 10_000
# h5py gives the errors of libhdf5 as any of these.
_HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError)


def inspect_archive(path: Path, *, unsafe: bool) -> ModelFacts:
    """Say what a ``.keras`` file holds.

    Args:
        path: A zip archive.
        unsafe: Whether layers that hold code are let through.

    Raises:
        ModelError: Not a whole Keras archive, one with dangerous entries or layers, or not a classifier of one input.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, path)
            config = parse_config(_read_entry(archive, _CONFIG, path), str(path))
            metadata = parse_config(_read_entry(archive, _METADATA, path), str(path))
            with archive.open(_WEIGHTS) as weights:
                # In memory: libhdf5 seeks back and forth, which a packed entry does slowly.
                content = io.BytesIO(weights.read())
    except ZIP_ERRORS as error:
        raise ModelError(f"{path}: this .keras file is cut off or damaged ({error}); get or save it again") from error
    with _open_hdf5(content, path) as file:
        _refuse_other_files(file, path)
    if not unsafe:
        refuse_code(config, str(path))
    facts = read_facts(config, str(path))
    version = shorten(str(metadata.get("keras_version", "of unknown version")), 40)
    loader = Loader.TF_KERAS if version.startswith("2.") else Loader.KERAS3
    return ModelFacts(
        f".keras archive of Keras {version}", loader, facts.input_shape, facts.output_width, facts.own_scaling
    )


def inspect_hdf5(path: Path, *, unsafe: bool) -> ModelFacts:
    """Say what an HDF5 file holds.

    Args:
        path: An ``.h5`` file.
        unsafe: Whether layers that hold code are let through.

    Raises:
        ModelError: Damaged, weights only, not of Keras, with dangerous links or layers, or not a classifier of one
            input.
    """
    with _open_hdf5(path, path) as file:
        _refuse_other_files(file, path)
        text, version = _attribute(file, "model_config"), _attribute(file, "keras_version")
        if text is None:
            _raise_without_config(file, path)
    config = parse_config(text or "", str(path))
    if not unsafe:
        refuse_code(config, str(path))
    facts = read_facts(config, str(path))
    loader = Loader.KERAS3 if version and version[:2] in ("3.", "4.") else Loader.TF_KERAS
    shown = f"HDF5 file of Keras {shorten(version, 40) if version else 'of unknown version'}"
    return ModelFacts(shown, loader, facts.input_shape, facts.output_width, facts.own_scaling)


def _check_entries(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if len(entries) > _MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_MODEL_BYTES:
        raise ModelError(
            f"{path}: expected at most {_MAX_ENTRIES} entries of {MAX_MODEL_BYTES >> 30} GiB unpacked, got more"
        )
    if _CONFIG not in names or _WEIGHTS not in names or _METADATA not in names:
        inside = next((name for name in sorted(names) if name.endswith((".h5", ".keras", "saved_model.pb"))), None)
        hint = f"unpack it and give {shorten(repr(inside), 80)}" if inside else "it is another kind of zip"
        raise ModelError(f"{path}: expected a .keras archive with {_CONFIG} and {_WEIGHTS}, got none of that; {hint}")
    for name in names:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in name:
            raise ModelError(f"{path}: its entry {shorten(repr(name), 80)} points out of the archive; do not trust it")


def _read_entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    with archive.open(name) as entry:
        data = entry.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelError(f"{path}: expected {name} of at most {MAX_CONFIG_BYTES >> 20} MiB, got more")
    return data


@contextlib.contextmanager
def _open_hdf5(source: Path | IO[bytes], path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(source, "r") as file:
            yield file
    except _HDF5_ERRORS as error:
        raise ModelError(
            f"{path}: its HDF5 content is cut off or damaged ({shorten(str(error), 100)}); get or save it again"
        ) from error


def _refuse_other_files(file: Any, path: Path) -> None:
    """HDF5 can point into other files of this machine by external links, external storage and virtual datasets."""
    import h5py

    bad: list[str] = []

    def visit_link(name: str, link: object) -> bool | None:
        if isinstance(link, h5py.ExternalLink):
            bad.append(name)
        return bool(bad) or None

    def visit(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            bad.append(name)
        return bool(bad) or None

    file.visititems_links(visit_link)
    if not bad:
        file.visititems(visit)
    if bad:
        raise ModelError(
            f"{path}: its entry {shorten(repr(bad[0]), 80)} points to another file; save the model again into one file"
        )


def _attribute(file: Any, name: str) -> str | None:
    value = file.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _raise_without_config(file: Any, path: Path) -> None:
    if "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file:
        raise ModelError(
            f"{path}: holds weights only, without the layers that they belong to; save the whole model "
            "(model.save in place of model.save_weights)"
        )
    raise ModelError(f"{path}: is an HDF5 file but not of Keras (no model_config); expected a saved Keras model")
