"""Add variants to a bundle that exists: the artifacts it holds stay, if they are of the same model and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from convert.children import GOLDEN_INPUT_FILE
from convert.record import MAX_RECORD_BYTES, RECORD_FILE, ConversionRecord, VariantRecord
from edge_runtime.contract import GOLDEN_FILE, MANIFEST_FILE, Manifest, Variant
from edge_runtime.doctor.replay import read_golden
from edge_runtime.errors import IntegrityError, OutputError
from edge_runtime.model.bundle import check_artifact, read_bundle_manifest
from edge_runtime.strict import open_regular

IMAGES = "images_nhwc_rgb_u8"
KERAS = "keras"
# Keras' outputs of two runs on one machine differ by less; those of another training differ by more.
_SAME_PROBABILITY = 1e-4


class OtherModelError(OutputError):
    """The bundle is of another model, or was checked on other images, so nothing can be added to it."""


@dataclass(frozen=True)
class Held:
    """Content of a bundle that stays when variants are added.

    Attributes:
        bundle: Folder of the bundle.
        record: Its conversion record, without the variants that are made again.
        golden: Its golden arrays by name; those of Keras and of each variant among them.
    """

    bundle: Path
    record: ConversionRecord
    golden: dict[str, NDArray[Any]]

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of the artifacts that stay, compared with their SHA-256."""
        return tuple(check_artifact(self.bundle, kept.artifact) for kept in self.record.passed)

    def check_same(
        self, work_dir: Path, *, split: str, check_images: int, max_drop_points: float, calibration_sha256: str
    ) -> None:
        """Compare what the bundle was made of with what was just exported into the work folder.

        Args:
            work_dir: Folder that holds the golden inputs and Keras' outputs for them.
            split: Name of the check images' split.
            check_images: Number of check images.
            max_drop_points: Allowed loss of accuracy, percentage points.
            calibration_sha256: SHA-256 over the list of calibration images.

        Raises:
            OtherModelError: Something differs, because the model was trained again or the images or limits are others.
        """
        record = self.record
        if (record.split, record.check_images) != (split, check_images):
            _refuse(self.bundle, f"it was checked on {record.check_images} images ({record.split}), not {check_images}")
        if record.max_drop_points != max_drop_points:
            _refuse(self.bundle, f"it was checked with --max-drop {record.max_drop_points:g}, not {max_drop_points:g}")
        if record.calibration and record.calibration.sha256 != calibration_sha256:
            _refuse(self.bundle, "its calibration images are others")
        exported = {IMAGES: GOLDEN_INPUT_FILE, KERAS: f"keras-{GOLDEN_INPUT_FILE}"}
        for name, tolerance in ((IMAGES, 0.0), (KERAS, _SAME_PROBABILITY)):
            held, new = self.golden[name], np.load(work_dir / exported[name])
            if held.shape != new.shape or not np.allclose(held, new, rtol=0, atol=tolerance):
                _refuse(self.bundle, "the model was trained again, or its images are others")

    def merge(self, record: ConversionRecord) -> ConversionRecord:
        """Combine the record with that of the added variants, in the usual order of the variants."""
        calibration = record.calibration
        if calibration and not calibration.points and self.record.calibration:
            calibration = replace(calibration, points=self.record.calibration.points)
        return replace(
            record,
            calibration=calibration,
            variants=_ordered((*self.record.variants, *record.variants)),
            left_out=(*self.record.left_out, *record.left_out),
            versions={**self.record.versions, **record.versions},
            seconds=self.record.seconds + record.seconds,
        )


def read_held(bundle: Path, manifest: Manifest, variants: Sequence[Variant], *, overwrite: bool) -> Held | None:
    """Read the content of a bundle that stays; None where no bundle exists.

    Args:
        bundle: Folder of the bundle.
        manifest: Manifest of the model that is converted, without artifacts.
        variants: Variants to add.
        overwrite: True to make variants again that the bundle holds already.

    Raises:
        OutputError: The bundle holds one of the variants already and ``overwrite`` is false.
        OtherModelError: It is of another model.
        ModelError: It is damaged.
    """
    if not (bundle.exists() or bundle.is_symlink()):
        return None
    if not (bundle / MANIFEST_FILE).is_file():
        raise OutputError(f"{bundle}: holds no {MANIFEST_FILE}, so nothing is added to it; choose another --out")
    existing = read_bundle_manifest(bundle)
    if existing.without_artifacts() != manifest.without_artifacts():
        _refuse(bundle, "its labels, input or training are others")
    again = [artifact.variant.value for artifact in existing.artifacts if artifact.variant in variants]
    if again and not overwrite:
        raise OutputError(f"{bundle}: already holds {', '.join(again)}; name other variants, or pass --overwrite")
    record = _read_record(bundle)
    names = {variant.value for variant in variants}
    kept = replace(
        record,
        variants=tuple(entry for entry in record.variants if entry.artifact.variant not in variants),
        left_out=tuple(entry for entry in record.left_out if entry.variant not in names),
    )
    golden = read_golden(bundle / GOLDEN_FILE) or {}
    missing = {IMAGES, KERAS, *(entry.artifact.variant.value for entry in kept.passed)} - set(golden)
    if missing:
        raise IntegrityError(f"{bundle / GOLDEN_FILE}: holds no {', '.join(sorted(missing))}; copy the bundle again")
    return Held(bundle, kept, golden)


def _read_record(bundle: Path) -> ConversionRecord:
    path = bundle / RECORD_FILE
    try:
        with open_regular(path) as file:
            text = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise IntegrityError(
            f"{path}: cannot be read ({error.strerror}); convert with --overwrite and without --add"
        ) from error
    return ConversionRecord.from_json(text, where=str(path))


def _ordered(records: Sequence[VariantRecord]) -> tuple[VariantRecord, ...]:
    order = list(Variant)
    return tuple(sorted(records, key=lambda record: order.index(record.artifact.variant)))


def _refuse(bundle: Path, why: str) -> NoReturn:
    raise OtherModelError(
        f"{bundle}: nothing can be added: {why}; choose another --out, or pass --overwrite to replace the whole bundle"
    )
