"""Data sets: where their files lie, how their masks are coded, which patients are the test. One choice per file."""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import Field

from sam2lora.datasets.cache import CachedSet, cached
from sam2lora.datasets.chase_db1 import ChaseDB1
from sam2lora.datasets.drishti_gs1 import DrishtiGS1
from sam2lora.datasets.drive import Drive
from sam2lora.datasets.fives import Fives
from sam2lora.datasets.geometry import OUTSIDE, Native, to_native
from sam2lora.datasets.hospitals import DEMO_HOSPITALS, PRETRAINING_HOSPITALS, Hospital
from sam2lora.datasets.hrf import HRF
from sam2lora.datasets.idrid import Idrid
from sam2lora.datasets.pairs import Entry, Found, Pair, Problem, Source, Target
from sam2lora.datasets.stare import Stare
from sam2lora.datasets.synthetic import Synthetic
from sam2lora.errors import DataError

Dataset = Annotated[
    Drive | Stare | ChaseDB1 | HRF | Fives | DrishtiGS1 | Idrid | Synthetic, Field(discriminator="kind")
]

DATASETS: tuple[Dataset, ...] = (Drive(), Stare(), ChaseDB1(), HRF(), Fives(), DrishtiGS1(), Idrid())


def named(name: str) -> Dataset:
    """The data set of a name: a published one with its default options, or a hospital.

    Upper and lower case are alike, and so are ``-`` and ``_``. Raises ``DataError`` with the nearest name.
    """
    known: dict[str, Dataset] = {dataset.name: dataset for dataset in (*DATASETS, DrishtiGS1(copy="1024"))}
    known |= {hospital: Synthetic(hospital=hospital) for hospital in (*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS)}
    wanted = name.strip().lower().replace("-", "_")
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}" if near else "choose one of them"
    raise DataError(f"A data set must be one of {', '.join(known)}, but {name!r} was asked for: {hint}.")


__all__ = [
    "DATASETS",
    "DEMO_HOSPITALS",
    "HRF",
    "OUTSIDE",
    "PRETRAINING_HOSPITALS",
    "CachedSet",
    "ChaseDB1",
    "Dataset",
    "DrishtiGS1",
    "Drive",
    "Entry",
    "Fives",
    "Found",
    "Hospital",
    "Idrid",
    "Native",
    "Pair",
    "Problem",
    "Source",
    "Stare",
    "Synthetic",
    "Target",
    "cached",
    "named",
    "to_native",
]
