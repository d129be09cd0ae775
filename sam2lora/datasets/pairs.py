"""What every data set hands over: entries that were found, pairs that were read, problems that were seen.

Rules for images and masks that several sets share live here; what only one set does is in that set's file.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2lora.errors import DataError

Target = Literal["vessel", "disc"]
Bits = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".ppm", ".ppm.gz", ".bmp", ".gif")
_UPRIGHT = (None, 0, 1)  # EXIF tag 274; 0 is "unknown", which cameras write for upright images
_ORIENTATION = 274


@dataclass(frozen=True)
class Entry:
    """One image of a set with the files that belong to it.

    ``masks``: the files of the graders that the set's annotator policy asks for, in the order of that policy.
    ``fov``: the owners' field-of-view mask; None where none ships and it is computed from the image.
    """

    id: str
    patient: str
    image: Path
    masks: tuple[Path, ...]
    fov: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that decides what ``read`` returns."""
        return (self.image, *self.masks, *([self.fov] if self.fov is not None else []))


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file: the rule, the value that broke it, and the remedy."""

    file: Path
    rule: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.rule}, but {self.value}: {self.remedy}."


@dataclass(frozen=True)
class Found:
    """The entries of a set, sorted by id, and every problem of its layout. Usable only without problems."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One image at its native size: ``image`` (H, W, 3) uint8 RGB, ``mask`` and ``fov`` (H, W) bool."""

    image: Pixels
    mask: Bits
    fov: Bits


class Source(Protocol):
    """What the cache, the splits and the commands need of a data set. Every choice of ``Dataset`` fulfils it."""

    @property
    def name(self) -> str:
        """Short name, unique among all sets; it names the set in scores and files."""

    @property
    def title(self) -> str:
        """The owners' spelling of the name."""

    @property
    def target(self) -> Target:
        """The structure that the masks outline."""

    @property
    def overlaps(self) -> frozenset[str]:
        """The pools of patients that the images come from: two sets that share a pool must not be told apart."""

    def find(self, root: Path) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""

    def read(self, entry: Entry) -> Pair:
        """Decode one entry at native size. Raises ``DataError`` naming the file."""

    def assignment(self) -> dict[str, str]:
        """The split of every image id: ``"test"`` or the fold ``"0"`` to ``"4"`` of the development part."""


def failure(file: Path, rule: str, value: str, remedy: str) -> DataError:
    """The ``DataError`` of one problem."""
    return DataError(str(Problem(file, rule, value, remedy)))


def report(title: str, problems: Sequence[object]) -> DataError:
    """One ``DataError`` that lists every problem of a set."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    plural = "problem" if len(problems) == 1 else "problems"
    return DataError(f"{title} cannot be used, {len(problems)} {plural}:\n{lines}")


def folder(root: Path, names: Sequence[str], title: str, remedy: str) -> Path:
    """The folder of a set: the first of ``names`` that lies in ``root``.

    Raises ``DataError`` when ``root`` is no folder, holds none of ``names``, or holds several of them (which of the
    copies is meant would be a guess).
    """
    if not root.is_dir():
        raise failure(root, "the data root must be a folder", "it does not exist", "pass the folder of the data sets")
    here = [root / name for name in names if (root / name).is_dir()]
    if not here:
        wanted = " or ".join(names)
        there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())[:20]) or "no folder"
        raise failure(root, f"{title} must lie in a folder {wanted}", f"there is {there}", remedy)
    if len(here) > 1:
        several = " and ".join(path.name for path in here)
        raise failure(root, f"{title} must lie in one folder", f"there are {several}", "keep one of them")
    return here[0]


def by_stem(where: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The image files of a folder by name without suffix (either case), sorted. Empty when there is no folder."""
    if not where.is_dir():
        return {}
    stems: dict[str, Path] = {}
    for path in sorted(where.iterdir()):
        suffix = next((end for end in sorted(suffixes, key=len)[::-1] if path.name.lower().endswith(end)), None)
        if suffix is not None and not path.name.startswith("."):
            stems[path.name[: -len(suffix)]] = path
    return stems


