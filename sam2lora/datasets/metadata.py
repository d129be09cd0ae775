"""What an image file says beside its pixels: how it is to be turned. Damage there must not cost the picture."""

from __future__ import annotations

import re
import warnings

from PIL import Image

_ORIENTATION = 274  # the EXIF tag
_ENTRY = re.compile(  # tag, type (short), count (one) and value, in either byte order
    rb"\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x01-\x08])|\x12\x01\x03\x00\x01\x00\x00\x00([\x01-\x08])\x00"
)
_OF_COLOURS = 0xEE  # JPEG: Adobe's APP14 says how colours are coded
_CHUNKS = b"bKGD cHRM cICP eXIf gAMA hIST iCCP iTXt pHYs sBIT sPLT sRGB tEXt tIME zTXt".split()  # PNG: change no pixel


def orientation(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation of an ``image`` that was opened from ``data``: 1 (upright) to 8.

    A value that is not defined means upright, as for every viewer. Where the metadata is damaged, what is written
    of it decides, see ``written_orientation``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of damage and goes on with what it understood
            value = int(image.getexif().get(_ORIENTATION) or 1)
    except Exception:  # of whatever kind the damage is
        return written_orientation(data)
    return value if 1 <= value <= 8 else 1


def written_orientation(data: bytes) -> int:
    """The first EXIF entry of an orientation in the bytes of a file, wherever it is; 1 where there is none.

    So a block that was cut behind the entry still counts, and one that was cut before it says nothing to any reader.
    """
    found = _ENTRY.search(data)
    return 1 if found is None else (found[1] or found[2])[0]


def without_metadata(data: bytes) -> bytes:
    """A PNG or JPEG file without what is beside the pixels; other files, and what is no such file, as they are."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _bare_png(data)
    return _bare_jpeg(data) if data.startswith(b"\xff\xd8") else data


def _bare_png(data: bytes) -> bytes:
    """Without the chunks that are known to be metadata: one whose name is damaged may have been needed."""
    kept, at = [data[:8]], 8
    while at < len(data):
        name, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if name not in _CHUNKS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _bare_jpeg(data: bytes) -> bytes:
    """Without application segments and comments, up to the first scan (ISO 10918-1, B.1.1.4)."""
    kept, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b"\xff", b""):
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _OF_COLOURS or not (marker == 0xFE or 0xE0 <= marker <= 0xEF):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])
