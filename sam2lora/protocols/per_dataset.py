"""One model for each hospital."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from annotated_types import MinLen

from sam2lora.choice import choice
from sam2lora.datasets import Dataset
from sam2lora.protocols.checks import check_names, member


@choice
class PerDataset:
    """A model for each of ``datasets``, trained on its development part and tested on its test part.

    ``dataset``: the name of the set whose model this is. What a set gains or loses by training together with others
    is its score here against its score under ``Pooled``. Sets may share patients, since no two meet in one model.

    Raises ``DataError`` when a set is named twice, ``ValueError`` when ``dataset`` names none of them.
    """

    kind: Literal["per_dataset"] = "per_dataset"
    datasets: Annotated[tuple[Dataset, ...], MinLen(1)]
    dataset: str

    targets: ClassVar[tuple[Dataset, ...]] = ()
    target_images: ClassVar[Literal["all", "test"]] = "test"
    shots: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_names(self.datasets)
        member(self.datasets, self.dataset, "dataset")

    @property
    def sources(self) -> tuple[Dataset, ...]:
        """The one set of this model."""
        return (member(self.datasets, self.dataset, "dataset"),)

    def every(self) -> tuple[Self, ...]:
        """One value for each model, in the order of ``datasets``."""
        return tuple(replace(self, dataset=dataset.name) for dataset in self.datasets)
