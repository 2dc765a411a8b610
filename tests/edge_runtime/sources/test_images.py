"""What leads to images: patterns that no shell expanded, lists that are still being written, sets of many names."""

import glob
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import DataError, UsageError
from edge_runtime.results import Failed
from edge_runtime.sources.images import MAX_PATH_BYTES, NameSet, PathList, expand, find_images
from support.files import touch

TREE = ("b.jpg", "a.png", "a.txt", ".hidden.jpg", "sub/c.jpg", "sub/deep/d.jpg", "sub/.git/e.jpg", "x[1].jpg")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    touch(*(tmp_path / name for name in TREE))
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*patterns):
    return [
        item.source + "!" if isinstance(item, Failed) else str(item)
        for item in find_images(map(Path, patterns), patterns=True)
    ]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.jpg", ["b.jpg", "x[1].jpg"]),
        ("?.[jp][pn]g", ["a.png", "b.jpg"]),
        ("**/*.jpg", ["b.jpg", "x[1].jpg", "sub/c.jpg", "sub/deep/d.jpg"]),
        ("sub/**/*.jpg", ["sub/c.jpg", "sub/deep/d.jpg"]),
        ("**/deep/*", ["sub/deep/d.jpg"]),
        ("s*", ["sub/c.jpg", "sub/deep/d.jpg"]),
        ("sub/**", ["sub/c.jpg", "sub/deep/d.jpg"]),
        ("*/**", ["sub/c.jpg", "sub/deep/d.jpg"]),
        ("**/**/d.jpg", ["sub/deep/d.jpg"]),
        ("**/[sd]*/**/d.jpg", ["sub/deep/d.jpg"]),
        (".h*", [".hidden.jpg"]),
        ("x[1].jpg", ["x[1].jpg"]),
        ("*.webp", ["*.webp!"]),
        ("nowhere/*.jpg", ["nowhere/*.jpg!"]),
    ],
)
def test_patterns_match_as_in_a_shell_and_in_order(tree, pattern, matches):
    assert found(pattern) == matches
    assert [name.removeprefix(f"{tree}/") for name in found(f"{tree}/{pattern}")] == matches


def test_a_pattern_is_a_name_where_patterns_are_not_asked_for(tree):  # noqa: ARG001
    (only,) = find_images([Path("*.jpg")])
    assert isinstance(only, Failed)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["*", "**", "sub", "[a-b]*", "?.jpg", "*.jpg", "deep", ".*"]), min_size=1, max_size=4))
def test_patterns_agree_with_the_standard_library(tmp_path_factory, parts):
    root = tmp_path_factory.getbasetemp() / "glob_tree"
    touch(*(root / name for name in TREE))
    pattern = str(root / "/".join(parts))
    expected = {path.rstrip("/") for path in glob.glob(pattern, recursive=True)}  # noqa: PTH207
    if "**" in parts:
        expected = {path for path in expected if parts[-1] == "**" or Path(path).is_file()}
    got = list(map(str, expand(pattern)))
    if parts[-1] == "**":
        # A folder here stands for what is in it, which the standard library lists one by one.
        assert all(path in expected for path in got)
    else:
        assert set(got) == expected


@pytest.mark.parametrize(("name", "says"), [("x" * 5000, "File name too long"), ("a\0b", "NUL byte")])
def test_names_that_no_file_can_have_are_one_failure(name, says):
    (only,) = find_images([Path(name)], patterns=True)
    assert isinstance(only, Failed)
    assert says in only.message


def test_a_list_is_read_with_any_names_and_line_ends(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa b.jpg\r\n\n caf\xc3\xa9.jpg \nodd\xff.jpg\nlast")
    assert [os.fsencode(item) for item in PathList(str(path)) if isinstance(item, Path)] == [
        b"a b.jpg",
        b" caf\xc3\xa9.jpg ",
        b"odd\xff.jpg",
        b"last",
    ]
    path.write_bytes(b"a\nb.jpg\0c.jpg\0\0")
    assert list(PathList(str(path), null=True)) == [Path("a\nb.jpg"), Path("c.jpg")]
    with pytest.raises(UsageError, match="--null"):
        list(PathList(str(path)))


def test_a_line_that_is_no_path_is_one_failure_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg\n" + b"x" * (20 * MAX_PATH_BYTES) + b"\nb.jpg\n")
    first, bad, last = PathList(str(path))
    assert (first, last) == (Path("a.jpg"), Path("b.jpg"))
    assert isinstance(bad, Failed)


def test_a_list_that_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        PathList(str(tmp_path / "none"))
    with pytest.raises(DataError, match="got a folder"):
        PathList(str(tmp_path))


@pytest.fixture
def pipe(tmp_path):
    """A list that is read from a pipe, and the end to write to."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    opened = []
    thread = threading.Thread(target=lambda: opened.append(os.open(fifo, os.O_WRONLY)))
    thread.start()
    paths = PathList(str(fifo))
    thread.join()
    yield paths, opened[0]
    os.close(opened[0])


def test_a_list_is_read_as_it_is_written(pipe):
    paths, writer = pipe
    items = iter(paths)
    for number in range(3):
        os.write(writer, f"{number}.jpg\n".encode())
        assert next(items) == Path(f"{number}.jpg")


def test_waiting_for_a_list_ends_when_it_is_closed(pipe):
    paths, writer = pipe
    taken = []
    reader = threading.Thread(target=lambda: taken.extend(paths))
    reader.start()
    os.write(writer, b"a.jpg\n")
    paths.close()
    reader.join(60)
    assert not reader.is_alive()
    paths.close()


@settings(max_examples=50)
@given(st.lists(st.text(max_size=8)))
def test_a_set_of_names_is_a_set(names):
    known = NameSet()
    seen = set()
    for name in names:
        assert (name in known) == (name in seen)
        assert known.add(name) == (name not in seen)
        seen.add(name)
    assert len(known) == len(seen)


def test_a_large_set_of_names_keeps_them_all():
    count = 150_000
    known = NameSet(f"photos/{number}.jpg" for number in range(count))
    assert len(known) == count
    assert all(f"photos/{number}.jpg" in known for number in range(0, count, 97))
    assert not any(f"photos/{number}.png" in known for number in range(0, count, 97))
