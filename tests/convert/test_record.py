"""``conversion.json``: what is written is what is read, and nothing else is."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert import record as record_module
from convert.record import CalibrationPoint, ConversionRecord, LeftOut, Step
from edge_runtime.contract import Variant
from edge_runtime.errors import ManifestError
from support.conversion_records import sample_record

SMALL = sample_record(images=40, variants=(Variant.FLOAT32, Variant.INT8_PER_TENSOR))


def test_a_record_survives_the_disk_and_is_the_same_bytes_each_time():
    record = sample_record(("cat", "Hündin", "猫"), images=60, left_out=(LeftOut("edgetpu", "no \udcff compiler"),))
    text = record.to_json()
    assert ConversionRecord.from_json(text) == record
    assert ConversionRecord.from_json(text.encode()).to_json() == text
    assert text.endswith("}\n")
    text = replace(record, calibration=None).to_json()
    assert ConversionRecord.from_json(text).to_json() == text


def test_what_passed_and_what_failed():
    assert [variant.artifact.variant for variant in SMALL.passed] == [Variant.FLOAT32]
    assert [variant.artifact.variant for variant in SMALL.failed] == [Variant.INT8_PER_TENSOR]


def changed(path, value):
    data = json.loads(SMALL.to_json())
    *parents, last = path.split(".")
    place = data
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("unknown", 1, r"conversion.json.unknown: unknown field"),
        ("labels", ["cat"], "at least two labels"),
        ("check_images", "40", "check_images: expected an integer, got text"),
        ("check_images", 1, "a flip is of image"),
        ("seconds", -1.0, "seconds must be 0 or more"),
        ("schema_version", 2, "expected 1, got 2; use the edgekit release"),
        ("variants.0.latency_ms", float("inf"), "not valid JSON"),
        ("variants.0.comparison.mcnemar_p", 1.5, r"variants\[0\].comparison: mcnemar_p must be 0 to 1"),
        ("variants.0.comparison.accuracy_interval", [0.5], "accuracy_interval must be a lower and an upper end"),
        ("variants.0.comparison.drop_interval_points", [2.0, 1.0], "drop_interval_points must be a lower"),
        ("variants.1.comparison.flips.0.index", -1, "index must be 0 or more"),
        ("variants.1.comparison.flip_pairs.0.count", 0, "count must be 1 or more"),
        ("variants.1.steps.0.accuracy", 2.0, "accuracy must be 0 to 1"),
        ("variants.1.steps.0.bytes", 1.5, "expected an integer"),
        ("calibration.points.0.images", -2, "images must be 0 or more"),
        ("calibration.images", -2, "images must be 0 or more"),
        ("calibration.per_class", ["cat"], "per_class: expected a table"),
    ],
)
def test_a_wrong_field_is_named(path, value, message):
    with pytest.raises(ManifestError, match=message):
        ConversionRecord.from_json(changed(path, value))


def test_a_missing_field_and_a_number_too_large_for_a_float_are_named():
    text = SMALL.to_json().replace('"seconds": 63.4', '"seconds": 1e999')
    with pytest.raises(ManifestError, match="seconds must be 0 or more, got inf"):
        ConversionRecord.from_json(text)
    data = json.loads(SMALL.to_json())
    del data["variants"][0]["notes"]
    with pytest.raises(ManifestError, match=r"conversion.json.variants\[0\].notes: missing field"):
        ConversionRecord.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"schema_version": 1}', b"\xff\xfe\x00"])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(ManifestError):
        ConversionRecord.from_json(text)


def test_a_file_that_is_too_long_is_not_parsed(monkeypatch):
    monkeypatch.setattr(record_module, "MAX_RECORD_BYTES", 100)
    with pytest.raises(ManifestError, match="expected at most 100 bytes"):
        ConversionRecord.from_json(SMALL.to_json())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["labels", "variants", "calibration", "left_out", "settings", "variants.0", "variants.0.artifact"]


@given(st.sampled_from([*FIELDS, "variants.0.comparison", "variants.0.comparison.check.accuracy"]), JSON_VALUES)
def test_any_other_value_is_read_or_refused_with_a_sentence(path, value):
    if path.endswith("0"):
        path, value = "variants", [value]
    try:
        record = ConversionRecord.from_json(changed(path, value))
    except ManifestError:
        return
    assert ConversionRecord.from_json(record.to_json()) == record


def test_steps_and_points_check_their_figures():
    with pytest.raises(ValueError, match="agreement must be 0 to 1"):
        CalibrationPoint(10, 0.5, 1.5)
    with pytest.raises(ValueError, match="latency_ms must be 0 or more"):
        Step("rounding", 0.5, 0.5, 10, float("nan"), passed=True)
