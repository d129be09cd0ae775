"""One model for all hospitals."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from annotated_types import MinLen

from sam2lora.choice import choice
from sam2lora.datasets import Dataset
from sam2lora.protocols.checks import check


@choice
class Pooled:
    """One model is trained on the development parts of all ``datasets`` and tested on each of their test parts.

    The protocol of SAM2LoRA (Mandal et al. 2025, arXiv 2510.10288), whose "cross-dataset" means this: every hospital
    that tests the model has also trained it, so nothing is said of a hospital that the model has not seen. Fold ``k``
    of each development part validates replicate ``k``; SAM2LoRA itself has no validation part.

    Raises ``OverlapError`` when two sets share patients, ``DataError`` when a set is named twice or when the
    structures to segment differ.
    """

    kind: Literal["pooled"] = "pooled"
    datasets: Annotated[tuple[Dataset, ...], MinLen(1)]

    targets: ClassVar[tuple[Dataset, ...]] = ()
    target_images: ClassVar[Literal["all", "test"]] = "test"
    shots: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check(self.datasets)

    @property
    def sources(self) -> tuple[Dataset, ...]:
        """All of them."""
        return self.datasets

    def every(self) -> tuple[Self, ...]:
        """The models of the protocol: this one."""
        return (self,)
