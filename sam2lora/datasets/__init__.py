"""Data sets: where their files lie, how their masks are coded, which patients are the test. One choice per file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.choice import kinds
from sam2lora.datasets.aria import Aria
from sam2lora.datasets.av_wide import AVWide
from sam2lora.datasets.cache import CachedSet, cached, left_out
from sam2lora.datasets.chase_db1 import ChaseDB1
from sam2lora.datasets.dr_hagis import DRHagis
from sam2lora.datasets.drions_db import DrionsDB
from sam2lora.datasets.drishti_gs1 import DrishtiGS1
from sam2lora.datasets.drive import Drive
from sam2lora.datasets.fives import Fives
from sam2lora.datasets.folder import Folder
from sam2lora.datasets.g1020 import G1020
from sam2lora.datasets.geometry import OUTSIDE, Native, to_native
from sam2lora.datasets.grape import Grape
from sam2lora.datasets.hospitals import DEMO_HOSPITALS, HOSPITALS, PRETRAINING_HOSPITALS, Hospital
from sam2lora.datasets.hrf import HRF
from sam2lora.datasets.idrid import Idrid
from sam2lora.datasets.incomplete import Incomplete
from sam2lora.datasets.iostar import Iostar
from sam2lora.datasets.les_av import LesAV
from sam2lora.datasets.naming import Named, aimed, parse
from sam2lora.datasets.origa import Origa
from sam2lora.datasets.orvs import Orvs
from sam2lora.datasets.pairs import Entry, Found, Pair, Problem, Source, Target
from sam2lora.datasets.papila import Papila
from sam2lora.datasets.published import DATASETS, Published
from sam2lora.datasets.refuge1 import Refuge1
from sam2lora.datasets.refuge2 import Refuge2
from sam2lora.datasets.rim_one_dl import RimOneDL
from sam2lora.datasets.rim_one_r3 import RimOneR3
from sam2lora.datasets.rite import Rite
from sam2lora.datasets.stare import Stare
from sam2lora.datasets.synthetic import Synthetic

Dataset = Annotated[Published | Incomplete | Folder | Synthetic, Field(discriminator="kind")]


def named(text: str) -> Dataset:
    """The data set that a command line means by ``NAME[:FIELD=VALUE]...``: a published one, or a hospital.

    ``naming.parse`` has the rules; ``drishti_gs1_1024`` is short for ``drishti_gs1:copy=1024``. A published set with
    ``unreadable=skip`` or ``missing=skip`` is ``Incomplete``. Raises ``DataError``.
    """
    names = {kind: Named(choice) for kind, choice in kinds(Published).items()}
    names["drishti_gs1_1024"] = Named(DrishtiGS1, {"copy": "1024"})
    names |= {hospital: Named(Synthetic, {"hospital": hospital}, "procedural") for hospital in HOSPITALS}
    names["folder"] = Named(Folder, group="your own, as folder:path=PATH")
    dataset: Dataset = parse(text, names)
    return dataset


__all__ = [
    "DATASETS",
    "DEMO_HOSPITALS",
    "G1020",
    "HRF",
    "OUTSIDE",
    "PRETRAINING_HOSPITALS",
    "AVWide",
    "Aria",
    "CachedSet",
    "ChaseDB1",
    "DRHagis",
    "Dataset",
    "DrionsDB",
    "DrishtiGS1",
    "Drive",
    "Entry",
    "Fives",
    "Folder",
    "Found",
    "Grape",
    "Hospital",
    "Idrid",
    "Incomplete",
    "Iostar",
    "LesAV",
    "Native",
    "Origa",
    "Orvs",
    "Pair",
    "Papila",
    "Problem",
    "Published",
    "Refuge1",
    "Refuge2",
    "RimOneDL",
    "RimOneR3",
    "Rite",
    "Source",
    "Stare",
    "Synthetic",
    "Target",
    "aimed",
    "cached",
    "left_out",
    "named",
    "to_native",
]
