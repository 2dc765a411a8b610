"""Damaged models are refused or run; whatever they do to a runtime, this process lives on."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest

from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import ModelOptions, find_model
from edge_runtime.model.sandbox import SandboxOutcome, try_models
from edge_runtime.testing import write_tiny_model
from edge_runtime.tflite.flatbuffer import DamageError
from edge_runtime.tflite.validation import check_structure

CORAL = (
    "mobilenet_v1_0.25_128_quant.tflite",
    "mobilenet_v1_0.25_128_quant_edgetpu.tflite",
    "tf2_mobilenet_v2_1.0_224_ptq.tflite",
)
FLIPS = 1000
TOGETHER = 50  # files on the disk at a time


def flipped(data, count, seed=0):
    """Copies with one bit changed each."""
    rng = np.random.default_rng(seed)
    for position, bit in zip(rng.integers(0, len(data), count), rng.integers(0, 8, count), strict=True):
        changed = bytearray(data)
        changed[position] ^= 1 << int(bit)
        yield bytes(changed)


def try_all(models, folder):
    """Try models that are never all on the disk together."""
    trials = []
    folder.mkdir()
    paths = [folder / f"{number}.tflite" for number in range(TOGETHER)]
    while batch := list(islice(models, TOGETHER)):
        for path, data in zip(paths, batch, strict=False):
            path.write_bytes(data)
        trials += try_models(paths[: len(batch)])
    return trials


def check_told(trials):
    """Each went well, or has a sentence."""
    for trial in trials:
        assert trial.ok or (trial.reason and "\n" not in trial.reason)
        assert trial.outcome in (SandboxOutcome.OK, SandboxOutcome.REFUSED, SandboxOutcome.CRASHED)  # nothing hangs


def test_a_damaged_tiny_model_is_refused_or_runs(tmp_path):
    data = write_tiny_model(tmp_path / "tiny.tflite", with_manifest=False).read_bytes()
    trials = try_all(flipped(data, 100), tmp_path / "flips")
    assert len(trials) == 100
    check_told(trials)
    outcomes = {trial.outcome for trial in trials}
    assert {SandboxOutcome.OK, SandboxOutcome.REFUSED} <= outcomes
    cuts = try_all((data[:size] for size in range(0, len(data), 40)), tmp_path / "cuts")
    assert {trial.outcome for trial in cuts} == {SandboxOutcome.REFUSED}


@pytest.mark.parametrize("name", CORAL)
def test_corals_models_cut_at_every_kilobyte_are_refused(name, real_data, tmp_path):
    path = real_data("coral") / name
    data = memoryview(path.read_bytes())
    # Their labels lie in a zip behind the model, which is whole without them.
    whole = bytes(data).index(b"PK\x03\x04", 4096)
    for size in range(0, len(data), 1024):
        if size < whole:
            with pytest.raises(DamageError):
                check_structure(data[:size])
    for size in (0, 1024, whole // 2048 * 1024, whole - 16):
        cut = tmp_path / "cut.tflite"
        cut.write_bytes(data[:size])
        with pytest.raises(EdgeKitError, match=r"^[^\n]+$"):
            find_model(cut, options=ModelOptions())


@pytest.mark.slow
@pytest.mark.parametrize("name", CORAL)
def test_corals_models_with_a_flipped_bit_are_refused_or_run(name, real_data, tmp_path):
    data = (real_data("coral") / name).read_bytes()
    shares = [(tmp_path / str(seed), flipped(data, FLIPS // 2, seed)) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        trials = [trial for share in pool.map(lambda pair: try_all(pair[1], pair[0]), shares) for trial in share]
    assert len(trials) == FLIPS
    check_told(trials)
    if "edgetpu" not in name:
        # Most bits are those of weights.
        assert sum(trial.ok for trial in trials) > FLIPS // 2
