"""Recipes: everything that decides a training, apart from the pictures.

A recipe holds exactly one architecture, ``cnn`` or ``backbone``. Every other table but ``finetune`` is required, and so
is every field, so that a run's ``recipe.toml`` says all. `train.recipe_files` reads and writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """Everything that decides a training, apart from the pictures.

    Attributes:
        name: Short name.
        summary: One line for ``edge-train recipes``.
        seed: Seed of split, initialisation, shuffling and augmentation, 0 to 2^32 - 1.
        input: Geometry.
        head: What comes after the features.
        augment: Random changes to training pictures.
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
