"""What every protocol asks of its data sets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

from sam2lora.datasets import Dataset
from sam2lora.errors import DataError, OverlapError


def check(trained: Sequence[Dataset], tested: Sequence[Dataset] = ()) -> None:
    """Raise unless one model may learn from every set of ``trained`` and be tested on every set of ``tested``.

    ``OverlapError``: two sets share patients and at least one of them trains, so that patients whose images
    train would also validate or test. Sets that only test may overlap. ``DataError``: a set is named twice, or the
    structures to segment differ.
    """
    for source, target in product(trained, tested):
        if shared := source.overlaps & target.overlaps:
            raise OverlapError(
                f"A target must hold patients that no source holds, but source {source.name!r} and target "
                f"{target.name!r} share {', '.join(sorted(shared))}: leave one of the two out."
            )
    everything = (*trained, *tested)
    check_names(everything)
    for one, other in combinations(everything, 2):
        if one.target != other.target:
            raise DataError(
                f"All data sets of a study must be segmented for the same structure, but {one.name!r} holds "
                f"{one.target} masks and {other.name!r} {other.target} masks: run two studies."
            )
    for one, other in combinations(trained, 2):
        if shared := one.overlaps & other.overlaps:
            raise OverlapError(
                f"Two sets that train one model must not share patients, whose images may train in one and test in "
                f"the other, but {one.name!r} and {other.name!r} share {', '.join(sorted(shared))}: leave one of the "
                f"two out."
            )


def check_names(datasets: Sequence[Dataset]) -> None:
    """Raise ``DataError`` when two of ``datasets`` bear one name: scores are found by it."""
    for one, other in combinations(datasets, 2):
        if one.name == other.name:
            remedy = "name it once"
            if one.overlaps != other.overlaps:
                remedy = "give one of the two another name, as folder:path=PATH:label=NAME"
            raise DataError(f"A data set must be named once, but {one.name!r} is named twice: {remedy}.")


def member(datasets: Sequence[Dataset], name: str, field: str) -> Dataset:
    """The one of ``datasets`` that is called ``name``. Raises ``ValueError`` with all names; ``field`` asked for it."""
    for dataset in datasets:
        if dataset.name == name:
            return dataset
    known = ", ".join(dataset.name for dataset in datasets)
    raise ValueError(f"{field} must be the name of one of the data sets, but is {name!r}: choose one of {known}.")
