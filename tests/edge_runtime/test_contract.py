"""The contract: strict both ways, and wrong values named by their field."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract import (
    Artifact,
    Check,
    Crop,
    Head,
    InputSpec,
    Manifest,
    OutputSpec,
    TensorSpec,
    TrainingSummary,
    Variant,
)
from edge_runtime.errors import ManifestError
from edge_runtime.strict import from_mapping


def example_manifest():
    tensor = TensorSpec("image", "uint8", (1, 160, 160, 3), 1.0, 0)
    check = Check("litert 2.3.0", "validation", 250, 0.97, 0.972, 0.99, 0.1, 0.05, 1.0, True)
    artifact = Artifact(Variant.INT8, "cats-int8.tflite", "a" * 64, 600_000, tensor, tensor, "tflite 2.3.0", check)
    training = TrainingSummary("mobilenetv2", "none", "tensorflow", 3, "cats", "b" * 64, {"train": 2}, {"x": 0.5})
    spec = InputSpec(160, 160, Crop.CENTER, 0.875)
    return Manifest("cats", ("cat", "dög"), spec, OutputSpec(Head.SOFTMAX, 0.0), training, (artifact,))


def changed(path, value):
    """The example's JSON with one field replaced (``...`` removes it)."""
    data = json.loads(example_manifest().to_json())
    target = data
    *parents, last = path.split(".")
    for parent in parents:
        target = target[int(parent) if isinstance(target, list) else parent]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(data)


def test_a_manifest_survives_the_round_trip_and_the_part_inside_an_artifact_names_no_artifact():
    manifest = example_manifest()
    inner = manifest.without_artifacts()
    assert inner.artifacts == ()
    for one in (manifest, inner):
        assert Manifest.from_json(one.to_json()) == one
        assert Manifest.from_json(one.to_json()).to_json() == one.to_json()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("input.width", ..., "manifest.input.width: missing field"),
        ("input.depth", 3, "manifest.input.depth: unknown field"),
        ("input.width", "160", "manifest.input.width: expected an integer, got text"),
        ("input.width", True, "manifest.input.width: expected an integer, got a boolean"),
        ("input.width", 0, "manifest.input: width must be 1 to 4096 pixels, got 0"),
        ("input.crop", "centre", "manifest.input.crop: expected one of center, stretch, letterbox"),
        ("input.crop_fraction", 1.5, "crop_fraction must be above 0 and at most 1"),
        ("labels", ["cat"], "at least two labels"),
        ("labels", ["cat", "cat"], "labels must differ"),
        ("labels", ["cat", "do\x1bg"], "printable"),
        ("labels", "cat", "manifest.labels: expected a list, got text"),
        ("model_name", "../cats", "model_name"),
        ("artifacts.0.file", "../../etc/passwd", "plain file name"),
        ("artifacts.0.file", "..", "plain file name"),
        ("artifacts.0.file", "a" * 300, "plain file name"),
        ("artifacts.0.file", "a\0b", "plain file name"),
        ("artifacts.0.sha256", "A" * 64, "sha256"),
        ("artifacts.0.variant", "int4", "manifest.artifacts[0].variant: expected one of float32"),
        ("artifacts.0.check.passed", 1, "manifest.artifacts[0].check.passed: expected a boolean"),
        ("schema_version", 99, "schema_version: expected 2, got 99"),
        ("training.metrics", {"x": "high"}, "manifest.training.metrics.x: expected a number"),
        ("training.metrics", {"x": 10**400}, "x: expected a number of at most 1.8e+308, got an integer of 1329 "),
        ("input.crop_fraction", -(10**400), "manifest.input.crop_fraction: expected a number of at most"),
        ("input.crop", [10**400], "center, stretch, letterbox, got [1000"),
        ("model_name", 10**400, "manifest.model_name: expected text, got an integer (1000"),
    ],
)
def test_a_wrong_field_is_named(path, value, message):
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(changed(path, value))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_value_that_python_will_not_write_out_is_a_manifest_error():
    # TOML knows hexadecimal integers, so there may be more digits than Python turns into decimal ones.
    huge = 1 << 20_000
    for field, message in (
        ("crop", "expected one of center, .*, got a value too large to show"),
        ("crop_fraction", r"expected a number of at most 1\.8e\+308, got an integer of 20001 bits"),
    ):
        with pytest.raises(ManifestError, match=rf"recipe\.{field}: {message}"):
            from_mapping(InputSpec, {"height": 8, "width": 8, field: huge}, "recipe", require_all=False)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"a": NaN}', "[" * 100_000, "\xff", pytest.param(" " * (5 << 20), id="too-long")]
)
def test_what_is_no_manifest_is_one_error(text):
    with pytest.raises(ManifestError, match="at most" if len(text) > 4 << 20 else None):
        Manifest.from_json(text)


def test_a_sigmoid_head_has_two_labels_and_crop_fraction_goes_with_center_only():
    with pytest.raises(ValueError, match="two labels"):
        dataclasses.replace(example_manifest(), labels=("a", "b", "c"), output=OutputSpec(Head.SIGMOID, 0.5))
    with pytest.raises(ValueError, match="crop_fraction"):
        InputSpec(160, 160, Crop.STRETCH, 0.875)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(field=st.sampled_from(["labels", "input", "output", "training", "artifacts", "model_name"]), value=json_values)
def test_any_json_in_any_field_parses_or_is_a_manifest_error(field, value):
    try:
        manifest = Manifest.from_json(changed(field, value))
    except ManifestError:
        return
    assert json.loads(manifest.to_json())[field] == value
