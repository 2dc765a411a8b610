"""`edge-convert run` as its user sees it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from convert.cli import cli
from convert.options import (
    DEFAULT_VARIANTS,
    CalibrationMethod,
    ForeignOptions,
    InputRange,
    ModelColor,
    ModelOutput,
    Options,
    QuantizeSettings,
    Repair,
    Rounding,
)
from convert.tflite_model import unpack_model
from edge_runtime.contract import GOLDEN_FILE, Crop, Variant
from edge_runtime.model.bundle import read_bundle_manifest
from support.programs import run_code

REPORTS = {"conversion.html", "conversion.md", "conversion.json"}


def test_a_bundle_holds_what_the_design_says(small_bundle, small_run):
    files = {f"colors-{v.value}{v.suffix}" for v in Variant if v is not Variant.EDGETPU}
    assert len(files) == 8
    names = {path.name for path in small_bundle.iterdir()}
    assert names == files | REPORTS | {"manifest.json", "labels.txt", "golden.npz"}
    assert (small_bundle / "labels.txt").read_text() == "blue\nred\n"
    manifest = read_bundle_manifest(small_bundle)
    assert manifest.without_artifacts() == read_bundle_manifest(small_run)
    assert tuple(artifact.variant for artifact in manifest.artifacts) == DEFAULT_VARIANTS
    for artifact in manifest.artifacts:
        assert artifact.bytes == (small_bundle / artifact.file).stat().st_size
        assert (artifact.check.images, artifact.check.split) == (8, "validation")
        expected = "onnxruntime" if artifact.file.endswith(".onnx") else "litert"
        assert artifact.check.engine.startswith(expected)
        if "float32" in artifact.variant.value:
            assert artifact.check.max_probability_difference <= 1e-5
        assert artifact.check.agreement == 1.0


def test_integers_are_smaller_than_floats_and_say_their_runtime(small_bundle):
    sizes = {a.variant: (a.bytes, a.minimum_runtime) for a in read_bundle_manifest(small_bundle).artifacts}
    for variant in (Variant.INT8, Variant.INT8_PER_TENSOR, Variant.INT16X8, Variant.DYNAMIC):
        assert sizes[variant][0] < 0.4 * sizes[Variant.FLOAT32][0]
    assert sizes[Variant.FLOAT16][0] < 0.6 * sizes[Variant.FLOAT32][0]
    assert sizes[Variant.ONNX_INT8][0] < 0.4 * sizes[Variant.ONNX_FLOAT32][0]
    assert sizes[Variant.INT8_PER_TENSOR][1] == "tflite 1.14.0"
    assert sizes[Variant.ONNX_FLOAT32][1].startswith("onnx opset 18")


def test_the_record_tells_how_each_file_came_about(record, small_bundle):
    manifest = read_bundle_manifest(small_bundle)
    assert tuple(entry.artifact for entry in record.variants) == manifest.artifacts
    assert (record.failed, record.left_out) == ((), ())
    assert record.labels == ("blue", "red")
    assert record.check_images == 8
    assert record.calibration.images == 44
    assert sum(record.calibration.per_class.values()) == 44
    assert [point.images for point in record.calibration.points] == [8, 32, 44]
    assert record.versions["TFLite"].startswith("tensorflow ")
    assert record.versions["ONNX"].endswith(", opset 18")
    assert 0 < record.seconds < 300
    by_variant = {entry.artifact.variant: entry for entry in record.variants}
    assert all(entry.latency_ms > 0 for entry in record.variants)
    steps = [step.description for step in by_variant[Variant.INT8].steps]
    assert steps == ["weights rounded to nearest", "weights rounded by calibration, biases corrected"]
    assert by_variant[Variant.FLOAT32].steps == ()


def test_the_reports_say_the_same(record, small_bundle):
    page, text = (small_bundle / "conversion.html").read_text(), (small_bundle / "conversion.md").read_text()
    for entry in record.variants:
        assert entry.artifact.variant.value in page
        assert f"\n| {entry.artifact.variant.value} " in text
    assert page.count("<img") >= 2
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href"))


def test_golden_inputs_are_real_images_of_the_models_size(small_bundle):
    with np.load(small_bundle / GOLDEN_FILE, allow_pickle=False) as golden:
        assert set(golden) == {"images_nhwc_rgb_u8", "keras", *(variant.value for variant in DEFAULT_VARIANTS)}
        images = golden["images_nhwc_rgb_u8"]
        assert images.dtype == np.uint8
        assert images.shape == (8, 32, 32, 3)
        assert golden["keras"].shape == (8, 2)
        assert len(np.unique(images)) > 100


def test_onnx_is_valid_and_says_what_it_is(small_bundle):
    import onnx

    for variant in ("onnx-float32", "onnx-int8"):
        model = onnx.load(str(small_bundle / f"colors-{variant}.onnx"))
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["image"]
        assert [value.name for value in model.graph.output] == ["probabilities"]
        properties = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(properties["edgekit.manifest"])["labels"] == ["blue", "red"]


def test_tflite_metadata_is_what_its_schema_says(small_bundle):
    for file in small_bundle.glob("*.tflite"):
        model = unpack_model(file.read_bytes())
        entries = {entry.name.decode(): entry.buffer for entry in model.metadata}
        metadata = bytes(model.buffers[entries["TFLITE_METADATA"]].data)
        assert metadata[4:8] == b"M001"
        assert all(word in metadata for word in (b"labels.txt", b"image"))


def test_conversion_refuses_to_replace_unless_asked(run_program, small_run, small_bundle, tmp_path):
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    done = run_program("edge-convert", "run", small_run, "--out", bundle)
    assert done.returncode == 7
    assert re.match("error: .*--overwrite", done.stderr)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "int4"], "int4"),
        (["--max-drop", "-1"], "max-drop"),
        (["--calibration-images", "0"], "calibration-images"),
        (["--rounding", "stochastic"], "calibrated"),
        (["--calibration-method", "entropy"], "percentile"),
        (["--edgetpu-share", "2"], "edgetpu-share"),
        (["--input-range", "0..1"], "-1,1"),
    ],
)
def test_bad_options_are_refused_with_the_choices(arguments, message):
    done = CliRunner().invoke(cli, ["run", "no-such-run", *arguments])
    assert done.exit_code == 2
    assert message in done.output


def test_the_same_run_gives_the_same_files(run_program, small_run, small_bundle, tmp_path):
    done = run_program("edge-convert", "run", small_run, "--out", tmp_path / "b", "--max-drop", "100")
    assert done.returncode == 0, done.stderr
    for artifact in read_bundle_manifest(small_bundle).artifacts:
        same = (tmp_path / "b" / artifact.file).read_bytes() == (small_bundle / artifact.file).read_bytes()
        assert same, artifact.file


@pytest.fixture
def asked(monkeypatch, small_bundle, record):
    def ask(*arguments):
        seen = []

        def convert(*arguments, **_):
            seen.append(arguments)
            return small_bundle, record

        monkeypatch.setattr("convert.conversion.convert", convert)
        done = CliRunner().invoke(cli, ["run", "a-model", *arguments])
        assert done.exit_code == 0, done.output
        return seen[0][2]

    return ask


def test_variants_are_asked_for_by_name_and_all_are_made_that_need_nothing_else(asked):
    assert asked() == Options()
    assert Options().variants == tuple(variant for variant in Variant if variant is not Variant.EDGETPU)
    chosen = [argument for variant in Variant for argument in ("--variant", variant.value)]
    assert asked(*chosen, "--variant", "int8").variants == tuple(Variant)


def test_every_option_arrives(asked):
    options = {
        "--calibration": "photos", "--calibration-images": "7", "--seed": "3", "--max-drop": "2.5",
        "--runtime": "litert==2.3", "--edgetpu-share": "0.5", "--calibration-method": "mse", "--rounding": "nearest",
        "--repair": "off", "--repair-seconds": "9", "--float-first": "2", "--labels": "l.txt", "--input-range": "-1,1",
        "--crop": "stretch", "--crop-fraction": "0.5", "--color": "bgr", "--image-size": "96", "--output": "logits",
        "--name": "pets",
    }  # fmt: skip
    seen = asked(*(f"{name}={value}" for name, value in options.items()), "--unsafe", "--overwrite")
    assert seen == Options(
        foreign=ForeignOptions(
            Path("l.txt"), InputRange.SIGNED, Crop.STRETCH, 0.5, ModelColor.BGR, 96, ModelOutput.LOGITS, "pets", True
        ),
        calibration="photos",
        calibration_images=7,
        seed=3,
        max_drop_points=2.5,
        settings=QuantizeSettings(CalibrationMethod.MSE, Rounding.NEAREST, Repair.OFF, 9.0, 2),
        runtime="litert==2.3",
        edgetpu_share=0.5,
        overwrite=True,
    )
    command = next(option for option in cli.commands["run"].params if option.name == "model")
    assert command.required
    every = {name for option in cli.commands["run"].params for name in option.opts if name.startswith("--")}
    assert every - set(options) == {"--variant", "--out", "--add", "--unsafe", "--overwrite"}


@pytest.mark.parametrize(
    ("runtime", "is_old"), [("tflite-runtime==2.14", True), ("tflite-runtime", True), ("litert", False)]
)
def test_files_for_the_old_runtime_are_made_without_what_it_lacks(asked, runtime, is_old):
    assert asked("--runtime", runtime).settings.old_runtime is is_old


def test_a_model_that_holds_constants_converts_like_any_other(run_program, small_run, tmp_path):
    """EfficientNets begin with a Normalization layer, whose mean and variance are no variables."""
    import keras

    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    trained = keras.saving.load_model(run / "model.keras")
    image = keras.Input((32, 32, 3), name="image")
    normalized = keras.layers.Normalization(mean=[10.0, 20.0, 30.0], variance=[1.5, 2.0, 0.5])(image)
    keras.Model(image, trained(normalized)).save(run / "model.keras")
    done = run_program("edge-convert", "run", run, "--out", tmp_path / "bundle", "--max-drop", "100")
    assert done.returncode == 0, done.stderr
    assert len(read_bundle_manifest(tmp_path / "bundle").artifacts) == len(DEFAULT_VARIANTS)


def test_help_imports_nothing_heavy():
    heavy = ("numpy", "cv2", "tensorflow", "keras", "onnx", "onnxruntime", "matplotlib", "jinja2")
    heavy += ("ai_edge_litert", "flatbuffers")
    for arguments in (["--help"], ["run", "--help"], ["lint", "--help"]):
        code = (
            "import sys; from click.testing import CliRunner; from convert.cli import cli;"
            f"assert CliRunner().invoke(cli, {arguments}).exit_code == 0;"
            f"print([name for name in {heavy} if name in sys.modules])"
        )
        assert run_code(code).stdout == "[]\n", arguments


def test_help_says_something_of_every_option():
    for name, command in cli.commands.items():
        for option in command.params:
            assert not option.opts[0].startswith("-") or option.help, f"{name} {option.name}"