def pair_up(
    images: Mapping[str, Path],
    graders: Sequence[tuple[str, Mapping[str, Path]]],
    patient: Callable[[str], str],
    fovs: tuple[str, Mapping[str, Path]] | None = None,
) -> Found:
    """Join images with the masks of every grader by id.

    ``graders`` and ``fovs`` carry the place where the files were looked for, as a text for the message. An image
    without one of its masks is a problem; a mask without an image is one, too.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    for identity, image in sorted(images.items()):
        needed = [*graders, *([fovs] if fovs is not None else [])]
        absent = [place for place, files in needed if identity not in files]
        problems += [
            Problem(image, "every image needs its mask", f"{place} holds none for {identity}", "add it")
            for place in absent
        ]
        if not absent:
            masks = tuple(files[identity] for _, files in graders)
            fov = fovs[1][identity] if fovs is not None else None
            entries.append(Entry(identity, patient(identity), image, masks, fov))
    for _, files in graders:
        orphans = sorted(set(files) - set(images))
        problems += [
            Problem(files[orphan], "every mask needs its image", f"there is no image {orphan}", "add or remove")
            for orphan in orphans
        ]
    return Found(tuple(entries), tuple(problems))


def open_image(path: Path) -> Image.Image:
    """Decode an image file, gzipped ones included. Raises ``DataError`` when it is unreadable."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise failure(path, "an image file must be readable", str(error), "copy it again from its owners") from error
    return image


def read_image(path: Path) -> Pixels:
    """An RGB image, (H, W, 3) uint8.

    Raises ``DataError`` for an unreadable file, for pixels that are not 8-bit RGB, and for an image that an EXIF tag
    wants turned: the mask has no such tag, and turning one of the two would misplace every pixel.
    """
    image = open_image(path)
    turned = image.getexif().get(_ORIENTATION)
    if turned not in _UPRIGHT:
        raise failure(
            path, "an image must be stored upright", f"its EXIF orientation is {turned}",
            "turn the pixels of image and mask alike and remove the tag",
        )
    if image.mode != "RGB":
        raise failure(path, "an image must be 8-bit RGB", f"its mode is {image.mode}", "convert it")
    return np.asarray(image)


def read_mask(path: Path, rule: Literal["light", "index"] = "light", shape: tuple[int, int] | None = None) -> Bits:
    """A binary mask, (H, W) bool.

    ``rule="light"``: luminance above 127, which reads 1-bit, 0/255, palettes of near black and near white (DRIVE's
    second grader: 3 and 253) and RGB masks alike, and undoes JPEG noise. ``rule="index"``: any palette index or
    value above 0 (IDRiD, whose palette is red on black). Raises ``DataError`` for another ``shape`` and when no pixel
    or most pixels are set: the first is the wrong rule for the coding, the second an inverted mask.
    """
    image = open_image(path)
    if image.mode not in ("1", "L", "P", "RGB", "RGBA"):
        raise failure(path, "a mask must have 1 or 8 bits", f"its mode is {image.mode}", "convert it to 0 and 255")
    if rule == "index" and image.mode in ("P", "L", "1"):
        mask = np.asarray(image) > 0
    else:
        mask = np.asarray(image.convert("L")) > (0 if rule == "index" else 127)
    same_size(path, mask.shape, shape)
    return mask


def same_size(path: Path, found: tuple[int, ...], wanted: tuple[int, int] | None) -> None:
    """Raises ``DataError`` when a mask has another size than its image."""
    if wanted is not None and found != wanted:
        raise failure(
            path, f"a mask must have the size of its image, {wanted[1]}x{wanted[0]}",
            f"it has {found[1]}x{found[0]}", "take both from the same copy of the set",
        )


def combine(masks: Sequence[Bits], annotator: str) -> Bits:
    """One mask of several graders' (each (H, W) bool): the only one, their union or their intersection."""
    if annotator == "union":
        return np.logical_or.reduce(masks)
    if annotator == "intersection":
        return np.logical_and.reduce(masks)
    return masks[0]


def plausible(path: Path, mask: Bits, fov: Bits) -> None:
    """Raises ``DataError`` when ``mask`` is empty or covers half of the field of view: wrong coding or polarity."""
    share = float(mask.sum()) / max(1, int(fov.sum()))
    if not 0 < share < 0.5:
        raise failure(
            path, "a mask must cover more than nothing and less than half of the field of view",
            f"it covers {share:.0%}", "check its coding (0 and 255) and its polarity (structure = light)",
        )


def unique_patients(entries: Iterable[Entry]) -> int:
    """How many patients the entries show."""
    return len({entry.patient for entry in entries})
