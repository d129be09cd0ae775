"""ORIGA-light (Zhang et al., 2010): 650 photographs of a population study in Singapore, disc and cup."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.outlines import LAYER_CODES, coded, read_codes, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair, Problem, failure
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image

_LIST = "OrigaList.csv"
_SETS = {"A": "development", "B": "test"}


@choice
class Origa(PublishedSet):
    """``ORIGA/Images/001.jpg`` with ``Semi-automatic-annotations/001.mat``, or ``Masks/001.png`` of the copies.

    ``outlines``: ``"mat"`` reads the owners' annotations (key ``mask``), ``"png"`` the masks of the copies. Both code 0
    for the rest, 1 for the rim, 2 for the cup. A mask may be wider than its image: the image is its middle, and what
    is cut off must be empty. ``split``: ``"sets"`` develops on set A and tests on set B of ``OrigaList.csv``, 325 each;
    ``"dealt"`` tests on a quarter by a hash of the id, and needs no list. The list names no patients: one image
    is one patient. The field of view is computed.
    """

    kind: Literal["origa"] = "origa"
    target: DiscTarget = "disc"
    outlines: Literal["mat", "png"] = "mat"
    split: Literal["sets", "dealt"] = "sets"

    folders: ClassVar[tuple[str, ...]] = ("ORIGA", "ORIGA-light")
    title: ClassVar[str] = "ORIGA"
    complete: ClassVar[int | None] = 650
    licence: ClassVar[str] = "unclear: the owners' page (A*STAR, Singapore) is closed, copies are in use"

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        found = super().find(root)
        return found if self.split == "dealt" or not found.entries else _listed(found)

    def parts(self, base: Path) -> list[Found]:
        place = base / ("Semi-automatic-annotations" if self.outlines == "mat" else "Masks")
        masks = by_stem(place, endings=(".mat",)) if self.outlines == "mat" else by_stem(place)
        return [pair_up(by_stem(base / "Images"), {place: masks}, image_itself)]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image, (file,) = read_image(entry.image), entry.masks
        codes = _read_mat(file) if self.outlines == "mat" else read_codes(file)
        outline = coded(file, _middle(file, codes, size(image)), LAYER_CODES)
        return paired(image, structure([outline], self.target), file)


def _listed(found: Found) -> Found:
    """The entries with the sets of the owners' list. An image that it does not name is a problem."""
    sets, problem = _read_list(found.entries[0].image.parent.parent / _LIST)
    if problem is not None:
        return replace(found, problems=(*found.problems, problem))
    rule, remedy = f"every image must be in {_LIST}", 'copy the list again, or ask for split="dealt"'
    unknown = [entry for entry in found.entries if entry.id not in sets]
    problems = [Problem(entry.image, rule, "it is not", remedy) for entry in unknown]
    entries = tuple(replace(entry, split=sets[entry.id]) for entry in found.entries if entry.id in sets)
    return replace(found, entries=entries, problems=(*found.problems, *problems))


def _read_list(path: Path) -> tuple[dict[str, str], Problem | None]:
    remedy = 'copy it from the owners, or ask for split="dealt"'
    if not path.is_file():
        return {}, Problem(path, "the sets A and B must be listed", "there is no such file", remedy)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, Problem(path, "the list must be a readable CSV", str(error), remedy)
    rule = "the list must have the columns Filename and Set, the latter A or B"
    if not rows or not {"Filename", "Set"} <= set(rows[0]):
        return {}, Problem(path, rule, f"it has {', '.join(map(str, rows[0] if rows else ())) or 'none'}", remedy)
    other = sorted({str(row["Set"]) for row in rows if row["Filename"]} - set(_SETS))
    if other:
        return {}, Problem(path, rule, f"there is {', '.join(other)}", remedy)
    return {Path(row["Filename"]).stem: _SETS[row["Set"]] for row in rows if row["Filename"]}, None


def _read_mat(file: Path) -> NDArray[Any]:
    try:
        codes = np.asarray(loadmat(file)["mask"])
    except Exception as error:  # SciPy raises what its parser stumbles over, of many kinds
        rule, value = "an annotation must be a MATLAB file with the matrix 'mask'", f"reading it gives {error!r}"
        raise failure(file, rule, value, "copy it again from its owners") from error
    if codes.ndim != 2:
        raise failure(file, "'mask' must be a matrix", f"its shape is {codes.shape}", "copy it again from its owners")
    return codes


def _middle(file: Path, codes: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The middle columns of a mask that is wider than its image."""
    height, width = shape
    beyond = codes.shape[1] - width
    if codes.shape[0] != height or beyond < 0:
        rule = f"a mask must have the height of its image and its width or more, {width}x{height}"
        value = f"it has {codes.shape[1]}x{codes.shape[0]}"
        raise failure(file, rule, value, "take both from the same copy of the set")
    left = beyond // 2
    middle = codes[:, left : left + width]
    if np.count_nonzero(middle) < np.count_nonzero(codes):
        rule, value = "what a mask has beyond its image must be empty", "the disc reaches there"
        raise failure(file, rule, value, "take both from the same copy of the set")
    return middle
