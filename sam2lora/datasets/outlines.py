"""Disc, cup and rim: how outlines become masks, and how the three are kept consistent.

The disc contains the cup and the rim is the disc without the cup, in every set. Where graders drew disc and cup apart,
a cup may leave the disc by a few pixels; as usual in the field the disc is then the union of the two. More than a
tenth of the cup beside the disc is no imprecision but another image's outline, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from sam2lora.datasets.checks import check_size
from sam2lora.datasets.pairs import Bits, DiscTarget, Pixels, failure
from sam2lora.datasets.reading import combine, open_image

Contour = NDArray[np.float64]  # (N, 2), x and y in pixels; (0, 0) is the centre of the first pixel

REFUGE_CODES = {0: "cup", 128: "rim", 255: "rest"}
LAYER_CODES = {0: "rest", 1: "rim", 2: "cup"}
_STRAY = 0.1  # share of the cup that may lie beside the disc


class Outline(NamedTuple):
    """What one grader says of one image: ``disc`` and ``cup``, (H, W) bool each, the first contains the second."""

    disc: Bits
    cup: Bits


def nested(disc: Bits, cup: Bits, file: Path) -> Outline:
    """An outline of masks that were drawn apart: the disc becomes the union of both.

    Raises ``DataError`` naming ``file``, the cup's, when more than a tenth of the cup lies beside the disc.
    """
    stray = int((cup & ~disc).sum())
    if stray > _STRAY * int(cup.sum()):
        rule, value = "a cup must lie within its disc", f"{stray / cup.sum():.0%} of it lies beside"
        raise failure(file, rule, value, "check that disc and cup are of the same image and not exchanged")
    return Outline(disc | cup, cup)


def structure(outlines: Sequence[Outline], target: DiscTarget, annotator: str = "first") -> Bits:
    """The target, (H, W) bool, of the graders' outlines; ``annotator`` is that of ``reading.combine``.

    Disc and cup are combined each by itself, and the rim is what the combined disc has beyond the combined cup.
    """
    cup = combine([outline.cup for outline in outlines], annotator)
    if target == "cup":
        return cup
    disc = combine([outline.disc for outline in outlines], annotator)
    return disc if target == "disc" else disc & ~cup


def size(image: Pixels) -> tuple[int, int]:
    """Height and width."""
    return image.shape[0], image.shape[1]


def inside(contour: Contour, shape: tuple[int, int]) -> Bits:
    """The pixels of an image of ``shape`` whose centres lie within the closed ``contour`` or on it, (H, W) bool.

    So the area is that of the polygon to within half its perimeter; what lies beyond the image is cut off.
    """
    return np.asarray(polygon2mask(shape, contour[:, ::-1]), np.bool_)


def read_contour(file: Path, delimiter: str | None = None) -> Contour:
    """A contour from a text file with one point, x and y, on each line.

    ``delimiter``: None for spaces and tabs. Raises ``DataError`` when the file is unreadable or holds less than
    three points.
    """
    try:
        points = np.loadtxt(file, delimiter=delimiter, ndmin=2)
    except (OSError, ValueError) as error:
        why = str(error).replace(str(file), file.name)
        raise failure(file, "a contour must be text, one point on a line", why, "copy it again") from error
    return _contour(file, points)


def read_polygons(file: Path) -> dict[str, list[Contour]]:
    """The polygons of a labelme file, by label.

    Raises ``DataError`` when the file is no labelme file or outlines something by another shape than a polygon.
    """
    polygons: dict[str, list[Contour]] = {}
    for shape in read_labelme(file)["shapes"]:
        kind = shape.get("shape_type", "polygon")
        if kind == "point":  # G1020 marks the place of the disc by one
            continue
        if kind != "polygon":
            rule, remedy = "a structure must be outlined by a polygon", "draw it as one"
            raise failure(file, rule, f"{shape['label']!r} is a {kind}", remedy)
        polygons.setdefault(shape["label"], []).append(_contour(file, np.asarray(shape["points"], np.float64)))
    return polygons


def read_labelme(file: Path) -> dict[str, Any]:
    """The contents of a labelme file; ``shapes`` is there, each with ``label`` and ``points``."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        for shape in content["shapes"]:
            hash(shape["label"]), np.asarray(shape["points"], np.float64), shape.get("shape_type")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"it cannot be read as one ({error})"
        raise failure(file, "an outline must be a labelme file", why, "copy it again from its owners") from error
    return dict(content)


def filled(contours: Sequence[Contour], shape: tuple[int, int]) -> Bits:
    """The union of the insides of ``contours``, (H, W) bool; nothing for none."""
    mask = np.zeros(shape, np.bool_)
    for contour in contours:
        mask |= inside(contour, shape)
    return mask


def coded(file: Path, codes: NDArray[Any], values: Mapping[int, str]) -> Outline:
    """The outline in one mask ``codes`` (H, W), whose ``values`` mean ``cup``, ``rim`` and ``rest``.

    Raises ``DataError`` for a value that means nothing: such a mask was compressed, resized or coded in another way.
    """
    other = sorted({int(value) for value in np.unique(codes)} - set(values))
    if other:
        meaning = ", ".join(f"{value} for the {what}" for value, what in values.items())
        shown = ", ".join(map(str, other[:5])) + (" and more" if len(other) > 5 else "")
        raise failure(file, f"a mask must hold {meaning}", f"it holds {shown}", "take the owners' file")
    where = {what: codes == value for value, what in values.items()}
    return Outline(where["cup"] | where["rim"], where["cup"])


def read_codes(file: Path, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The values of a mask, (H, W): grey levels, or the indices of a palette; RGB only where it is grey.

    Raises ``DataError`` for any other file, and for another size than ``shape``.
    """
    image = open_image(file)
    pixels = np.asarray(image)
    if image.mode == "RGB" and (pixels == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    elif image.mode not in ("L", "P"):
        rule, remedy = "a mask of codes must be 8-bit grey or a palette image", "take the owners' file"
        raise failure(file, rule, f"its mode is {image.mode}", remedy)
    return pixels if shape is None else check_size(file, pixels, shape)


def _contour(file: Path, points: Contour) -> Contour:
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        rule, value = "a contour must have three points or more, x and y each", f"its shape is {points.shape}"
        raise failure(file, rule, value, "copy it again from its owners")
    return points
