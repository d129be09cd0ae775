"""How the files of a set are decoded, images and masks, and how a pair is made of them."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sam2lora.datasets.checks import Empty, Field, View, check_field, check_held, check_share, check_size
from sam2lora.datasets.eye import is_flat
from sam2lora.datasets.field_of_view import lit_disc
from sam2lora.datasets.levels import Coding, Values, structure_of
from sam2lora.datasets.listing import unreachable
from sam2lora.datasets.metadata import orientation, without_metadata, written_orientation
from sam2lora.datasets.pairs import Bits, Entry, Pair, Pixels, Problem, failure
from sam2lora.errors import DataError

_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # some others start programs
_MOST_PIXELS = 2**26  # 8192 x 8192: four times the largest photograph of the published sets
_MOST_BYTES = 4 * _MOST_PIXELS
_COPY = "copy it again from its owners"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation: what makes the picture upright
_MODES = {"1": "black and white", "L": "grey", "LA": "grey", "I": "grey", "F": "grey"}


def read_pair(
    entry: Entry,
    annotator: str = "first",
    coding: Coding | Values = "light",
    empty: Empty = "refuse",
    view: View | None = None,
    tolerate: int = 0,
) -> Pair:
    """Decode one entry whose masks are ready-made: image, mask of the graders asked for, field of view.

    ``view="crop"``: a picture of the disc alone has no dark border, so all of it is the field of view unless a file
    says otherwise. None: a photograph of a set that leaves no choice.

    Raises ``DataError`` naming the file that is unreadable, turned, of another size, of an unknown coding, inverted
    or, unless ``empty="keep"``, empty, and as ``paired`` does.
    """
    image = read_image(entry.image)
    shape = (image.shape[0], image.shape[1])
    drawn = [structure_of(path, open_image(path), coding) for path in entry.masks]
    masks = [check_size(path, mask, shape, tolerate) for path, mask in zip(entry.masks, drawn, strict=True)]
    shipped = None if entry.fov is None else Field(entry.fov, read_mask(entry.fov, shape, tolerate=tolerate))
    pair = paired(image, combine(masks, annotator), entry.masks[0], shipped, empty, view)
    return replace(pair, fitted=any(mask.shape != shape for mask in drawn))


def paired(
    image: Pixels,
    mask: Bits,
    file: Path,
    shipped: Field | None = None,
    empty: Empty = "refuse",
    view: View | None = None,
) -> Pair:
    """The pair of ``image`` (H, W, 3) and ``mask`` (H, W), whose part beside the field of view is cut off.

    ``shipped``: the field of view; None where it is computed: the lit disc, or all of a crop and of a picture where no
    disc stands out. ``empty``, ``view``: as for ``read_pair``.

    Raises ``DataError`` when the mask is empty, covers too much (see ``check_share``) or lies beside the field of view
    by more than a twentieth, and when a field of view that ships is not that of the picture: inverted, shifted or
    another's.
    """
    disc = None if view == "crop" else lit_disc(image)
    if shipped is not None:
        fov = shipped.bits
        check_field(shipped, mask, disc, view)
    else:
        fov = np.ones_like(mask) if disc is None else disc
    check_share(file, mask, fov, empty, view)
    check_held(file, mask, fov, shipped, view)
    return Pair(image, mask & fov, fov)


def open_image(path: Path) -> Image.Image:
    """Decode an image file, gzipped ones included. The contents decide the format, not the name.

    Damaged metadata of a sound picture does not matter, but for its orientation, see ``metadata.orientation``. Raises
    ``DataError``, and nothing else, for a file that is unreadable, empty, no image, larger than 256 MiB or 8192 x 8192
    pixels, deeper than 8 bits per channel (Pillow would drop the lower half of a colour image without a word), of
    several pictures, or turned by an EXIF tag: a mask and its image may differ in that tag, and turning one of the two
    would misplace every pixel.
    """
    image, turned = _decode(path)
    if turned != 1:
        remedy = "turn the pixels of the image as its mask lies, and remove the tag"
        raise failure(path, "an image must be stored upright", f"its EXIF orientation is {turned}", remedy)
    return image


def read_photograph(path: Path) -> Pixels:
    """An RGB image as it is meant to be seen, (H, W, 3) uint8: where there is no mask, an EXIF tag turns it.

    Raises ``DataError`` as ``read_image`` does, but for that tag.
    """
    image, turned = _decode(path)
    if turned in _TURNS and image.format != "TIFF":  # Pillow has turned a TIFF in decoding it
        image = image.transpose(_TURNS[turned])
    return _rgb(path, image)


def _decode(path: Path) -> tuple[Image.Image, int]:
    """The picture of a file as it is stored (a TIFF: upright), and its EXIF orientation."""
    data = _bytes(path)
    faults: list[Exception] = []
    for content in _contents(data):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damaged metadata, and of sizes that are refused below
                image = Image.open(io.BytesIO(content), formats=_FORMATS)
                if (problem := _unfit(path, image, content)) is None:
                    turned = _load(image, data)
        except Image.DecompressionBombError as error:
            raise DataError(str(_too_large(path, "it has more than that"))) from error
        except Exception as error:  # Pillow raises what its decoders stumble over, of many kinds
            faults.append(error)
        else:
            if problem is not None:
                raise DataError(str(problem))
            return image, turned if content is data else written_orientation(data)
    raise failure(path, "an image file must be readable", _why(path, data, faults[0]), _COPY) from faults[0]


def _load(image: Image.Image, data: bytes) -> int:
    """Decode an image that was opened; its EXIF orientation.

    That of a TIFF is asked for before, for Pillow turns the picture and drops the tag; that of others afterwards, for
    Pillow decodes a PNG to answer and would hide what goes wrong.
    """
    if image.format == "TIFF":
        turned = orientation(image, data)
        image.load()
        return turned
    image.load()
    return orientation(image, data)


def _contents(data: bytes) -> Iterator[bytes]:
    """A file as it is, and then, where that makes a difference, without its metadata."""
    yield data
    if (bare := without_metadata(data)) != data:
        yield bare


def _why(path: Path, data: bytes, fault: Exception) -> str:
    if isinstance(fault, MemoryError):
        return "it asks for more memory than there is"
    if not isinstance(fault, UnidentifiedImageError):
        return str(fault).replace(str(path), path.name) or type(fault).__name__
    for name in _FORMATS:
        accepts = Image.OPEN[name][1]
        with suppress(Exception):  # of a file that ends within its first bytes
            if accepts is not None and accepts(data[:16]) is True:
                return f"it begins as {name} and its header is damaged"
    return f"its first bytes are {data[:8]!r}, which begin none of {', '.join(_FORMATS)}"


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file() and path.exists():  # a pipe would never end
            raise failure(path, "an image must be a file", "it is none", "name the file that the image lies in")
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            data: bytes = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, PermissionError) as error:
        raise unreachable(path, error) from error
    except (OSError, EOFError, zlib.error) as error:
        why = str(error).replace(str(path), path.name)
        raise failure(path, "an image file must be readable", why, _COPY) from error
    if not data:
        raise failure(path, "an image file must be readable", "it is empty", _COPY)
    if len(data) > _MOST_BYTES:
        rule = f"an image file must unpack to {_MOST_BYTES // 2**20} MiB or less"
        raise failure(path, rule, "it holds more", "make sure that it is a photograph, and shrink it")
    return data


def _unfit(path: Path, image: Image.Image, data: bytes) -> Problem | None:
    """Why an image that was opened and not yet decoded cannot be used."""
    if image.width * image.height > _MOST_PIXELS:
        return _too_large(path, f"it has {image.width}x{image.height}")
    if any(_is_deep(tile.codec_name, tile.args, data) for tile in getattr(image, "tile", ())):
        rule, remedy = "an image file must have 8 bits per channel or less", "convert it, image and mask alike"
        return Problem(path, rule, "it has 16", remedy)
    if image.format not in ("JPEG", "MPO") and (pictures := _pictures(image)) != "1":
        rule, remedy = "an image file must hold one picture", "save the one that is meant as a file of its own"
        return Problem(path, rule, f"it holds {pictures}", remedy)
    return None


def _pictures(image: Image.Image) -> str:
    try:
        return str(getattr(image, "n_frames", 1))
    except Exception:  # Pillow goes to the end of a TIFF to count
        return "a second one, which is damaged"


def _is_deep(codec: str, arguments: Any, data: bytes) -> bool:
    """Whether Pillow is about to decode 16 bits: its raw mode says so, or the header of a PPM or JPEG 2000 file."""
    if codec == "jpeg2k":  # ISO 15444-1, A.5.1: of each component its depth less one, with the sign in the upper bit
        begin = data.index(b"\xff\x4f\xff\x51") + 40
        depths = data[begin + 2 : begin + 2 + 3 * int.from_bytes(data[begin : begin + 2], "big") : 3]
        return any((depth & 0x7F) + 1 > 8 for depth in depths)
    if codec in ("ppm", "ppm_plain") and isinstance(arguments, tuple):
        return int(arguments[1]) > 255
    return ";16" in str(arguments).replace("BGR;16", "")  # the latter has 16 bits for three channels


def _too_large(path: Path, value: str) -> Problem:
    side = int(_MOST_PIXELS**0.5)
    remedy = "make sure that it is a photograph, and shrink it"
    return Problem(path, f"an image must have {side}x{side} pixels or less", value, remedy)


def read_image(path: Path) -> Pixels:
    """An RGB image, (H, W, 3) uint8; a palette and an alpha channel that hides nothing make no difference.

    Raises ``DataError`` as ``open_image`` does, for grey, transparent and CMYK images, and for one that is black, white
    or flat: whatever its mask says, there is nothing to learn from it.
    """
    image = _rgb(path, open_image(path))
    if is_flat(image):
        value = f"it is all about {tuple(map(int, np.median(image, axis=(0, 1))))} (red, green, blue)"
        raise failure(path, "an image must show something", value, f"{_COPY}, or leave it out")
    return image


def _rgb(path: Path, image: Image.Image) -> Pixels:
    if image.mode not in ("RGB", "RGBA", "RGBX", "P", "PA"):
        what = f"{image.mode} ({_MODES[image.mode]})" if image.mode in _MODES else image.mode
        remedy = "take the colour photograph" if image.mode in _MODES else "convert it, or take the owners' file"
        raise failure(path, "an image must be 8-bit RGB", f"its mode is {what}", remedy)
    if image.has_transparency_data:
        hidden = np.asarray(image.convert("RGBA"))[..., 3] < 255
        if hidden.any():
            value = f"{max(1, round(100 * float(hidden.mean())))}% of its pixels are transparent"
            raise failure(path, "an image must be opaque", value, "save it on black, without transparency")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(path: Path, shape: tuple[int, int], coding: Coding | Values = "light", tolerate: int = 0) -> Bits:
    """A binary mask, (H, W) bool; ``coding`` says which of its values are the structure, see ``levels.structure_of``.

    Raises ``DataError`` for another size than ``shape`` and for values that the coding does not know.
    """
    return check_size(path, structure_of(path, open_image(path), coding), shape, tolerate)


def combine(masks: Sequence[Bits], annotator: str) -> Bits:
    """One mask of several graders' (each (H, W) bool): the only one, their union or their intersection."""
    if annotator == "union":
        return np.asarray(np.logical_or.reduce(masks), np.bool_)
    if annotator == "intersection":
        return np.asarray(np.logical_and.reduce(masks), np.bool_)
    (only,) = masks
    return only
