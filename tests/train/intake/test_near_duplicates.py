"""Near copies are found; images that are only alike are not; and neither takes forever."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.preprocess import load_image
from train.intake.facts import examine
from train.intake.near_duplicates import TooManyAlikeError, _candidates, group_pairs, near_pairs


def photo(seed, height=300, width=400):
    """Blobs of several sizes, as a photo has: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 1.0), (12, 0.5), (40, 0.2)):
        noise = rng.random((cells, cells, 3), np.float32) - 0.5
        image += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 150 * image, 0, 255).astype(np.uint8)


def facts_of(image_hwc_u8, quality=90):
    data = cv2.imencode(".jpg", image_hwc_u8, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return examine(Path("x.jpg"), data)[0]


def scaled(image, factor):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def brighter(image, factor):
    return np.clip(image * factor, 0, 255).astype(np.uint8)


def cropped(image, *, all_round):
    """Without 2 % of height and width, taken from the lower and right side or in equal parts from all."""
    rows, columns = round(0.02 * image.shape[0]), round(0.02 * image.shape[1])
    top, left = (rows // 2, columns // 2) if all_round else (0, 0)
    return image[top : top + image.shape[0] - rows, left : left + image.shape[1] - columns]


COPIES = {
    "compressed": lambda image: facts_of(image, 40),
    "scaled": lambda image: facts_of(scaled(image, 0.7)),
    "brighter": lambda image: facts_of(brighter(image, 1.05)),
    "cropped all round": lambda image: facts_of(cropped(image, all_round=True)),
    "cropped on two sides": lambda image: facts_of(cropped(image, all_round=False)),
    "all at once": lambda image: facts_of(scaled(cropped(brighter(image, 1.03), all_round=True), 0.7), 60),
}


@pytest.mark.parametrize("change", COPIES)
def test_a_changed_copy_is_found(change):
    originals = [photo(seed) for seed in range(10)]
    found = [near_pairs([facts_of(image), COPIES[change](image)]) for image in originals]
    assert sum(map(bool, found)) >= 9


def test_different_images_are_not_called_near():
    assert near_pairs([facts_of(photo(seed)) for seed in range(100)]) == near_pairs([]) == []
    image, blank = photo(1), np.full((64, 64, 3), 200, np.uint8)
    for others in ([image], [image, image[:, ::-1], 255 - image, image[:, :, ::-1]], [blank, blank + 1]):
        assert near_pairs([facts_of(np.ascontiguousarray(other)) for other in others]) == []


def test_another_object_before_the_same_background_is_not_near():
    image = photo(2)
    other = cv2.circle(image.copy(), (250, 180), 40, (0, 0, 255), -1)
    assert near_pairs([facts_of(image), facts_of(other)]) == []
    assert near_pairs([facts_of(image), facts_of(image, 60)]) == [(0, 1)]


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=11)), max_size=20),
)
def test_candidates_are_exactly_the_pairs_within_8_bits(seeds, changes):
    hashes = [*seeds, *(seeds[index % len(seeds)] ^ sum(1 << bit for bit in bits) for index, bits in changes)]
    pairs = itertools.combinations(range(len(hashes)), 2)
    expected = [(i, j) for i, j in pairs if bin(hashes[i] ^ hashes[j]).count("1") <= 8]
    assert [tuple(pair) for pair in _candidates(np.array(hashes, np.uint64)).tolist()] == expected


def test_a_set_in_which_everything_is_alike_is_refused_in_time():
    one = facts_of(photo(3))
    with pytest.raises(TooManyAlikeError, match="among 3000 images"):
        near_pairs([one] * 3000)


@given(st.integers(1, 30), st.data())
def test_groups_are_disjoint_and_hold_only_linked_images(count, data):
    index = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(index, index).filter(lambda pair: pair[0] < pair[1])))
    groups = group_pairs(count, pairs)
    members = [index for group in groups for index in group]
    assert len(members) == len(set(members))
    assert all(len(group) > 1 for group in groups)
    if count <= 20:
        home = {index: number for number, group in enumerate(groups) for index in group}
        assert all(home[first] == home[second] for first, second in pairs)


def test_a_long_chain_is_cut_so_that_its_ends_are_not_together_and_many_copies_stay_one_group():
    chain = [(index, index + 1) for index in range(60)]
    assert max(map(len, group_pairs(61, chain))) == 3
    assert len(group_pairs(15, chain[:14])) == 1
    assert group_pairs(30, list(itertools.combinations(range(30), 2))) == [list(range(30))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pairs"), [("happy_sad", 37), ("cats_and_dogs", 0), ("flowers", 1), ("faces_fer", 26)]
)
def test_real_sets_hold_the_pairs_that_a_person_confirmed(name, pairs, real_data):
    """Each was looked at: photos found twice on the web, and film frames; no two different images."""
    entries = [examine(path)[0] for path in sorted(real_data(name).rglob("*.*"))]
    facts = {entry.sha256: entry for entry in entries if not entry.problem}
    assert len(near_pairs(list(facts.values()))) == pairs


@pytest.mark.slow
@pytest.mark.parametrize("change", COPIES)
def test_changed_copies_of_real_photos_are_found(change, real_data):
    """The figures of docs/clean-your-data.md: every 15th photo of two sets; prints how many of them were found."""
    paths = [*sorted(real_data("cats_and_dogs").rglob("*.jpg")), *sorted(real_data("flowers").rglob("*.*"))][::15]
    images = [load_image(path)[:, :, ::-1] for path in paths]
    found = sum(bool(near_pairs([facts_of(image, 95), COPIES[change](image)])) for image in images)
    print(f"{change}: {found} of {len(images)}")
    assert found >= 0.9 * len(images)
