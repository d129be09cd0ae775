"""How the files of a set are decoded: images, masks, and what makes a pair of them impossible."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from sam2lora.datasets.field_of_view import field_of_view
from sam2lora.datasets.pairs import Bits, Entry, Pair, Pixels, failure

_ORIENTATION = 274  # the EXIF tag
_UPRIGHT = (None, 0, 1)  # 0 is "unknown", which cameras write for upright images

Coding = Literal["light", "index"]


def read_pair(entry: Entry, annotator: str = "first", coding: Coding = "light") -> Pair:
    """Decode one entry whose masks are ready-made: image, mask of the graders asked for, field of view.

    Raises ``DataError`` naming the file that is unreadable, turned, of another size, empty or inverted.
    """
    image = read_image(entry.image)
    shape = (image.shape[0], image.shape[1])
    mask = combine([read_mask(path, shape, coding) for path in entry.masks], annotator)
    fov = field_of_view(image) if entry.fov is None else read_mask(entry.fov, shape)
    check_share(entry.masks[0], mask, fov)
    return Pair(image, mask, fov)


def open_image(path: Path) -> Image.Image:
    """Decode an image file, gzipped ones included. Raises ``DataError`` when it is unreadable."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, EOFError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        why = str(error).replace(str(path), path.name)
        raise failure(path, "an image file must be readable", why, "copy it again from its owners") from error
    return image


def read_image(path: Path) -> Pixels:
    """An RGB image, (H, W, 3) uint8.

    Raises ``DataError`` for an unreadable file, for pixels that are not 8-bit RGB, and for an image that an EXIF tag
    wants turned: its mask has no such tag, and turning one of the two would misplace every pixel.
    """
    image = open_image(path)
    turned = image.getexif().get(_ORIENTATION)
    if turned not in _UPRIGHT:
        remedy = "turn the pixels of the image as its mask lies, and remove the tag"
        raise failure(path, "an image must be stored upright", f"its EXIF orientation is {turned}", remedy)
    if image.mode != "RGB":
        remedy = "convert it, or take the owners' file"
        raise failure(path, "an image must be 8-bit RGB", f"its mode is {image.mode}", remedy)
    return np.asarray(image)


def read_mask(path: Path, shape: tuple[int, int], coding: Coding = "light") -> Bits:
    """A binary mask, (H, W) bool.

    ``coding="light"``: luminance above 127, which reads 1-bit, 0/255, palettes of near black and near white (DRIVE's
    second grader: 3 and 253) and RGB masks alike, and undoes JPEG noise. ``coding="index"``: any palette index or
    value above 0 (IDRiD, whose palette is red on black). Raises ``DataError`` for another size than ``shape``.
    """
    image = open_image(path)
    if image.mode not in ("1", "L", "P", "RGB", "RGBA"):
        raise failure(path, "a mask must have 8 bits or 1", f"its mode is {image.mode}", "convert it to 0 and 255")
    if coding == "light":
        mask = np.asarray(image.convert("L")) > 127
    else:
        mask = np.asarray(image if image.mode in ("1", "L", "P") else image.convert("L")) > 0
    if mask.shape != shape:
        rule = f"a mask must have the size of its image, {shape[1]}x{shape[0]}"
        value = f"it has {mask.shape[1]}x{mask.shape[0]}"
        raise failure(path, rule, value, "take both from the same copy of the set")
    return mask


def combine(masks: Sequence[Bits], annotator: str) -> Bits:
    """One mask of several graders' (each (H, W) bool): the only one, their union or their intersection."""
    if annotator == "union":
        return np.asarray(np.logical_or.reduce(masks), np.bool_)
    if annotator == "intersection":
        return np.asarray(np.logical_and.reduce(masks), np.bool_)
    (only,) = masks
    return only


def check_share(path: Path, mask: Bits, fov: Bits) -> None:
    """Raises ``DataError`` when ``mask`` is empty or covers half of the field of view: wrong coding or polarity."""
    share = float(mask.sum()) / max(1, int(fov.sum()))
    if not 0 < share < 0.5:
        rule = "a mask must cover more than nothing and less than half of the field of view"
        remedy = "check its coding (0 and 255) and its polarity (the structure is light)"
        raise failure(path, rule, f"it covers {share:.0%}", remedy)
