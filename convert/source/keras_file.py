"""Inspect a ``.keras`` archive or HDF5 file and its layer configuration as untrusted data, without loading a model.

Both Keras 2 and Keras 3 describe a model as nested tables of ``class_name`` and ``config``. Nothing is instantiated.
Content that would run code, read other files or fill the memory once Keras opens the file is refused.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from convert.options import UNSAFE_MEANS, Loader, ModelFacts
from convert.source.keras_names import CLASSES, FUNCTIONS, TENSORFLOW_FUNCTIONS
from convert.source.operators import CALCULATING
from edge_runtime.errors import ModelError, shorten
from edge_runtime.model import protobuf
from edge_runtime.platform.zips import ZIP_ERRORS

MAX_CONFIG_BYTES = 64 << 20
MAX_MODEL_BYTES = 4 << 30
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MAX_ENTRIES = 10_000
# A model of at most 64 MiB may be compressed as far as it goes, others to a 32nd.
_SMALL_BYTES, _MAX_RATIO = 64 << 20, 32
# h5py raises any of these for errors of libhdf5.
_HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, SystemError)
_MODELS = ("Sequential", "Functional", "Model")
_OP_LAYERS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")
# Modules of serialized objects. Loading imports the module that the file names.
_KERAS_MODULE = re.compile(
    r"(tf_)?keras(\.src)?(\.(activations|applications|constraints|dtype_policies|engine|initializers|layers|losses"
    r"|metrics|mixed_precision|models|ops|optimizers|quantizers|random|regularizers)(\.[A-Za-z0-9_]+)*)?"
    r"|tensorflow\.python\.ops\.init_ops_v2"  # initializers of Keras 2
)
# Layers that keep the number of channels.
_SAME_WIDTH = frozenset(
    {
        *("Activation", "ActivityRegularization", "BatchNormalization", "Dropout", "Identity", "LayerNormalization"),
        *("LeakyReLU", "ReLU", "Sigmoid", "Softmax", "AveragePooling2D", "MaxPooling2D", "GlobalAveragePooling2D"),
        "GlobalMaxPooling2D",
    }
)
_MAX_NESTING = 50


def inspect_archive(path: Path, *, unsafe: bool) -> ModelFacts:
    """Inspect a ``.keras`` file; ``unsafe`` accepts layers that contain code.

    Raises:
        ModelError: Not a complete Keras archive, one with dangerous entries or layers, or not a classifier with one
            input.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, path)
            config = parse_config(_read_entry(archive, _CONFIG, path), str(path))
            metadata = parse_config(_read_entry(archive, _METADATA, path), str(path))
            with archive.open(_WEIGHTS) as weights:
                # In memory: libhdf5 seeks back and forth, which is slow in a compressed entry.
                content = io.BytesIO(weights.read())
    except ZIP_ERRORS as error:
        raise ModelError(f"{path}: this .keras file is cut off or damaged ({error}); get or save it again") from error
    with _open_hdf5(content, path) as file:
        _check_content(file, path)
    version = shorten(str(metadata.get("keras_version", "of unknown version")), 40)
    loader = Loader.TF_KERAS if version.startswith("2.") else Loader.KERAS3
    return read_facts(config, path, f".keras archive of Keras {version}", loader, unsafe=unsafe)


def inspect_hdf5(path: Path, *, unsafe: bool) -> ModelFacts:
    """Inspect an HDF5 file; ``unsafe`` accepts layers that contain code.

    Raises:
        ModelError: Damaged, weights only, not of Keras, with dangerous links or layers, or not a classifier with one
            input.
    """
    with _open_hdf5(path, path) as file:
        _check_content(file, path)
        text, version = _attribute(file, "model_config"), _attribute(file, "keras_version")
        if text is None:
            _raise_without_config(file, path)
    loader = Loader.KERAS3 if version and version[:2] in ("3.", "4.") else Loader.TF_KERAS
    shown = f"HDF5 file of Keras {shorten(version, 40) if version else 'of unknown version'}"
    return read_facts(parse_config(text or "", str(path)), path, shown, loader, unsafe=unsafe)


