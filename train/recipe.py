"""Recipes: all settings of a training, read from TOML files and changed by command-line options.

A recipe holds exactly one architecture, ``cnn`` or ``backbone``. Every other table but ``finetune`` is required, and so
is every field, so that a run's ``recipe.toml`` says all. `train.recipe` reads and writes them.

The built-in ones lie in ``train/recipes``; each begins with a comment that gives its command, the accuracy and the
time to expect.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ManifestError, UsageError
from edge_runtime.strict import from_mapping, to_mapping
from train.settings import (
    WEIGHTS_NONE,
    AugmentSettings,
    BackboneSettings,
    CnnSettings,
    FinetuneSettings,
    FitSettings,
    HeadSettings,
    InputSettings,
    LossSettings,
    OptimizerSettings,
    SplitSettings,
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, apart from the images.

    Attributes:
        name: Short name.
        summary: One line for ``edge-train recipes``.
        seed: Seed of split, initialisation, shuffling and augmentation, 0 to 2^32 - 1.
        input: Geometry.
        head: What comes after the features.
        augment: Random changes to training images.
        optimizer: Optimiser and learning rate.
        loss: What is minimised.
        fit: How long.
        split: Shares held out.
        cnn: A network from scratch, or None.
        backbone: Transfer learning, or None.
        finetune: A second phase for a frozen backbone, or None.
    """

    name: str
    summary: str
    seed: int
    input: InputSettings
    head: HeadSettings
    augment: AugmentSettings
    optimizer: OptimizerSettings
    loss: LossSettings
    fit: FitSettings
    split: SplitSettings
    cnn: CnnSettings | None = None
    backbone: BackboneSettings | None = None
    finetune: FinetuneSettings | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or not self.summary.isprintable():
            raise ValueError(f"name and summary must be one printable line each, got {self.name!r} {self.summary!r}")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed must be 0 to {(1 << 32) - 1}, got {self.seed}")
        if (self.cnn is None) == (self.backbone is None):
            raise ValueError("expected exactly one of the tables [cnn] and [backbone]")
        if self.cnn is not None and self.input.image_size >> len(self.cnn.filters) < 1:
            halvings = len(self.cnn.filters)
            raise ValueError(
                f"image_size {self.input.image_size} is too small for {halvings} blocks that halve it each"
            )
        if self.finetunes and not (self.backbone and self.backbone.is_frozen):
            raise ValueError(
                "[finetune] needs a [backbone] that starts from trained weights; otherwise set finetune.epochs to 0"
            )

    @property
    def weights(self) -> str:
        """What training starts from: ``none``, ``imagenet`` or the path of a weight file."""
        return self.backbone.weights if self.backbone else WEIGHTS_NONE

    @property
    def finetunes(self) -> bool:
        """Whether there is a second phase."""
        return self.finetune is not None and self.finetune.epochs > 0


RECIPE_FILE = "recipe.toml"
_FOLDER = Path(__file__).parent / "recipes"
_MAX_RECIPE_BYTES = 1 << 20


def recipe_names() -> tuple[str, ...]:
    """Names of the built-in recipes, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a built-in recipe by name, or a recipe file by a path that ends in ``.toml``.

    Raises:
        UsageError: No such recipe, or its TOML is not valid or not complete; the message names the field.
    """
    if name_or_path in recipe_names():
        return _parse(_FOLDER / f"{name_or_path}.toml")
    if not name_or_path.endswith(".toml"):
        names = ", ".join(recipe_names())
        raise UsageError(f"{name_or_path}: no such recipe; expected one of {names}, or a file that ends in .toml")
    return _parse(Path(name_or_path))


def to_toml(recipe: Recipe) -> str:
    """TOML text that `load_recipe` reads back to the same recipe."""
    import tomli_w

    return tomli_w.dumps(_tables(recipe))


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Replace fields, as options of the command line do.

    Args:
        recipe: Stays as it is.
        changes: ``table.field`` (or ``seed`` and the like) to value; None leaves a field.

    Raises:
        UsageError: No such field, or a value that does not fit; the message names it.
    """
    tables = _tables(recipe)
    for key, value in changes.items():
        if value is not None:
            table, _, field = key.rpartition(".")
            target = tables.setdefault(table, {}) if table else tables
            if not isinstance(target, dict):
                raise UsageError(f"recipe {recipe.name}.{key}: {table} is not a table")
            target[field] = value
    try:
        return from_mapping(Recipe, tables, f"recipe {recipe.name}", require_all=False)
    except ManifestError as error:
        raise UsageError(str(error)) from error


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read options such as ``optimizer.learning_rate=1e-4``; a value is TOML, or text where it is none.

    Raises:
        UsageError: No ``=``, or nothing before it.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set: expected TABLE.FIELD=VALUE such as optimizer.learning_rate=1e-4, got {setting!r}")
        try:
            changes[key.strip()] = _loads(f"value = {text}".encode())["value"]
        except ValueError:
            changes[key.strip()] = text.strip()
    return changes


def _tables(recipe: Recipe) -> dict[str, Any]:
    # TOML has no null: a table that is None is simply absent.
    return {key: value for key, value in to_mapping(recipe).items() if value is not None}


def _parse(path: Path) -> Recipe:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: recipe cannot be read ({error.strerror})") from error
    if len(data) > _MAX_RECIPE_BYTES:
        raise UsageError(f"{path}: expected a recipe of at most {_MAX_RECIPE_BYTES} bytes, got a larger file")
    try:
        # Required fields carry no default, so only the optional tables may be absent.
        return from_mapping(Recipe, _loads(data), f"{path}: recipe", require_all=False)
    except ManifestError as error:
        raise UsageError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error


def _loads(data: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(data.decode())
