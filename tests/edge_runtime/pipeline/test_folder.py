"""The pipeline of a folder keeps its order, its memory and its interpreters in bounds."""

import threading

import numpy as np
import pytest

from edge_runtime.errors import EngineError
from edge_runtime.pipeline import folder
from edge_runtime.pipeline.folder import WINDOW_PER_WORKER, classify_file, classify_files
from edge_runtime.results import Classified, Failed
from edge_runtime.testing import FakeEngine, fake_classifier
from support.images import encode, noisy_images, write_image, write_images


@pytest.fixture
def images(tmp_path):
    """200 images, dark at even places and light at odd ones."""
    return write_images(tmp_path, [0, 255] * 100)


class Opener:
    """Opens fake classifiers and remembers their engines."""

    def __init__(self, delay_s=0.0):
        self.engines = []
        self._delay_s = delay_s

    def __call__(self):
        self.engines.append(FakeEngine(delay_s=self._delay_s))
        return fake_classifier(engine=self.engines[-1])


@pytest.mark.parametrize("workers", [1, 4])
def test_order_is_kept_and_failures_stand_in_their_place(images, workers):
    opener = Opener()
    inputs = [*images]
    inputs[3] = Failed("gone", "DataError", "no such file or folder")
    images[7].write_bytes(b"")
    results = list(classify_files(inputs, opener(), opener, workers=workers, top_k=1))
    assert [result.source for result in results] == [*map(str, images[:3]), "gone", *map(str, images[4:])]
    answers = [result.top[0].label if isinstance(result, Classified) else None for result in results]
    expected = ["dark", "light"] * 100
    expected[3] = expected[7] = None
    assert answers == expected
    assert sum(engine.invocations for engine in opener.engines) == 198
    assert all(engine.closed for engine in opener.engines)
    assert len(opener.engines) <= workers


def test_order_is_kept_when_the_first_image_is_the_slowest(images, monkeypatch):
    others_done = threading.Semaphore(0)

    def slow_first(classifier, path, top_k):
        if path == images[0]:
            # Held back until five later images are done, which a pool without overtaking would never see.
            for _ in range(5):
                assert others_done.acquire(timeout=60)
        result = classify_file(classifier, path, top_k)
        others_done.release()
        return result

    monkeypatch.setattr(folder, "classify_file", slow_first)
    opener = Opener()
    results = list(classify_files(images, opener(), opener, workers=2, top_k=1))
    assert [result.source for result in results] == [str(path) for path in images]


def test_paths_are_taken_a_bounded_window_ahead(images):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield images[taken % len(images)]

    opener = Opener()
    results = classify_files(endless(), opener(), opener, workers=2, top_k=1)
    for yielded in range(1, 300):
        next(results)
        assert taken <= yielded + 2 * WINDOW_PER_WORKER
    results.close()
    assert all(engine.closed for engine in opener.engines)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_no_more_interpreters_than_images(images, count):
    opener = Opener(delay_s=0.05)
    results = list(classify_files(images[:count], opener(), opener, workers=8, top_k=1))
    assert len(results) == count
    assert len(opener.engines) <= max(1, count)
    assert all(engine.closed for engine in opener.engines)


def test_a_model_that_cannot_be_opened_again_ends_the_run(images):
    def refuse():
        raise EngineError("no memory for another interpreter")

    first = fake_classifier(engine=FakeEngine(delay_s=0.05))
    with pytest.raises(EngineError, match="no memory"):
        list(classify_files(images, first, refuse, workers=4, top_k=1))


def test_a_runtime_that_fails_on_a_image_fails_that_image(images):
    result = classify_file(fake_classifier(engine=FakeEngine(fails=True)), images[0], 1)
    assert isinstance(result, Failed)
    assert result.error_type == "EngineError"


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("grey.jpg", (20, 30), np.uint8),
        ("color.jpg", (20, 30, 3), np.uint8),
        ("alpha.png", (20, 30, 4), np.uint8),
        ("alpha.webp", (20, 30, 4), np.uint8),
        ("deep.png", (20, 30, 3), np.uint16),
        ("deep_grey.png", (20, 30), np.uint16),
        ("deep.tiff", (20, 30, 3), np.uint16),
        ("thin.png", (1, 300, 3), np.uint8),
        ("misnamed.gif", (20, 30, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("light", [False, True])
def test_any_kind_of_image_is_classified(tmp_path, name, shape, dtype, light):
    image = np.full(shape, np.iinfo(dtype).max if light else 0, dtype)
    if len(shape) == 3 and shape[2] == 4:
        image[:, :, 3] = 255
    path = write_image(tmp_path / name.replace("misnamed.gif", "honest.png"), image).rename(tmp_path / name)
    result = classify_file(fake_classifier(), path, 1)
    assert isinstance(result, Classified)
    assert result.top[0].label == ("light" if light else "dark")
    assert min(result.latency_ms.decode, result.latency_ms.preprocess, result.latency_ms.invoke) > 0


def test_what_is_no_image_fails_with_one_sentence(tmp_path):
    whole = encode(noisy_images(1, 64)[0])
    contents = {"text.jpg": b"hello, I am no image", "empty.jpg": b"", "cut.jpg": whole[:100], "zeros.png": bytes(999)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    for name in (*contents, "none.jpg", "."):
        result = classify_file(fake_classifier(), tmp_path / name, 1)
        assert isinstance(result, Failed), name
        assert result.error_type == "ImageError"
        assert result.message.count("\n") == 0
