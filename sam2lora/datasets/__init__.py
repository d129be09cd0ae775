"""Data sets: where their files lie, how their masks are coded, which patients are the test. One choice per file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.choice import kinds
from sam2lora.datasets import published
from sam2lora.datasets.cache import CachedSet, cached, left_out
from sam2lora.datasets.folder import Folder
from sam2lora.datasets.geometry import OUTSIDE, Native, to_native
from sam2lora.datasets.hospitals import DEMO_HOSPITALS, HOSPITALS, PRETRAINING_HOSPITALS, Hospital
from sam2lora.datasets.incomplete import Incomplete
from sam2lora.datasets.naming import Named, parse, with_target
from sam2lora.datasets.pairs import Entry, Found, Pair, Problem, Source, Target
from sam2lora.datasets.published import *  # noqa: F403
from sam2lora.datasets.synthetic import Synthetic

Dataset = Annotated[published.Published | Incomplete | Folder | Synthetic, Field(discriminator="kind")]


def parse_dataset(text: str) -> Dataset:
    """The data set that a command line means by ``NAME[:FIELD=VALUE]...``: a published one, or a hospital.

    ``naming.parse`` has the rules; ``drishti_gs1_1024`` is short for ``drishti_gs1:copy=1024``. A published set with
    ``unreadable=skip`` or ``missing=skip`` is ``Incomplete``. Raises ``DataError``.
    """
    names = {kind: Named(choice) for kind, choice in kinds(published.Published).items()}
    names["drishti_gs1_1024"] = Named(published.DrishtiGS1, {"copy": "1024"})
    names |= {hospital: Named(Synthetic, {"hospital": hospital}, "procedural") for hospital in HOSPITALS}
    names["folder"] = Named(Folder, group="your own, as folder:path=PATH")
    dataset: Dataset = parse(text, names)
    return dataset


__all__ = [
    "DEMO_HOSPITALS",
    "OUTSIDE",
    "PRETRAINING_HOSPITALS",
    "CachedSet",
    "Dataset",
    "Entry",
    "Folder",
    "Found",
    "Hospital",
    "Incomplete",
    "Native",
    "Pair",
    "Problem",
    "Source",
    "Synthetic",
    "Target",
    "cached",
    "left_out",
    "parse_dataset",
    "to_native",
    "with_target",
]
__all__ += published.__all__
