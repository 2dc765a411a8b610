"""Recipes are complete, strict, and survive a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import UsageError
from train.recipe import Overrides, override
from train.recipe_files import load_recipe, recipe_names, to_toml


def edited(tmp_path: Path, name: str, old: str, new: str) -> str:
    """Write a recipe that differs from a built-in one, and give its path."""
    text = to_toml(load_recipe(name))
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return str(path)


def test_the_built_in_recipes_are_these() -> None:
    assert recipe_names() == ("cnn-small", "mobilenetv2")
    assert all(load_recipe(name).name == name for name in recipe_names())


@pytest.mark.parametrize("name", ["cnn-small", "mobilenetv2"])
def test_a_recipe_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "resolved.toml"
    path.write_text(to_toml(load_recipe(name)))
    assert load_recipe(str(path)) == load_recipe(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = ", "epoch = ", r"mine\.toml: recipe\.fit\.epoch: unknown field; known fields are epochs"),
        ("patience = 0\n", "", r"recipe\.fit\.patience: missing field"),
        ("batch_size = 32", 'batch_size = "32"', r"recipe\.fit\.batch_size: expected an integer, got text"),
        ("batch_size = 32", "batch_size = 0", r"batch_size must be 1 to 4096, got 0"),
        ("learning_rate = 0.002", "learning_rate = nan", r"learning_rate must be above 0"),
        ('crop = "center"', 'crop = "middle"', r"recipe\.input\.crop: expected one of center, stretch, letterbox"),
        ("dropout = 0.3", "dropout = 1.0", "dropout must be at least 0 and below 1"),
        ("first_kernel = 5", "first_kernel = 4", "first_kernel must be an odd number"),
        ("seed = 1", "seed = -1", "seed must be 0 to"),
        ("test = 0.125", "test = 0.9", "together below 1"),
        ("[cnn]", "[rnn]", r"recipe\.rnn: unknown field"),
        ("[input]", "[input", "not valid TOML"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(edited(tmp_path, "cnn-small", old, new))


def test_a_recipe_has_exactly_one_architecture(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(to_toml(load_recipe("cnn-small")).split("[cnn]")[0])
    with pytest.raises(UsageError, match=r"exactly one of the tables \[cnn\] and \[mobilenetv2\]"):
        load_recipe(str(path))


def test_an_alpha_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"alpha must be one of 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, got 0.6"):
        load_recipe(edited(tmp_path, "mobilenetv2", "alpha = 1.0", "alpha = 0.6"))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="resnet: no such recipe; expected one of cnn-small, mobilenetv2"):
        load_recipe("resnet")


def test_a_missing_or_binary_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recipe cannot be read"):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_recipe(str(tmp_path / "binary.toml"))


def test_options_replace_fields() -> None:
    recipe = override(load_recipe("mobilenetv2"), Overrides(3, 96, 8, "none", 7))
    assert (recipe.fit.epochs, recipe.input.image_size, recipe.fit.batch_size) == (3, 96, 8)
    assert (recipe.weights, recipe.seed) == ("none", 7)
    assert recipe.mobilenetv2 is not None
    assert not recipe.mobilenetv2.is_frozen
    assert override(recipe, Overrides()) == recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Overrides(image_size=31), "image_size must be 32 to 1024 pixels, got 31"),
        (Overrides(image_size=5000), "image_size must be 32 to 1024 pixels, got 5000"),
        (Overrides(weights="imagenet"), "cnn-small trains from scratch: --weights imagenet does not go with it"),
        (Overrides(seed=1 << 32), "seed must be 0 to 4294967295"),
    ],
)
def test_options_out_of_range_are_one_sentence(options: Overrides, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(load_recipe("cnn-small"), options)


def test_as_many_halvings_as_the_picture_has_pixels_for(tmp_path: Path) -> None:
    six = load_recipe(edited(tmp_path, "cnn-small", "    64,\n]", "    64,\n    64,\n    64,\n]"))
    assert override(six, Overrides(image_size=64)) == six
    with pytest.raises(UsageError, match="image_size 32 is too small for 6 blocks"):
        override(six, Overrides(image_size=32))
