"""``edge-run inspect``: what a model is, and whether its files are what they were."""

import json

from edge_runtime.testing import write_tiny_bundle, write_tiny_model
from support.images import plain_image, write_image


def test_inspect_tells_the_contract_and_that_files_are_intact(edge_run, tiny_bundle):
    code, out, err = edge_run("inspect", tiny_bundle)
    assert (code, err) == (0, "")
    texts = ["tiny", "3: red, green, blue", "8 x 8 px", "uint8 [1, 8, 8, 3], scale 0.00390625"]
    texts += ["pixels 0 to 255 unchanged", "intact", "passed"]
    assert [text for text in texts if text not in out] == []
    assert out.count("the default on this device") == 1
    code, out, _ = edge_run("inspect", tiny_bundle, "--json", "--variant", "int8")
    found = json.loads(out)
    assert (code, found["kind"], len(found["files"])) == (0, "bundle", 1)
    assert found["manifest"]["labels"] == ["red", "green", "blue"]
    assert found["files"][0]["integrity"] == "intact"
    assert found["files"][0]["check"]["passed"] is True


def test_inspect_and_classify_notice_an_altered_file(edge_run, tmp_path):
    altered = write_tiny_bundle(tmp_path / "altered")
    model = altered / "tiny-int8.tflite"
    data = bytearray(model.read_bytes())
    data[300] ^= 1
    model.write_bytes(data)
    code, out, _ = edge_run("inspect", altered)
    assert (code, out.count("integrity altered"), out.count("integrity intact")) == (4, 1, 1)
    assert "was altered or damaged" in out
    photo = write_image(tmp_path / "photo.png", plain_image(0, 9, 9))
    assert edge_run("classify", altered, photo, "--variant", "float32")[0] == 0
    for arguments in ((altered, photo, "--variant", "int8"), (model, photo)):
        code, out, err = edge_run("classify", *arguments)
        assert (code, out) == (4, "")
        assert "was altered or damaged" in err
    assert edge_run("inspect", model)[0] == 4
    (altered / "tiny-float32.tflite").unlink()
    code, out, _ = edge_run("inspect", altered)
    assert (code, "is missing" in out) == (4, True)


def test_inspect_of_a_foreign_file_says_what_is_left_to_say(edge_run, tmp_path):
    code, out, _ = edge_run("inspect", write_tiny_model(tmp_path / "foreign.tflite", with_manifest=False))
    assert (code, "--input-range" in out) == (0, False)
    assert [text for text in ("--labels FILE, one label a line (3 lines)", "--crop") if text not in out] == []
    (tmp_path / "cut.tflite").write_bytes((tmp_path / "foreign.tflite").read_bytes()[:200])
    code, out, err = edge_run("inspect", tmp_path / "cut.tflite")
    assert (code, out, err.count("\n")) == (4, "", 1)
