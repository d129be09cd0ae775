"""Train on some hospitals, test on others."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from annotated_types import MinLen

from sam2lora.choice import choice
from sam2lora.datasets import Dataset
from sam2lora.protocols.checks import check


@choice
class Transfer:
    """One model is trained on the union of ``sources`` and tested on every one of ``targets``.

    Of a source, fold ``k`` of the development part validates replicate ``k``, the other folds train, and the test
    part is scored once at the end. Of a target, ``target_images`` says what is scored: ``"all"`` of its images,
    since none of them took any part in training, or only its ``"test"`` part, to compare with published in-domain
    figures. Nothing of a target reaches training, the sampler, a scheduler or a selection.

    Raises ``OverlapError`` when a source shares patients with a target or with another source, ``DataError`` when a
    data set is named twice or when the structures to segment differ.
    """

    kind: Literal["transfer"] = "transfer"
    sources: Annotated[tuple[Dataset, ...], MinLen(1)]
    targets: tuple[Dataset, ...] = ()
    target_images: Literal["all", "test"] = "all"

    shots: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check(self.sources, self.targets)

    def every(self) -> tuple[Self, ...]:
        """The models of the protocol: this one."""
        return (self,)
