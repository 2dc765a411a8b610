"""The drawn faces: the same bytes for the same seed, balanced, and with no cue for a linear model but the mouth."""

import numpy as np
import pytest

from edge_runtime.workstation.datasets.smileys import LABELS, draw_smiley, iter_smileys

LINEAR_TRAIN = 900
LINEAR_TEST = 300
LINEAR_SIZE_PX = 32
RIDGES = (1e2, 1e3, 1e4, 1e5)


def test_the_same_seed_gives_the_same_bytes_whatever_the_count():
    short, long = ([(*names, image.tobytes()) for *names, image in iter_smileys(count, seed=3)] for count in (10, 20))
    assert len(short) == 10
    assert short == long[:10]


def test_no_image_comes_twice_within_a_seed_or_across_seeds():
    images = [image.tobytes() for seed in (0, 1) for _, _, image in iter_smileys(40, seed)]
    assert len(set(images)) == 80


def test_labels_take_turns_and_stems_are_unique():
    items = list(iter_smileys(30, seed=0))
    labels = [label for label, _, _ in items]
    assert {label: labels.count(label) for label in LABELS} == {"happy": 15, "sad": 15}
    assert [stem for _, stem, _ in items[:3]] == ["happy_00000", "sad_00001", "happy_00002"]
    assert len({stem for _, stem, _ in items}) == 30


@pytest.mark.parametrize("size_px", [32, 64, 128, 200])
@pytest.mark.parametrize("label", LABELS)
def test_a_image_is_square_rgb_u8_with_something_in_it(label, size_px):
    image = draw_smiley(label, np.random.default_rng(7), size_px)
    assert image.shape == (size_px, size_px, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.std() > 5


@pytest.mark.parametrize(("label", "size_px", "says"), [("angry", 32, r"'angry'.*happy, sad"), ("sad", 16, "least 32")])
def test_unknown_labels_and_too_small_images_are_refused(label, size_px, says):
    with pytest.raises(ValueError, match=says):
        draw_smiley(label, np.random.default_rng(0), size_px)


def test_both_labels_differ_in_the_mouth_alone():
    # One state of chance, both labels: all but the mouth must be the same image.
    for seed in range(60):
        happy, sad = (draw_smiley(label, np.random.default_rng(seed)).astype(int) for label in LABELS)
        changed = np.abs(happy - sad).max(axis=2) > 40
        assert 0.002 < changed.mean() < 0.2, f"seed {seed}: {changed.mean():.1%} of the image depends on the label"


def shrunk(image_hwc_rgb_u8):
    """The mean of each block of pixels, down to `LINEAR_SIZE_PX`, as a vector."""
    block = image_hwc_rgb_u8.shape[0] // LINEAR_SIZE_PX
    blocks = image_hwc_rgb_u8.reshape(LINEAR_SIZE_PX, block, LINEAR_SIZE_PX, block, 3)
    return blocks.mean(axis=(1, 3)).ravel()


def ridge_accuracy(x, y):
    """Best accuracy of a ridge regression on unseen rows over several strengths; y is -1 or 1."""
    train, test = slice(0, LINEAR_TRAIN), slice(LINEAR_TRAIN, None)
    x = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-6)
    kernel = x @ x[train].T  # the dual form: fewer images than pixels
    scores = [
        kernel[test] @ np.linalg.solve(kernel[train] + ridge * np.eye(LINEAR_TRAIN), y[train]) for ridge in RIDGES
    ]
    return max(float((np.sign(score) == y[test]).mean()) for score in scores)


@pytest.mark.slow
def test_a_linear_model_on_pixels_cannot_tell_the_label():
    items = list(iter_smileys(LINEAR_TRAIN + LINEAR_TEST, seed=11))
    x = np.stack([shrunk(image) for _, _, image in items])
    y = np.array([1.0 if label == LABELS[0] else -1.0 for label, _, _ in items])
    assert ridge_accuracy(x, y) < 0.8

    # The yardstick works: a mark of a few grey levels in one corner is found.
    marked = x.copy()
    marked[y > 0, :24] += 40.0
    assert ridge_accuracy(marked, y) > 0.8
