"""Each hospital in turn is the unseen one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from annotated_types import MinLen

from sam2lora.choice import choice
from sam2lora.datasets import Dataset
from sam2lora.protocols.checks import check, member


@choice
class LeaveOneDatasetOut:
    """A model for each of ``datasets``, trained on all the others and tested on the one that was left out.

    ``held_out``: the name of the set that this model never sees. ``target_images``: ``"all"`` of its images test it, or
    only its ``"test"`` part. The others are sources as in ``Transfer``: their folds validate, so that the held-out
    set steers nothing. A mean over held-out sets describes the protocol; it must not become an objective, for then
    every set would steer the model that is tested on it.

    Two sets that share patients are refused (``OverlapError``), whichever is held out. To let the partner of the
    held-out set leave the training would not do: as soon as a third set is held out both partners train together,
    and patients of one's validation and test part are trained on through the other. ``DataError`` when a set is
    named twice or when the structures differ, ``ValueError`` when ``held_out`` names none of them.
    """

    kind: Literal["leave_one_dataset_out"] = "leave_one_dataset_out"
    datasets: Annotated[tuple[Dataset, ...], MinLen(2)]
    held_out: str
    target_images: Literal["all", "test"] = "all"

    shots: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check(self.datasets)
        member(self.datasets, self.held_out, "held_out")

    @property
    def sources(self) -> tuple[Dataset, ...]:
        """All but the held-out set."""
        return tuple(dataset for dataset in self.datasets if dataset.name != self.held_out)

    @property
    def targets(self) -> tuple[Dataset, ...]:
        """The held-out set."""
        return (member(self.datasets, self.held_out, "held_out"),)

    def every(self) -> tuple[Self, ...]:
        """One value for each model, in the order of ``datasets``."""
        return tuple(replace(self, held_out=dataset.name) for dataset in self.datasets)
