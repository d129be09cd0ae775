"""DRISHTI-GS1 (Sivaswamy et al., 2014): 101 photographs of an Indian eye clinic, about 2047 x 1759, disc and cup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, pair_up
from sam2lora.datasets.listing import folders
from sam2lora.datasets.outlines import nested, size, structure
from sam2lora.datasets.pairs import Bits, DiscTarget, Entry, Found, Pair, Problem, WrongSizeError, failure
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import open_image, paired, read_image

_FOLDERS = {"owners": ("DRISHTI-GS1", "DRISHTI-GS", "Drishti-GS1_files"), "1024": ("DRISHTI-GS1_1024",)}
_LEAST = {"union": 32, "majority": 128, "intersection": 224}  # a value counts as the nearest of 0/64/128/191/255
_MISSING_PIXELS = 8  # soft maps of the owners may lack so many rows and columns at the bottom and the right


@choice
class DrishtiGS1(PublishedSet):
    """``DRISHTI-GS1/Drishti-GS1_files``: ``Training/{Images,GT}`` and ``Test/{Images,Test_GT}``, 50 and 51 images.

    Images are ``drishtiGS_001.png``, masks ``drishtiGS_001/SoftMap/drishtiGS_001_{ODseg,cupseg}Softmap.png``.
    The masks are soft maps, 0/64/128/191/255 for none to four of four experts. ``annotator``: ``"majority"`` is two
    or more of them (128 and above), ``"union"`` one or more, ``"intersection"`` all four; of the disc and of the cup
    each. A cup that leaves the disc (by nine pixels in one image of the copy) widens it. ``copy``: ``"1024"`` reads
    the folder ``DRISHTI-GS1_1024``, derived from the owners' files by shrinking; the two show the same patients and
    only the copy that is asked for is read. Ids are the numbers of the files, one image is one patient, the field of
    view is computed.
    """

    kind: Literal["drishti_gs1"] = "drishti_gs1"
    target: DiscTarget = "disc"
    annotator: Literal["majority", "union", "intersection"] = "majority"
    copy: Literal["owners", "1024"] = "owners"

    title: ClassVar[str] = "DRISHTI-GS1"
    complete: ClassVar[int | None] = 101
    licence: ClassVar[str] = "research use; owned by IIIT Hyderabad"

    @property
    def name(self) -> str:
        """``"drishti_gs1"``, with ``_1024`` for the copy."""
        return "drishti_gs1" if self.copy == "owners" else "drishti_gs1_1024"

    def home(self, root: Path | None) -> Path:
        return folder(root, _FOLDERS[self.copy], self.title, _hint(root, self.copy))

    def parts(self, base: Path) -> list[Found]:
        inner = base / "Drishti-GS1_files"
        files = inner if inner.is_dir() else base
        return [_part(files / "Training", "GT"), _part(files / "Test", "Test_GT")]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image = read_image(entry.image)
        least = _LEAST[self.annotator]
        disc, cup = (_read_soft_map(path, size(image), least) for path in entry.masks)
        mask = structure([nested(disc, cup, entry.masks[1])], self.target)
        return paired(image, mask, entry.masks[self.target == "cup"])


def _hint(root: Path | None, copy: str) -> str:
    """The remedy when the copy that was asked for is absent and the other one is there."""
    other = "1024" if copy == "owners" else "owners"
    wanted = {name.lower() for name in _FOLDERS[other]}
    there = root is not None and any(path.name.lower() in wanted for path in folders(root))
    return f'ask for DrishtiGS1(copy="{other}"), whose folder is there' if there else ""


def _part(base: Path, truth: str) -> Found:
    places = [place for place in folders(base / truth) if place.name.startswith("drishtiGS_")]
    masks = {base / truth / "*" / f"*_{what}Softmap": _soft_maps(places, what) for what in ("ODseg", "cupseg")}
    return pair_up(by_stem(base / "Images", prefix="drishtiGS_"), masks, image_itself)


def _soft_maps(places: Sequence[Path], what: str) -> dict[str, Path]:
    maps = {place: by_stem(place / "SoftMap", prefix=place.name, suffix=f"_{what}Softmap") for place in places}
    return {place.name.removeprefix("drishtiGS_"): files[""] for place, files in maps.items() if files}


def _read_soft_map(path: Path, shape: tuple[int, int], least: int) -> Bits:
    image = open_image(path)
    if image.mode != "L":
        raise failure(path, "a soft map must be 8-bit grey", f"its mode is {image.mode}", "take the owners' file")
    soft = np.asarray(image)
    lacking = (shape[0] - soft.shape[0], shape[1] - soft.shape[1])
    if not all(0 <= lack <= _MISSING_PIXELS for lack in lacking):
        size, value = f"{shape[1]}x{shape[0]}", f"it has {soft.shape[1]}x{soft.shape[0]}"
        rule = f"a soft map must have the size of its image, {size}, or up to {_MISSING_PIXELS} pixels less"
        raise WrongSizeError(str(Problem(path, rule, value, "take both from the same copy of the set")))
    return np.pad(soft >= least, ((0, lacking[0]), (0, lacking[1])))
