"""Recipes are complete, strict, and survive a round trip."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from support.files import put
from train.recipe import load_recipe, override, parse_settings, recipe_names, to_toml
from train.run import resolve_recipe

RECIPES = ("cnn", "cnn-small", "emotion", "happy-sad", "mobilenetv2")


def edited(tmp_path, name, old, new):
    """Write a recipe that differs from a built-in one, and give its path."""
    text = to_toml(load_recipe(name))
    assert old in text
    return str(put(tmp_path, "mine.toml", text.replace(old, new, 1)))


def test_the_built_in_recipes_are_these():
    assert recipe_names() == RECIPES
    assert all(load_recipe(name).name == name for name in recipe_names())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_the_round_trip(name, tmp_path):
    path = put(tmp_path, "resolved.toml", to_toml(load_recipe(name)))
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
def test_a_mistake_is_named(old, new, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        load_recipe(edited(tmp_path, "cnn-small", old, new))


def test_a_recipe_has_exactly_one_architecture(tmp_path):
    path = put(tmp_path, "none.toml", to_toml(load_recipe("cnn-small")).split("[cnn]")[0])
    with pytest.raises(UsageError, match=r"exactly one of the tables \[cnn\] and \[backbone\]"):
        load_recipe(str(path))


def test_what_cannot_be_found_or_read_is_one_sentence(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00\xfe")
    alphas = "alpha of mobilenetv2 must be one of 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, got 0.6"
    for recipe, says in (
        (edited(tmp_path, "mobilenetv2", "alpha = 1.0", "alpha = 0.6"), alphas),
        ("resnet", f"resnet: no such recipe; expected one of {', '.join(RECIPES)}"),
        (tmp_path / "absent.toml", "recipe cannot be read"),
        (tmp_path / "binary.toml", "not valid TOML"),
    ):
        with pytest.raises(UsageError, match=says):
            load_recipe(str(recipe))


def options(**chosen):
    names = {"epochs": "fit.epochs", "image_size": "input.image_size", "weights": "backbone.weights", "seed": "seed"}
    return {path: chosen.get(name) for name, path in names.items()}


def test_options_replace_fields():
    recipe = resolve_recipe("mobilenetv2", options(epochs=3, image_size=96, seed=7), ("backbone.alpha=0.5",))
    assert (recipe.fit.epochs, recipe.input.image_size, recipe.seed) == (3, 96, 7)
    assert recipe.backbone is not None
    assert (recipe.backbone.alpha, recipe.finetunes) == (0.5, True)
    assert override(recipe, {"fit.epochs": None}) == recipe


def test_without_weights_the_whole_network_is_trained_in_one_phase():
    recipe = resolve_recipe("mobilenetv2", options(weights="none"), ())
    assert recipe.backbone is not None
    assert (recipe.backbone.is_frozen, recipe.finetunes) == (False, False)
    with pytest.raises(UsageError, match=r"\[finetune\] needs a \[backbone\] that starts from trained weights"):
        resolve_recipe("mobilenetv2", options(weights="none"), ("finetune.epochs=2",))


@pytest.mark.parametrize(
    ("chosen", "settings", "message"),
    [
        ({"image_size": 31}, (), "image_size must be 32 to 1024, got 31"),
        ({"weights": "imagenet"}, (), "cnn-small trains from scratch: --weights imagenet does not apply to it"),
        ({"seed": 1 << 32}, (), "seed must be 0 to 4294967295"),
        ({}, ("optimizer.speed=1",), r"recipe cnn-small\.optimizer\.speed: unknown field; known fields are name"),
        ({}, ("optimiser.learning_rate=1",), r"recipe cnn-small\.optimiser: unknown field"),
        ({}, ("optimizer.learning_rate=fast",), r"learning_rate: expected a number, got text"),
        ({}, ("optimizer.learning_rate",), "expected TABLE.FIELD=VALUE such as optimizer.learning_rate=1e-4"),
        ({}, ("=1",), "expected TABLE.FIELD=VALUE"),
        ({}, ("name.first=1",), "name is not a table"),
        ({}, ("finetune.epochs=3",), r"finetune\.from_layer: missing field"),
        ({}, ("head.threshold=f1",), "threshold must be half for a softmax head"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(chosen, settings, message):
    with pytest.raises(UsageError, match=message):
        resolve_recipe("cnn-small", options(**chosen), settings)


def test_set_takes_every_kind_of_value():
    settings = ("cnn.filters=[8, 16]", "fit.epochs = 3", "augment.mirror=false", "name=my recipe", "a.b=1e-4")
    expected = {"cnn.filters": [8, 16], "fit.epochs": 3, "augment.mirror": False, "name": "my recipe", "a.b": 1e-4}
    assert parse_settings(settings) == expected
    settings = ("cnn.filters=[8, 16]", "optimizer.name=sgd", "optimizer.schedule=constant")
    recipe = resolve_recipe("cnn-small", {}, settings)
    assert recipe.cnn is not None
    assert (recipe.cnn.filters, recipe.optimizer.name.value) == ((8, 16), "sgd")


@given(st.text(max_size=30))
def test_any_setting_is_read_or_refused(text):
    with contextlib.suppress(UsageError):
        resolve_recipe("cnn-small", {}, (text,))


def test_as_many_halvings_as_the_image_has_pixels_for(tmp_path):
    six = load_recipe(edited(tmp_path, "cnn-small", "    64,\n]", "    64,\n    64,\n    64,\n]"))
    assert override(six, {"input.image_size": 64}) == six
    with pytest.raises(UsageError, match="image_size 32 is too small for 6 blocks"):
        override(six, {"input.image_size": 32})
