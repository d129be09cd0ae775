"""A few patients of the hospital where the model will be used."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from annotated_types import Ge, MinLen

from sam2lora.choice import choice
from sam2lora.datasets import Dataset
from sam2lora.protocols.checks import check


@choice
class FewShot:
    """One model is trained on ``sources`` and on ``shots`` patients of each of ``targets``; their test parts test it.

    A patient gives all images. The patients are drawn, by the replicate's seed, from those of the target's
    development part that lie outside the replicate's fold; a smaller number is part of a larger one, and they are the
    same with and without sources, so that such trials are paired.

    Sources are trained, validated and scored as in ``Transfer``, and they alone validate: no label of a target beyond
    the shots is looked at. Where there are no sources the replicate's fold of the targets validates, which takes
    labelled images of the target beyond the shots; their score must be read so. A target's test part never trains and
    never validates.

    Raises ``OverlapError`` when two of the sets share patients, ``DataError`` when a set is named twice or when the
    structures to segment differ; opening the sets raises it when a target has fewer patients to give or no test part.
    """

    kind: Literal["few_shot"] = "few_shot"
    sources: tuple[Dataset, ...] = ()
    targets: Annotated[tuple[Dataset, ...], MinLen(1)]
    shots: Annotated[int, Ge(1)]

    target_images: ClassVar[Literal["all", "test"]] = "test"

    def __post_init__(self) -> None:
        check(self.sources + self.targets)

    def every(self) -> tuple[Self, ...]:
        """The models of the protocol: this one."""
        return (self,)