def parse_config(text: str | bytes, where: str) -> dict[str, Any]:
    """Parse the JSON text of a model's configuration.

    Raises:
        ModelError: Too large, not JSON, or not a table.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelError(f"{where}: expected a configuration of at most {MAX_CONFIG_BYTES >> 20} MiB, got more")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: its configuration is not valid JSON; the file is damaged") from error
    if not isinstance(config, dict):
        raise ModelError(f"{where}: expected a configuration with a table of layers, got something else")
    return config


def refuse_code(config: dict[str, Any], where: str) -> None:
    """Raise ModelError for anything that is not on the lists of `convert.source.keras_names`, at any depth."""
    for table in _tables(config):
        inner = table.get("config")
        details = inner if isinstance(inner, dict) else {}
        name = shorten(repr(details.get("name", table.get("class_name"))), 80)
        activations = [value for key, value in details.items() if key.endswith("activation")]
        if any(value == "<lambda>" or (isinstance(value, dict) and "class_name" not in value) for value in activations):
            raise ModelError(
                f"{where}: the activation of layer {name} is a Python lambda; replace it by a function of Keras, or "
                "export the model as a SavedModel (model.export) and convert that"
            )
        _refuse_foreign_class(table, name, where)
        if "class_name" in table and (problem := _unlisted(table, details)):
            raise ModelError(
                f"{where}: layer {name} {problem}, which is not on the list of those that only calculate; replace it "
                "by layers of Keras, export the model as a SavedModel (model.export), or pass --unsafe, "
                f"{UNSAFE_MEANS}"
            )
        for value in activations:
            if isinstance(value, str) and value not in FUNCTIONS and value not in CLASSES:
                raise ModelError(
                    f"{where}: the activation of layer {name} is {shorten(repr(value), 80)}, which is not on the list "
                    f"of those that only calculate; replace it by one of Keras, or pass --unsafe, {UNSAFE_MEANS}"
                )


def read_facts(config: dict[str, Any], path: Path, shown: str, loader: Loader, *, unsafe: bool) -> ModelFacts:
    """Read input shape, output width and own scaling of a configuration; ``shown`` is format and version in words.

    Raises:
        ModelError: Code in a layer, several inputs or outputs, or a model whose class is not in the file.
    """
    class_name = config.get("class_name")
    if class_name not in _MODELS:
        raise ModelError(
            f"{path}: expected a Sequential or functional Keras model, got the class "
            f"{shorten(repr(class_name), 80)}, whose code is not in the file; "
            "export it as a SavedModel (model.export) and convert that"
        )
    if not unsafe:
        refuse_code(config, str(path))
    for what, key in (("input", "input_layers"), ("output", "output_layers")):
        count = len(_references(_config_of(config).get(key)))
        if count > 1:
            raise ModelError(f"{path}: expected a classifier with one {what}, got {count} {what}s")
    return ModelFacts(shown, loader, _input_shape(config), _output_width(config), _own_scaling(config))


def _refuse_foreign_class(table: dict[str, Any], name: str, where: str) -> None:
    class_name, module, registered = table.get("class_name"), table.get("module"), table.get("registered_name")
    custom = any(isinstance(name, str) and ">" in name and name not in CLASSES for name in (registered, class_name))
    if custom or (isinstance(class_name, str) and module is not None and not _is_keras(module, class_name)):
        raise ModelError(
            f"{where}: {name} is of the class {shorten(str(registered or class_name), 80)}"
            f"{f' of {shorten(str(module), 80)}' if module else ''}, whose code is neither in Keras nor in the file; "
            "export the model as a SavedModel (model.export) and convert that"
        )


def _is_keras(module: object, class_name: str) -> bool:
    if module == "builtins":
        return class_name in ("function", "__tuple__", "slice", "dict", "list", "NoneType")
    return isinstance(module, str) and _KERAS_MODULE.fullmatch(module) is not None


def _unlisted(table: dict[str, Any], details: dict[str, Any]) -> str:
    """Say in words what of a serialized object is not on the lists; empty if all of it is."""
    class_name, registered = table["class_name"], table.get("registered_name")
    if class_name in _OP_LAYERS:
        function = details.get("function")
        is_called = class_name in ("SlicingOpLambda", "TFOpLambda") and _is_one_of(TENSORFLOW_FUNCTIONS, function)
        named = details.get("cls_symbol") if function is None else function
        return "" if is_called else f"calls the TensorFlow function {shorten(str(named), 60)}"
    if class_name == "TensorFlowOpLayer":
        operator = _operator(details.get("node_def"))
        return "" if operator in CALCULATING else f"runs the TensorFlow operator {shorten(operator, 60)}"
    if class_name == "function":
        # Keras looks a function up under either name.
        names = [table.get("config"), *([registered] if registered not in (None, "function") else [])]
        bad = [name for name in names if not _is_one_of(FUNCTIONS, name)]
        return f"names the function {shorten(str(bad[0]), 60)}" if bad else ""
    if details.get("function_type") == "lambda" or not _is_one_of(CLASSES, class_name):
        return f"is a {shorten(str(class_name), 60)} layer"
    if registered is not None and not _is_one_of(CLASSES, registered):
        return f"is a {shorten(str(registered), 60)} layer"
    return ""


def _is_one_of(names: frozenset[str], value: object) -> bool:
    return isinstance(value, str) and value in names


def _operator(node: object) -> str:
    """Name of the operator that a TensorFlowOpLayer runs: its node is a table, or a protocol buffer as text."""
    if isinstance(node, dict):
        return str(node.get("op"))
    try:
        return protobuf.text(memoryview(str(node).encode()), 2)
    except (protobuf.WireError, UnicodeEncodeError):
        return "of a damaged node"


def _tables(config: object) -> Iterator[dict[str, Any]]:
    """Yield every table at any depth, without recursion, so that deep nesting is harmless."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _config_of(layer: dict[str, Any]) -> dict[str, Any]:
    config = layer.get("config")
    # The oldest Sequential files contain the list of layers itself.
    return {"layers": config} if isinstance(config, list) else config if isinstance(config, dict) else {}


