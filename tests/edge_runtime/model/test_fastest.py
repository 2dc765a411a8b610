"""What was measured here is remembered for these files on this machine, and nothing else is believed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract import Variant
from edge_runtime.errors import OutputError
from edge_runtime.model import bundle
from edge_runtime.model.bundle import fastest_here, read_bundle_manifest, remember_fastest

ARM = (Variant.INT8, Variant.FLOAT32)


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def manifest(tiny_bundle):
    return read_bundle_manifest(tiny_bundle)


def written(cache):
    (path,) = cache.rglob("*.json")
    return path


@pytest.mark.parametrize(("float32_ms", "int8_ms", "fastest"), [(1.0, 2.0, "float32"), (2.0, 1.0, "int8")])
def test_the_fastest_is_remembered(manifest, float32_ms, int8_ms, fastest):
    assert fastest_here(manifest) is None
    assert remember_fastest(manifest, {Variant.FLOAT32: float32_ms, Variant.INT8: int8_ms}, ARM) is Variant(fastest)
    assert fastest_here(manifest) is Variant(fastest)


@pytest.mark.parametrize("presumed", [ARM, ARM[::-1], ()])
def test_equals_are_decided_by_the_presumed_order(manifest, presumed):
    remember_fastest(manifest, {Variant.FLOAT32: 1.0, Variant.INT8: 1.02}, presumed)
    assert fastest_here(manifest) is (presumed or [Variant.FLOAT32])[0]


def test_only_variants_whose_check_passed_count(manifest):
    float32, int8 = manifest.artifacts
    assert float32.check is not None
    failed = replace(float32, check=replace(float32.check, passed=False))
    unchecked = replace(float32, check=None)
    for item in (failed, unchecked):
        partly = replace(manifest, artifacts=(item, int8))
        assert remember_fastest(partly, {Variant.FLOAT32: 1.0, Variant.INT8: 9.0}, ARM) is Variant.INT8
        assert remember_fastest(partly, {Variant.FLOAT32: 1.0}, ARM) is None
    # The files are the same, so the memory of one manifest must not override the check of the other.
    remember_fastest(manifest, {Variant.FLOAT32: 1.0, Variant.INT8: 9.0}, ARM)
    assert fastest_here(replace(manifest, artifacts=(failed, int8))) is None


def test_other_files_another_machine_or_another_runtime_know_nothing(manifest, monkeypatch):
    remember_fastest(manifest, {Variant.INT8: 1.0}, ARM)
    first, *others = manifest.artifacts
    assert fastest_here(replace(manifest, artifacts=(replace(first, sha256="0" * 64), *others))) is None
    assert fastest_here(replace(manifest, artifacts=tuple(manifest.artifacts[::-1]))) is Variant.INT8
    for name, other in (("cpu_model", "Raspberry Pi 5"), ("installed_runtimes", ["ai_edge_litert-9.dist-info"])):
        with monkeypatch.context() as patch:
            patch.setattr(bundle, name, lambda value=other: value)
            assert fastest_here(manifest) is None
    assert fastest_here(manifest) is Variant.INT8


def test_the_runtimes_are_found_without_importing_them():
    assert any(name.startswith("ai_edge_litert-") for name in bundle.installed_runtimes())


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_damage_counts_as_no_memory(manifest, cache, damage):
    remember_fastest(manifest, {Variant.INT8: 1.0}, ARM)
    path = written(cache)
    whole = path.read_bytes()
    for content in (damage, whole[: len(damage)], whole + damage.replace(b" ", b"x") + b"x"):
        path.write_bytes(content)
        assert fastest_here(manifest) is None


@pytest.mark.parametrize(
    "change",
    [{"fastest": "onnx-float32"}, {"fastest": "none"}, {"schema_version": 2}, {"more": 1}, {"latency_ms": {"x": "y"}}],
)
def test_what_does_not_fit_is_not_believed(manifest, cache, change):
    remember_fastest(manifest, {Variant.INT8: 1.0}, ARM)
    path = written(cache)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert fastest_here(manifest) is None


def test_a_memory_of_gigabytes_or_a_folder_is_not_read(manifest, cache):
    remember_fastest(manifest, {Variant.INT8: 1.0}, ARM)
    path = written(cache)
    with path.open("r+b") as file:
        file.truncate(1 << 33)
    assert fastest_here(manifest) is None
    path.unlink()
    path.mkdir()
    assert fastest_here(manifest) is None


def test_without_a_place_it_says_so_and_reading_stays_quiet(manifest, cache, monkeypatch):
    cache.write_text("a file where the folder should be")
    with pytest.raises(OutputError):
        remember_fastest(manifest, {Variant.INT8: 1.0}, ARM)
    assert fastest_here(manifest) is None

    def homeless(_manifest):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(bundle, "record_path", homeless)
    assert fastest_here(manifest) is None
    with pytest.raises(OutputError, match="EDGEKIT_CACHE"):
        remember_fastest(manifest, {Variant.INT8: 1.0}, ARM)
