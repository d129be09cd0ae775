"""Which images train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from sam2lora.config import Replicate
from sam2lora.datasets import CachedSet
from sam2lora.errors import DataError
from sam2lora.training.seeds import derived


def training_images(sources: Sequence[CachedSet], fold: int) -> tuple[tuple[int, int], ...]:
    """Pairs (source, image) of every development image outside ``fold``, in the order of the sources."""
    return tuple(
        (s, i)
        for s, source in enumerate(sources)
        for i, split in enumerate(source.splits)
        if split not in ("test", str(fold))
    )


def validation_images(source: CachedSet, fold: int) -> list[int]:
    """Indices of the images of ``fold``, the part of the development images that validates."""
    return [i for i, split in enumerate(source.splits) if split == str(fold)]


def given_images(
    given: Sequence[CachedSet], shots: int, replicate: Replicate, sources: Sequence[CachedSet] = ()
) -> tuple[tuple[int, int], ...]:
    """Pairs (set, image) of the images that ``shots`` patients of each of ``given`` add.

    Sets count on from ``sources``. Patients are drawn from the development part outside the replicate's fold. Raises
    ``DataError`` when a set has fewer of them, nothing to be tested on, or, where no source validates, nothing to
    validate on.
    """
    return tuple(
        (s, image)
        for s, opened in enumerate(given, start=len(sources))
        for image in _shots(opened, shots, replicate, validates=not sources)
    )


def _shots(opened: CachedSet, shots: int, replicate: Replicate, *, validates: bool) -> list[int]:
    name = opened.dataset.name
    free = [i for i, split in enumerate(opened.splits) if split not in ("test", str(replicate.fold))]
    patients = sorted({opened.patients[i] for i in free})
    if shots > len(patients):
        raise DataError(
            f"A target must have the patients that it gives, but {name!r} has {len(patients)} outside the test part "
            f"and fold {replicate.fold}, and shots is {shots}: lower shots."
        )
    if not test_images(opened, "test"):
        raise DataError(
            f"A target that gives patients is tested on its test part, but {name!r} has none: use it as a source, or "
            f"as the target of a transfer."
        )
    if validates and not validation_images(opened, replicate.fold):
        raise DataError(
            f"Without sources the targets validate, but {name!r} has no image in fold {replicate.fold}: name a source, "
            f"or choose another fold."
        )
    rng = np.random.default_rng(derived(replicate, "shots", name))
    drawn = set(rng.permutation(patients)[:shots].tolist())
    return [i for i in free if opened.patients[i] in drawn]


def check_parts(sources: Sequence[CachedSet], fold: int) -> None:
    """Raise ``DataError`` unless every source has images to train on and images to validate on."""
    for s, source in enumerate(sources):
        for part, count in (
            ("training", sum(where == s for where, _ in training_images(sources, fold))),
            ("validation", len(validation_images(source, fold))),
        ):
            if count == 0:
                raise DataError(
                    f"Every source needs {part} images, but {source.dataset.name!r} has none in fold {fold} among its "
                    f"{len(source.ids)} images: add images, choose another fold, or use it as a target only."
                )


def check_targets(targets: Sequence[CachedSet], part: Literal["all", "test"]) -> None:
    """Raise ``DataError`` unless every target has images of ``part``: without any it would be in no table of scores."""
    for target in targets:
        if not test_images(target, part):
            raise DataError(
                f"Every target needs test images, but {target.dataset.name!r} has no test part among its "
                f"{len(target.ids)} images: test on all of its images (target_images=all), or leave it out."
            )


def test_images(opened: CachedSet, part: Literal["all", "test"]) -> list[int]:
    """Indices of the images that are tested on: the test part, or all of a set that took no part in training."""
    return [i for i, split in enumerate(opened.splits) if part == "all" or split == "test"]
