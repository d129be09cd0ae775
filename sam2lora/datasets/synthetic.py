"""Procedural hospitals: fundus photographs whose vessels are known exactly, for tests, demos and pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le, MultipleOf

from sam2lora.choice import choice
from sam2lora.datasets import hospitals, painter, vasculature
from sam2lora.datasets.hospitals import Hospital
from sam2lora.datasets.outlines import Outline, structure
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.patients import without_eye
from sam2lora.datasets.splits import FOLDS


@choice
class Synthetic:
    """``images`` photographs of ``size`` x ``size`` pixels of one hospital, drawn from ``seed`` alone.

    Every patient has two eyes. Every fourth patient is in the test part, the others fill the five folds in turn.
    ``target``: which of the known masks is read.
    """

    kind: Literal["synthetic"] = "synthetic"
    hospital: Hospital
    images: Annotated[int, Ge(4), Le(10_000), MultipleOf(2)] = 24
    size: Annotated[int, Ge(64), Le(2048)] = 384
    seed: Annotated[int, Ge(0)] = 0
    target: Target = "vessel"

    @property
    def name(self) -> str:
        """The hospital, whatever the target."""
        return self.hospital

    @property
    def title(self) -> str:
        """The hospital with a capital."""
        return self.hospital.capitalize()

    @property
    def complete(self) -> int:
        """As many images as were asked for."""
        return self.images

    @property
    def licence(self) -> str:
        """Free: the images are drawn by this program."""
        return "none needed: drawn by this program"

    @property
    def overlaps(self) -> frozenset[str]:
        """The hospital: all structures are outlined on the same patients."""
        return frozenset({self.hospital})

    def find(self, root: Path | None) -> Found:
        """List the images; ``root`` is not used. The files of an entry are the program that paints it."""
        program, *parts = (Path(str(module.__file__)) for module in (painter, vasculature, hospitals))
        ids = map(_identity, range(self.images))
        return Found(tuple(Entry(each, without_eye(each), program, tuple(parts)) for each in ids))

    def read(self, entry: Entry) -> Pair:
        """Paint one image."""
        index = 2 * int(entry.id[:-1]) + "LR".index(entry.id[-1])
        painted = painter.paint(self.hospital, self.size, self.seed, index)
        outline = Outline(painted.disc, painted.cup)
        mask = painted.vessels if self.target == "vessel" else structure([outline], self.target)
        return Pair(painted.image, mask, painted.fov)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every image id, by rule."""
        return {_identity(index): _split(index // 2) for index in range(self.images)}


def _identity(index: int) -> str:
    return f"{index // 2:04d}{'LR'[index % 2]}"


def _split(patient: int) -> str:
    rounds, place = divmod(patient, 4)
    return "test" if place == 3 else FOLDS[(3 * rounds + place) % len(FOLDS)]
