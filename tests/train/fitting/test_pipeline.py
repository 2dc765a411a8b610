"""Batches cover all items in a seeded order, may be shortened, and mix images and targets alike."""

import numpy as np

from train.hardware import load_keras


def batches_of(inputs, targets, size, **options):
    load_keras(0)
    from train.fitting.pipeline import Batches

    return Batches(inputs, targets.astype(np.float32)[:, np.newaxis], size, **options)


def test_batches_cover_every_row_once_an_epoch_in_a_new_seeded_order():
    inputs = np.arange(20, dtype=np.uint8).reshape(20, 1)
    rows = np.arange(0, 20, 2)

    def epochs(seed, first_epoch=0):
        batches = batches_of(inputs, rows, 4, seed=seed, rows=rows, first_epoch=first_epoch)
        found = []
        for _ in range(2):
            parts = [batches[i] for i in range(len(batches))]
            assert [len(x) for x, _ in parts] == [4, 4, 2]
            assert all(x.dtype == np.uint8 and (x == y).all() for x, y in parts)
            found.append([int(y) for _, targets in parts for y in targets[:, 0]])
            batches.on_epoch_end()
        return found

    first, second = epochs(7)
    assert sorted(first) == sorted(second) == list(rows)
    assert first != second
    assert epochs(7) == [first, second]
    assert epochs(7, first_epoch=1)[0] == second, "an interrupted training goes on with the same order"
    assert epochs(8) != [first, second]
    assert epochs(None) == [list(rows), list(rows)]


def test_an_epoch_may_be_cut_into_fewer_steps():
    inputs = np.arange(20, dtype=np.uint8).reshape(20, 1)
    batches = batches_of(inputs, np.arange(20), 4, seed=1, steps=3)
    assert (len(batches), batches.item_count) == (3, 12)
    assert len(batches_of(inputs, np.arange(20), 4, steps=99)) == 5


def test_mixup_mixes_images_and_targets_by_the_same_share():
    inputs = np.repeat(np.arange(0, 200, 10, dtype=np.float32)[:, np.newaxis], 3, axis=1)
    batches = batches_of(inputs, inputs[:, 0], 8, seed=1, mixup=1.0, weights=inputs[:, 0])
    mixed, targets, weights = batches[0]
    np.testing.assert_allclose(mixed, np.repeat(targets, 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(targets[:, 0], weights, rtol=1e-5)
    assert not np.isin(np.round(targets, 3), inputs).all()
    pixels = batches_of(inputs.astype(np.uint8), inputs[:, 0], 8, seed=1, mixup=1.0)[0][0]
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, mixed, atol=0.51)
