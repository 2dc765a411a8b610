"""Check weight files of backbones before Keras reads them, and detect the width of a MobileNetV2.

Weight files are untrusted: they are opened as plain HDF5 and their structure is checked. A whole model is never loaded
from one, because that could run code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.errors import IntegrityError, UsageError
from train.recipe import WEIGHTS_IMAGENET, WEIGHTS_NONE, BackboneName, Recipe

_MAX_BYTES = 256 << 20
# Input channels of the last convolution, the only one whose width is the same function of alpha in every release:
# 320 * alpha made divisible by 8, see keras.applications.mobilenet_v2.
_ALPHA_BY_CHANNELS = {112: 0.35, 160: 0.5, 240: 0.75, 320: 1.0, 416: 1.3, 448: 1.4}


def with_checked_weights(recipe: Recipe) -> Recipe:
    """Check the weight file of a recipe, if it has one, and set the width multiplier of a MobileNetV2 from it.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: The file does not hold weights of this backbone.
    """
    backbone = recipe.backbone
    if backbone is None or backbone.weights in (WEIGHTS_NONE, WEIGHTS_IMAGENET):
        return recipe
    alpha = check_weights(Path(backbone.weights), backbone.name)
    return recipe if alpha is None else replace(recipe, backbone=replace(backbone, alpha=alpha))


def check_weights(path: Path, backbone: BackboneName) -> float | None:
    """Check a no-top weight file before anything is built from it.

    Args:
        path: Keras ``.h5`` weight file.
        backbone: Backbone that the weights belong to.

    Returns:
        Width multiplier of a MobileNetV2: 0.35, 0.5, 0.75, 1.0, 1.3 or 1.4; None for other backbones, whose layers
        Keras checks when it loads them.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: The file is not HDF5, or does not hold weights of this backbone.
    """
    import h5py

    if not path.is_file():
        raise UsageError(f"{path}: no such weight file; expected imagenet, none or the path of a no-top .h5 file")
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise IntegrityError(f"{path}: expected a weight file that ends in .h5")
    try:
        with h5py.File(path, "r") as file:
            _check_contained(file, path, backbone)
            kernels = _find_kernels(file)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path}: cannot be read as an HDF5 weight file ({error})") from error
    if backbone is not BackboneName.MOBILENETV2:
        return None
    channels = kernels[0][2] if len(kernels) == 1 and len(kernels[0]) == 4 else None
    if channels not in _ALPHA_BY_CHANNELS:
        raise IntegrityError(not_these_weights(path, backbone, "its layers differ"))
    return _ALPHA_BY_CHANNELS[channels]


def not_these_weights(path: Path, backbone: BackboneName, reason: str) -> str:
    """Compose the error message for a weight file that does not fit the backbone."""
    return (
        f"{path}: expected the weights of a Keras {backbone.value} without its top layer "
        f"(include_top=False), but {reason}; give such a file, imagenet or none"
    )


def _find_kernels(file: Any) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []

    def visit(name: str, item: Any) -> None:
        # Keras 2 writes Conv_1/Conv_1/kernel:0, Keras 3 the same without ":0".
        if name.split("/")[0] == "Conv_1" and name.split("/")[-1].split(":")[0] == "kernel":
            shapes.append(tuple(item.shape))

    file.visititems(visit)
    return shapes


def _check_contained(file: Any, path: Path, backbone: BackboneName) -> None:
    """Reject links and external storage, which would read other files, and more than 256 MiB of data."""
    import h5py

    links: list[str] = []
    datasets: list[tuple[str, Any]] = []

    # h5py drops exceptions raised by visitors, so they only collect.
    def visit_link(name: str, link: Any) -> None:
        if not isinstance(link, h5py.HardLink):
            links.append(name)

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets.append((name, item))

    file.visititems_links(visit_link)
    if links:
        raise IntegrityError(not_these_weights(path, backbone, f"{links[0]!r} is a link"))
    file.visititems(visit)
    for name, item in datasets:
        if item.external or item.is_virtual:
            raise IntegrityError(not_these_weights(path, backbone, f"{name!r} is stored in another file"))
    total = sum(item.size * item.dtype.itemsize for _, item in datasets)
    if total > _MAX_BYTES:
        raise IntegrityError(not_these_weights(path, backbone, f"it holds {total >> 20} MiB"))
