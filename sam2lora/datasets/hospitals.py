"""The cameras, patients and habits of the procedural hospitals: numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hospital = Literal[
    "alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ironwood", "juniper", "katsura", "larch"
]


@dataclass(frozen=True)
class Look:
    """stub"""

    retina: tuple[float, float, float]


HOSPITALS: dict[Hospital, Look] = {
    name: Look((0.45 + 0.04 * i, 0.35 - 0.015 * i, 0.12))
    for i, name in enumerate(Hospital.__args__)  # type: ignore[attr-defined]
}
DEMO_HOSPITALS: tuple[Hospital, ...] = ("alder", "birch", "cedar", "dogwood", "elm", "fir")
PRETRAINING_HOSPITALS: tuple[Hospital, ...] = ("ginkgo", "hazel", "ironwood", "juniper", "katsura", "larch")