def _layers(model: dict[str, Any]) -> list[dict[str, Any]]:
    layers = _config_of(model).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _references(value: object) -> list[str]:
    """Names of layers in ``input_layers`` or ``output_layers``: ``[name, 0, 0]``, or a list or table of these."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list) and item and isinstance(item[0], str):
            found.append(item[0])
        elif isinstance(item, list):
            waiting.extend(item)
    return found


def _input_shape(model: dict[str, Any], depth: int = 0) -> tuple[int | None, ...] | None:
    layers = _layers(model)
    named = _references(_config_of(model).get("input_layers"))
    chosen = [layer for layer in layers if _name(layer) in named] if named else layers[:1]
    for layer in chosen:
        if (shape := _stated_shape(layer, "batch_shape", "batch_input_shape")) is not None:
            return shape
        if layer.get("class_name") in _MODELS and depth < _MAX_NESTING:
            return _input_shape(layer, depth + 1)
    return _stated_shape(model, "build_input_shape")


def _stated_shape(layer: dict[str, Any], *keys: str) -> tuple[int | None, ...] | None:
    shapes = [_config_of(layer).get(key) for key in keys]
    valid = [s for s in shapes if isinstance(s, list) and all(size is None or type(size) is int for size in s)]
    return tuple(valid[0]) if valid else None


def _own_scaling(model: dict[str, Any], depth: int = 0) -> float | None:
    """Factor of the first layer, if it scales; augmentation layers are skipped."""
    for layer in _layers(model):
        class_name, config = str(layer.get("class_name")), _config_of(layer)
        if class_name in _MODELS and depth < _MAX_NESTING:
            return _own_scaling(layer, depth + 1)
        if class_name == "Rescaling":
            return _number(config.get("scale"))
        if class_name == "TrueDivide" or (class_name == "TFOpLambda" and config.get("function") == "math.truediv"):
            divisor = next((value for value in map(_number, _scalars(layer.get("inbound_nodes"))) if value), None)
            return 1.0 / divisor if divisor else None
        if class_name != "InputLayer" and not class_name.startswith("Random"):
            return None
    return None


def _scalars(nodes: object) -> Iterator[object]:
    """Yield an operation's constants: ``{"y": 127.5}`` in Keras 2, ``"args": [tensor, 127.5]`` in Keras 3."""
    for table in _tables(nodes):
        yield table.get("y")
        arguments = table.get("args")
        if isinstance(arguments, list):
            yield from arguments[1:]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _output_width(model: dict[str, Any], depth: int = 0) -> int | None:
    """Width of the last layer, found behind layers that keep it."""
    layers = _layers(model)
    by_name = {_name(layer): layer for layer in layers}
    named = _references(_config_of(model).get("output_layers"))
    layer = by_name.get(named[0]) if named else layers[-1] if layers else None
    for _ in range(_MAX_NESTING):
        if layer is None:
            return None
        class_name, config = layer.get("class_name"), _config_of(layer)
        if class_name in _MODELS:
            return _output_width(layer, depth + 1) if depth < _MAX_NESTING else None
        key = {"Dense": "units", "Conv2D": "filters"}.get(str(class_name))
        if key:
            width = config.get(key)
            return width if type(width) is int else None
        if class_name not in _SAME_WIDTH:
            return None
        if named:
            layer = by_name.get(_feeder(layer) or "")
        else:
            index = next(index for index, other in enumerate(layers) if other is layer)
            layer = layers[index - 1] if index else None
    return None


