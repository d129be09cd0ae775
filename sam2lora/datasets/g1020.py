"""G1020 (Bajwa et al., 2020): 1020 photographs of a German eye clinic, of many sizes, disc and cup."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.listing import size_and_time
from sam2lora.datasets.outlines import (
    LAYER_CODES,
    Outline,
    coded,
    filled,
    nested,
    read_codes,
    read_polygons,
    size,
    structure,
)
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair, Problem, failure
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image
from sam2lora.errors import DataError


@choice
class G1020(PublishedSet):
    """``G1020/Images``: ``image_0.jpg`` with the owners' polygons ``image_0.json``, or a copy's ``Masks/image_0.png``.

    ``outlines``: ``"json"`` fills the polygons ``disc`` and ``cup`` (a cup that leaves the disc widens it), ``"png"``
    reads the masks: 0 the rest, 1 the rim, 2 the cup. The graders saw no cup in a part of the images. ``cupless`` says
    what becomes of these when the cup or the rim is the target: ``"refuse"`` counts them and stops, ``"empty"`` reads
    a cup of no pixels (the rim is then all of the disc), ``"leave_out"`` passes them over. No official split: a
    quarter is the test, by a hash of the id. The owners name no patients: one image is one patient. The field of view
    is computed.
    """

    kind: Literal["g1020"] = "g1020"
    target: DiscTarget = "disc"
    outlines: Literal["json", "png"] = "json"
    cupless: Literal["refuse", "empty", "leave_out"] = "refuse"

    folders: ClassVar[tuple[str, ...]] = ("G1020",)
    title: ClassVar[str] = "G1020"
    complete: ClassVar[int | None] = 1020
    licence: ClassVar[str] = "unclear; owned by DFKI and the clinic of Kaiserslautern"

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing.

        The outlines are opened only to tell images without a cup, where these matter.
        """
        found = super().find(root)
        return found if self.target == "disc" or self.cupless == "empty" else self._without_cupless(found)

    def parts(self, base: Path) -> list[Found]:
        place = base / ("Images" if self.outlines == "json" else "Masks")
        masks = by_stem(place, endings=(".json",)) if self.outlines == "json" else by_stem(place)
        return [pair_up(by_stem(base / "Images"), {place: masks}, image_itself)]

    def _without_cupless(self, found: Found) -> Found:
        entries = tuple(entry for entry in found.entries if _has_cup(entry.masks[0]))
        count = len(found.entries) - len(entries)
        if self.cupless == "leave_out" or not count:
            return replace(found, entries=entries)
        rule, value = "every image needs a cup", f"{count} of {len(found.entries)} have none"
        problem = Problem(
            found.entries[0].masks[0].parent, rule, value, 'ask for cupless="leave_out" or cupless="empty"'
        )
        return replace(found, entries=entries, problems=(*found.problems, problem))

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image, (file,) = read_image(entry.image), entry.masks
        outline = _read(file, size(image))
        keep = self.target == "cup" and self.cupless == "empty"
        return paired(image, structure([outline], self.target), file, empty="keep" if keep else "refuse")


def _read(file: Path, shape: tuple[int, int]) -> Outline:
    if file.suffix.lower() != ".json":
        return coded(file, read_codes(file, shape), LAYER_CODES)
    polygons = read_polygons(file)
    if "disc" not in polygons:
        named = ", ".join(polygons) or "nothing"
        raise failure(file, "a disc must be outlined", f"the file outlines {named}", "copy it again from its owners")
    return nested(filled(polygons["disc"], shape), filled(polygons.get("cup", []), shape), file)


def _has_cup(file: Path) -> bool:
    """Whether a cup is outlined; an outline that cannot be read counts as one, for reading its image says why."""
    try:
        return _cup_of(file, *size_and_time(file))
    except DataError:
        return True


@cache
def _cup_of(file: Path, length: int, changed: int) -> bool:
    """Remembered by what the file system says of the file: every trial of a process lists the set anew."""
    if file.suffix.lower() == ".json":
        return "cup" in read_polygons(file)
    return bool(coded(file, read_codes(file), LAYER_CODES).cup.any())
