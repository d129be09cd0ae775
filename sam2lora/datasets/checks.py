"""What makes a pair that was read unusable: every check of image, mask and field of view against each other.

``reading.paired`` makes them for every data set. Whether a file is an image at all is seen in ``reading``, whether its
values fit the coding of the set in ``levels``, whether disc and cup fit together in ``outlines``, and whether files are
missing in ``layout``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sam2lora.datasets.pairs import Bits, Problem, WrongSizeError, failure

_SLIP = 8  # pixels by which a mask may be off for a folder to tolerate it
_HELD = 0.95  # share of a mask within its field of view; 0.997 is the least of the real pairs of DRIVE and HRF
_ALIKE = 0.85  # IoU of a field of view that ships and the lit disc; 0.983 is the least there, a shift of 7 % ends there

Empty = Literal["refuse", "keep"]
View = Literal["photograph", "crop"]

_Value = TypeVar("_Value", np.bool_, np.uint8)


@dataclass(frozen=True)
class Field:
    """A field of view that ships with its image: the file, and what it says, (H, W) bool."""

    file: Path
    bits: Bits


def check_size(path: Path, mask: NDArray[_Value], shape: tuple[int, int], tolerate: int = 0) -> NDArray[_Value]:
    """``mask``, when it has the (H, W) of its image; cut or padded where it lacks up to ``tolerate`` pixels of it.

    That is done at the bottom and the right. Raises ``WrongSizeError`` otherwise.
    """
    off = max(abs(mine - other) for mine, other in zip(mask.shape, shape, strict=True))
    if off > tolerate:
        rule = f"a mask must have the size of its image, {shape[1]}x{shape[0]}"
        value = f"it has {mask.shape[1]}x{mask.shape[0]}"
        remedy = "take both from the same copy of the set"
        if off <= _SLIP:
            remedy += f", or, in a folder, set tolerate={off}"
        raise WrongSizeError(str(Problem(path, rule, value, remedy)))
    cut = mask[: shape[0], : shape[1]]
    return np.pad(cut, [(0, whole - part) for whole, part in zip(shape, cut.shape, strict=True)])


def check_share(path: Path, mask: Bits, fov: Bits, empty: Empty = "refuse", view: View | None = None) -> None:
    """Raises ``DataError`` when ``mask`` is empty or covers half of the field of view: wrong coding or polarity.

    ``empty="keep"``: an image without the structure is legitimate. ``view="crop"``: so is a mask of more than half, but
    not of all.
    """
    share = float(mask.sum()) / max(1, int(fov.sum()))
    most, part = (1, "all") if view == "crop" else (0.5, "half")
    if not 0 < share < most and not (share == 0 and empty == "keep"):
        rule = f"a mask must cover more than nothing and less than {part} of the field of view"
        remedy = "check its coding (0 and 255, or the values that were named) and its polarity (the structure is light)"
        if view == "photograph" and share >= most:
            remedy += ", or set view=crop if the pictures show the disc alone"
        raise failure(path, rule, f"it covers {share:.0%}", remedy)


def check_field(shipped: Field, mask: Bits, disc: Bits | None, view: View | None) -> None:
    """Raises ``DataError`` for a field of view that is empty or, where a lit ``disc`` stands out, is not that disc."""
    if disc is None:
        if not shipped.bits.any():
            raise failure(shipped.file, "a field of view must be light", "it is all dark", _field_remedy(view))
        return
    overlap = int((shipped.bits & disc).sum()) / int((shipped.bits | disc).sum())
    if overlap < _ALIKE:
        rule = f"a field of view must be the lit disc of its picture, with an IoU of {_ALIKE:.2f} or more"
        value = f"the IoU is {overlap:.3f}" + (
            f" and it holds {_share(mask, shipped.bits)} of the mask" if mask.any() else ""
        )
        raise failure(shipped.file, rule, value, _field_remedy(view))


def check_held(file: Path, mask: Bits, fov: Bits, shipped: Field | None, view: View | None) -> None:
    """Raises ``DataError`` for a mask of which a twentieth or more lies outside the field of view."""
    if int((mask & fov).sum()) >= _HELD * int(mask.sum()):
        return
    if shipped is not None:
        rule = f"a field of view must hold its mask, {_HELD:.0%} of it or more"
        raise failure(shipped.file, rule, f"it holds {_share(mask, fov)} of the mask ({file})", _field_remedy(view))
    rule = f"a mask must lie in the field of view of its image, {_HELD:.0%} of it or more"
    remedy = "check that it is of this image, or use a folder, with the field of view in fov"
    raise failure(file, rule, f"the field, which was computed, holds {_share(mask, fov)} of it", remedy)


def _share(mask: Bits, fov: Bits) -> str:
    return f"{(mask & fov).sum() / mask.sum():.1%}"


def _field_remedy(view: View | None) -> str:
    remedy = "check its polarity (the field is light) and that it is of this image"
    return f"{remedy}, or remove all fields of view: they are computed then" if view is not None else remedy