def _feeder(layer: dict[str, Any]) -> str | None:
    """Name of the layer that feeds a layer, in either notation."""
    nodes = layer.get("inbound_nodes")
    for table in _tables(nodes):
        history = table.get("keras_history")
        if isinstance(history, list) and history:
            return str(history[0])
    names = _references(nodes)
    return names[0] if names else None


def _name(layer: dict[str, Any]) -> str:
    return str(layer.get("name") or _config_of(layer).get("name"))


def _check_entries(archive: zipfile.ZipFile, path: Path) -> None:
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if len(entries) > _MAX_ENTRIES:
        raise ModelError(f"{path}: expected at most {_MAX_ENTRIES} entries, got {len(entries)}")
    _check_unpacked(sum(entry.file_size for entry in entries), path)
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


def _check_content(file: Any, path: Path) -> None:
    """Refuse data that reads other files (external links and storage, virtual data sets) or unpacks to far more."""
    import h5py

    bad: list[str] = []
    unpacked, is_deep = 0, False

    def visit_link(name: str, link: object) -> bool | None:
        nonlocal is_deep
        if isinstance(link, h5py.ExternalLink):
            bad.append(name)
        # The time that a visit takes grows with the square of the depth.
        is_deep = name.count("/") > _MAX_NESTING
        return bool(bad) or is_deep or None

    def visit(name: str, item: Any) -> bool | None:
        nonlocal unpacked
        if isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                bad.append(name)
            # One chunk is unpacked whole, however small the part of it that belongs to the data set.
            unpacked += max(item.size or 0, math.prod(item.chunks or (0,))) * item.dtype.itemsize
        return bool(bad) or None

    file.visititems_links(visit_link)
    if is_deep:
        raise ModelError(f"{path}: expected groups at most {_MAX_NESTING} deep, got more; do not trust it")
    if not bad:
        file.visititems(visit)
    if bad:
        raise ModelError(
            f"{path}: its entry {shorten(repr(bad[0]), 80)} points to another file; save the model again into one file"
        )
    _check_unpacked(unpacked, path)


def _check_unpacked(size: int, path: Path) -> None:
    """Raise ModelError if a file unpacks to far more than it holds; weights can hardly be compressed."""
    most = min(MAX_MODEL_BYTES, _MAX_RATIO * path.stat().st_size + _SMALL_BYTES)
    if size > most:
        raise ModelError(
            f"{path}: expected at most {most >> 20} MiB of weights in a file of its size, got {size >> 20} MiB; it is "
            "damaged or made to fill the memory, so do not trust it"
        )


def _attribute(file: Any, name: str) -> str | None:
    value = file.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _raise_without_config(file: Any, path: Path) -> None:
    if "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file:
        raise ModelError(
            f"{path}: contains only weights, without their layers; save the whole model "
            "(model.save instead of model.save_weights)"
        )
    raise ModelError(f"{path}: is an HDF5 file but not of Keras (no model_config); expected a saved Keras model")
