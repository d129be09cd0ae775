"""Train on some hospitals, judge on others."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Literal

from annotated_types import MinLen

from sam2lora.choice import choice
from sam2lora.datasets import Dataset
from sam2lora.errors import DataError, OverlapError


@choice
class Transfer:
    """One model is trained on the union of ``sources`` and judged on every one of ``targets``.

    Of a source, fold ``k`` of the development part validates replicate ``k``, the other folds train, and the test
    part is scored once at the end. Of a target, ``target_images`` says what is scored: ``"all"`` of its images,
    since none of them took any part in training, or only its ``"test"`` part, to compare with published in-domain
    figures. Nothing of a target reaches training, the sampler, a scheduler or a selection.

    Raises ``OverlapError`` when a target shares patients with a source, ``DataError`` when a data set is named
    twice or when the structures to segment differ.
    """

    kind: Literal["transfer"] = "transfer"
    sources: Annotated[tuple[Dataset, ...], MinLen(1)]
    targets: tuple[Dataset, ...] = ()
    target_images: Literal["all", "test"] = "all"

    def __post_init__(self) -> None:
        everything = self.sources + self.targets
        for source in self.sources:
            for target in self.targets:
                if shared := source.overlaps & target.overlaps:
                    raise OverlapError(
                        f"A target must hold patients that no source holds, but source {source.name!r} and target "
                        f"{target.name!r} share {', '.join(sorted(shared))}: leave one of the two out."
                    )
        for one, other in combinations(everything, 2):
            if one.name == other.name:
                raise DataError(f"A data set must be named once, but {one.name!r} is named twice: name it once.")
            if one.target != other.target:
                raise DataError(
                    f"All data sets of a study must be segmented for the same structure, but {one.name!r} holds "
                    f"{one.target} masks and {other.name!r} {other.target} masks: run two studies."
                )
