"""An interrupted training goes on with the same curve, and nothing of it is ever half written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.programs import check_refusal
from support.training import QUICK, curve

PROGRAM = Path(sys.executable).with_name("edge-train")


def start_and_kill(command, after, wait_s):
    """Run a training and kill it a while after a line of standard error that begins with ``after``."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(after):
                break
        else:
            pytest.fail("the training ended before it could be killed")
        time.sleep(wait_s)
        os.kill(process.pid, signal.SIGKILL)
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_curve(run_program, colored_images, tmp_path):
    changes = ("--set", "augment.rotation=0.1", "--set", "head.dropout=0.5", "--set", "augment.mixup=0.2")
    options = ("run", "--data", colored_images, "--image-size", "32", "--batch-size", "8", "--epochs", "40", *changes)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_program("edge-train", *options, "--out", whole)
    assert done.returncode == 0, done.stderr
    start_and_kill([PROGRAM, *options, "--out", killed], "epoch 1/", 1.0)
    assert not killed.exists()
    assert (tmp_path / "killed.training" / "state.npz").is_file()

    refused = run_program("edge-train", *options, "--out", killed)
    says = "holds an interrupted training; continue it with --resume or start again with --overwrite"
    check_refusal(refused, 7, says)
    other = run_program("edge-train", *options, "--out", killed, "--resume", "--seed", "9")
    check_refusal(other, 2, "the interrupted training ran with another recipe (seed = 1)")

    done = run_program("edge-train", *options, "--out", killed, "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch" in done.stderr
    assert curve(killed) == curve(whole)
    assert not (tmp_path / "killed.training").exists()
    scores = [json.loads((run / "metrics.json").read_text())["splits"] for run in (whole, killed)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_kill_before_the_first_epoch_leaves_nothing_that_is_in_the_way(run_program, colored_images, tmp_path):
    arguments = ("run", "--data", colored_images, "--out", tmp_path / "killed", *QUICK)
    start_and_kill([PROGRAM, *arguments], "colors: 60 images", 0.5)
    assert not (tmp_path / "killed").exists()
    done = run_program("edge-train", *arguments)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]


def test_two_trainings_into_one_place_are_kept_apart(run_program, colored_images, tmp_path):
    from train.fitting.training_state import locked

    with locked(tmp_path / "run.training"):
        done = run_program("edge-train", "run", "--data", colored_images, "--out", tmp_path / "run", *QUICK)
    check_refusal(done, 7, "another training is running there")


@pytest.mark.slow
def test_a_damaged_state_is_one_sentence(run_program, colored_images, tmp_path):
    (tmp_path / "run.training").mkdir()
    (tmp_path / "run.training" / "state.npz").write_bytes(b"PK\x03\x04 no zip")
    command = ("edge-train", "run", "--data", colored_images, "--out", tmp_path / "run", *QUICK)
    check_refusal(run_program(*command, "--resume"), 4, "is damaged; start again with --overwrite")
    assert run_program(*command, "--overwrite").returncode == 0
