"""The published data sets: their union, and each of them with its default options."""

from __future__ import annotations

from sam2lora.choice import kinds
from sam2lora.datasets.aria import Aria
from sam2lora.datasets.av_wide import AVWide
from sam2lora.datasets.chase_db1 import ChaseDB1
from sam2lora.datasets.dr_hagis import DRHagis
from sam2lora.datasets.drions_db import DrionsDB
from sam2lora.datasets.drishti_gs1 import DrishtiGS1
from sam2lora.datasets.drive import Drive
from sam2lora.datasets.fives import Fives
from sam2lora.datasets.g1020 import G1020
from sam2lora.datasets.grape import Grape
from sam2lora.datasets.hrf import HRF
from sam2lora.datasets.idrid import Idrid
from sam2lora.datasets.iostar import Iostar
from sam2lora.datasets.les_av import LesAV
from sam2lora.datasets.origa import Origa
from sam2lora.datasets.orvs import Orvs
from sam2lora.datasets.papila import Papila
from sam2lora.datasets.refuge1 import Refuge1
from sam2lora.datasets.refuge2 import Refuge2
from sam2lora.datasets.rim_one_dl import RimOneDL
from sam2lora.datasets.rim_one_r3 import RimOneR3
from sam2lora.datasets.rite import Rite
from sam2lora.datasets.stare import Stare

Published = (
    Drive
    | Stare
    | ChaseDB1
    | HRF
    | Fives
    | LesAV
    | Rite
    | Iostar
    | Orvs
    | DRHagis
    | AVWide
    | Aria
    | DrishtiGS1
    | Idrid
    | Refuge1
    | Refuge2
    | Origa
    | G1020
    | RimOneR3
    | RimOneDL
    | Papila
    | Grape
    | DrionsDB
)

DATASETS: tuple[Published, ...] = tuple(kind() for kind in kinds(Published).values())

__all__ = [
    "DATASETS",
    "G1020",
    "HRF",
    "AVWide",
    "Aria",
    "ChaseDB1",
    "DRHagis",
    "DrionsDB",
    "DrishtiGS1",
    "Drive",
    "Fives",
    "Grape",
    "Idrid",
    "Iostar",
    "LesAV",
    "Origa",
    "Orvs",
    "Papila",
    "Published",
    "Refuge1",
    "Refuge2",
    "RimOneDL",
    "RimOneR3",
    "Rite",
    "Stare",
]
