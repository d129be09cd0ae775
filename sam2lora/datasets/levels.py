"""Which pixels of a mask file are the structure: by what is light, by index, or by values that the user names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2lora.datasets.pairs import Bits, Pixels, failure

Coding = Literal["light", "index"]

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_LOSSLESS = ("BMP", "DIB", "GIF", "PNG", "PPM", "TIFF")  # a TIFF that packs a JPEG says so
_DARK, _LIGHT = 63, 192  # a mask is near black or near white; a value in between belongs to an edge, or means something
_REACH = 2  # pixels from an edge to both its sides; compression and interpolation blur it so far
_STRAY = 0.02  # share of the structure that may be grey and no edge: 0.006 of real masks as JPEG of quality 30
_LABELS = 8  # lossless masks of three to so many values, apart from each other, are labels: blurred edges have more
_APART = 16  # values that are closer are the noise of compression about one
_BLOCK = 16  # pixels that the noise of a JPEG reaches beyond an edge, with subsampled colour
_COLOURED = 64  # the channels of a colour differ by more, those of a grey JPEG by less
_RECODE = "recode it: 0 for the background and 255 for the structure"
_NAME = "or say which are the structure, as values=1+2 or values=ff0000+00ff00 of a folder"


@dataclass(frozen=True)
class Values:
    """The values of a mask that are the structure: grey levels or palette indices, or else RGB colours."""

    levels: frozenset[int] = frozenset()
    colours: frozenset[tuple[int, int, int]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Values:
        """From ``"1+2"`` or ``"ff0000+0000ff"``. Raises ``ValueError`` for anything else, and for both at once."""
        parts = [part.strip().lower() for part in text.split("+")]
        if all(re.fullmatch(r"\d{1,3}", part) and int(part) <= 255 for part in parts):
            return cls(levels=frozenset(map(int, parts)))
        if all(re.fullmatch(r"[0-9a-f]{6}", part) for part in parts):
            return cls(colours=frozenset((int(each[:2], 16), int(each[2:4], 16), int(each[4:], 16)) for each in parts))
        raise ValueError("must be levels or indices from 0 to 255, as 1+2, or colours, as ff0000+0000ff")


def structure_of(file: Path, image: Image.Image, coding: Coding | Values) -> Bits:
    """The structure, (H, W) bool, in the decoded mask ``image`` of ``file``. Raises ``DataError`` naming ``file``.

    ``"light"``: luminance above 127, which reads 1-bit, 0/255, palettes of near black and near white (DRIVE's second
    grader: 3 and 253) and RGB masks alike, and undoes the noise of compression. ``"index"``: any palette index or
    value above 0 (IDRiD, whose palette is red on black). ``Values``: these values and no others.

    Refused are transparency, 16 bits and values that the coding does not know. A ``light`` mask must be near black and
    near white, whether it was compressed or not: a colour, a third value and a grey that is no edge between the two
    code another structure, and what is dark altogether (0 and 1) would pass for empty. So are masks of thin vessels
    that were shrunk with interpolation, for their vessels are grey. The other two codings need a lossless file, and an
    ``index`` mask has two values.
    """
    if image.mode not in _MODES:
        raise failure(file, "a mask must have 8 bits or 1", f"its mode is {image.mode}", "convert it to 0 and 255")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise failure(file, "a mask must be opaque", "its alpha channel varies", "save it without one, as 0 and 255")
    if coding == "light":
        _check_colours(file, image)
        values = np.asarray(image.convert("L"))
        _check_light(file, image, values)
        return np.asarray(values > 127, np.bool_)
    if _is_lossy(image):
        remedy = "take the lossless file of the owners, or recode it by its light parts"
        raise failure(file, "a mask coded by value must be lossless", f"it is a {image.format}", remedy)
    return _above_zero(file, image) if coding == "index" else _among(file, image, coding)


def _is_lossy(image: Image.Image) -> bool:
    return image.format not in _LOSSLESS or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def _check_colours(file: Path, image: Image.Image) -> None:
    """Raises ``DataError`` for a mask whose colours differ by more than their luminance."""
    if image.mode in ("1", "L", "LA"):
        return
    pixels = np.asarray(image.convert("RGB"))
    coloured = np.ptp(pixels, axis=2) > _COLOURED
    if coloured.sum() > _STRAY * max(1, int((pixels.max(axis=2) > _DARK).sum())):
        rule, remedy = "a mask must be black and white", _RECODE if _is_lossy(image) else f"{_RECODE}, {_NAME}"
        value = f"{coloured.mean():.1%} of it are coloured" if _is_lossy(image) else f"it has the {_content(image)}"
        raise failure(file, rule, value, remedy)


def _check_light(file: Path, image: Image.Image, values: Pixels) -> None:
    levels = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    rule, lossy = "a mask must be black and white", _is_lossy(image)
    remedy = f"{_RECODE}, in a lossless file" if lossy else f"{_RECODE}, {_NAME}"
    few = not lossy and levels.size <= _LABELS
    labels = few and int((np.diff(levels) > _APART).sum()) > 1
    is_dark = levels.size > 1 and int(levels[-1]) <= _DARK
    if labels or is_dark or ((few or image.format in ("JPEG", "MPO")) and _has_faint(values)):
        raise failure(file, rule, f"it has the {_content(image)}", remedy)
    strays, structure = _strays(values)
    if strays.size > _STRAY * structure:
        value = f"{strays.size} of its pixels, about {int(np.median(strays))} in value, are neither and lie on no edge"
        if not lossy:
            remedy += "; and resize masks without interpolation"
        raise failure(file, rule, value, remedy)


def _has_faint(values: Pixels) -> bool:
    """Whether a second dark value, 1 beside 0, covers ground where no edge is near whose noise it could be."""
    dark = values <= _DARK
    window = np.ones((2 * _BLOCK + 1, 2 * _BLOCK + 1), np.uint8)
    counts = np.bincount(values[cv2.dilate((~dark).astype(np.uint8), window) == 0], minlength=1)
    structure = min(int(dark.sum()), int((~dark).sum()))
    return int(counts.sum() - counts.max()) > _STRAY * structure


def _strays(values: Pixels) -> tuple[Pixels, int]:
    """The grey values that are no edge, for want of black or of white near by; and how many pixels are not rest.

    The rest is the larger of what is dark and what is light, so that polarity plays no part.
    """
    drawn, full = values > _DARK, values >= _LIGHT
    grey = drawn & ~full
    structure = min(int(drawn.sum()), int((~full).sum()))
    if not grey.any():
        return values[grey], structure
    window = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    by_white, by_black = (cv2.dilate(side.astype(np.uint8), window).astype(np.bool_) for side in (full, ~drawn))
    return values[grey & ~(by_white & by_black)], structure


def _above_zero(file: Path, image: Image.Image) -> Bits:
    values = _raw(image)
    if np.unique(values).size > 2:
        remedy = f"recode it: 0 for the background and one other value for the structure, {_NAME}"
        raise failure(file, "a mask must have two values", f"it has {_content(image).partition(' ')[2]}", remedy)
    return np.asarray(values > 0, np.bool_)


def _among(file: Path, image: Image.Image, values: Values) -> Bits:
    if values.colours:
        codes = _packed(np.asarray(image.convert("RGB")))
        return np.isin(codes, _packed(np.array(sorted(values.colours))))
    if image.mode in ("RGB", "RGBA") and np.ptp(np.asarray(image)[..., :3], axis=2).any():
        rule, remedy = "a mask whose values are named by level must be grey or a palette image", "name its colours"
        raise failure(file, rule, f"it has the {_content(image)}", f"{remedy}, as values=ff0000+00ff00")
    return np.isin(_raw(image), sorted(values.levels))


def _raw(image: Image.Image) -> Pixels:
    """The values of a mask, (H, W): indices of a palette, grey levels, or the luminance of colours."""
    if image.mode == "PA":
        return np.asarray(image)[..., 0]
    return np.asarray(image if image.mode in ("1", "L", "P") else image.convert("L")).astype(np.uint8)


def _content(image: Image.Image) -> str:
    """Which values a mask holds, in the way in which they can be named: indices, levels or colours."""
    if image.mode in ("RGB", "RGBA"):
        pixels = np.asarray(image.convert("RGB"))
        if np.ptp(pixels, axis=2).any():
            return f"colours {_some([f'{code:06x}' for code in np.unique(_packed(pixels))])}"
    levels = [str(level) for level in np.unique(_raw(image))]
    return f"{'indices' if image.mode in ('P', 'PA') else 'values'} {_some(levels)}"


def _packed(colours: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number for each colour (..., 3)."""
    return np.asarray(colours.astype(np.int64) @ np.array([2**16, 2**8, 1]))


def _some(values: Sequence[str]) -> str:
    shown = ", ".join(values[:6])
    return shown if len(values) <= 6 else f"{shown} and {len(values) - 6} more"
