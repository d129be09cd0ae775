"""What every data set hands over: entries that were found, pairs that were read, problems that were seen.

The rules of folders that several sets share are in ``layout``, those of files in ``reading``; what only one set does
is in that set's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sam2lora.errors import DataError

Target = Literal["vessel", "disc", "cup", "rim"]  # the disc contains the cup; the rim is the disc without the cup
DiscTarget = Literal["disc", "cup", "rim"]  # what a set offers whose graders outlined disc and cup
Bits = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """One image of a set with the files that belong to it.

    ``masks``: the files of the graders that the set's annotator policy asks for, in the order of that policy.
    ``fov``: the owners' field-of-view mask; None where none ships and it is computed from the image. ``split``: what a
    listing among the files of the set says of the image; None where there is no such listing.
    """

    id: str
    patient: str
    image: Path
    masks: tuple[Path, ...]
    fov: Path | None = None
    split: str | None = None

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
class Unpaired(Problem):
    """An image without one of its masks or its field of view, or masks without an image. ``files``: what is there."""

    files: tuple[Path, ...]
    id: str


@dataclass(frozen=True)
class LeftOut:
    """What a folder holds and is not used. ``kind``: "hidden", "folder", "special" (a pipe), "unpaired" or a suffix."""

    path: Path
    kind: str


@dataclass(frozen=True)
class Found:
    """The entries of a set, sorted by id, and every problem of its layout. Usable only without problems.

    ``skip_unreadable``: the user wants entries that cannot be read left out and counted; otherwise they are refused.
    ``left_out``: what lies beside the files of the entries, in the same folders, and is no part of the set.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    skip_unreadable: bool = False
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One image at its native size: ``image`` (H, W, 3) uint8 RGB, ``mask`` and ``fov`` (H, W) bool.

    ``fitted``: whether the mask was cut or padded by the few pixels that a user tolerates.
    """

    image: Pixels
    mask: Bits
    fov: Bits
    fitted: bool = False


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
    def complete(self) -> int | None:
        """How many images the owners distribute; None where nobody but the user knows."""

    @property
    def licence(self) -> str:
        """What the owners allow, as far as known, in a few words."""

    @property
    def overlaps(self) -> frozenset[str]:
        """The pools of patients that the images come from: sets that share one must not train and test a model."""

    def find(self, root: Path | None) -> Found:
        """List the set under ``root`` (None: there is none). Raises ``DataError`` when its folder is missing."""

    def read(self, entry: Entry) -> Pair:
        """Decode one entry at native size. Raises ``DataError`` naming the file."""

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every image id: ``"test"`` or the fold ``"0"`` to ``"4"`` of the development part.

        A set whose ids are known beforehand returns its committed table, whatever ``entries`` are there. A set whose
        ids are not known splits the patients of ``entries`` by ``splits.dealt``.
        """


class WrongSizeError(DataError):
    """A mask that does not have the size of its image."""


def failure(file: Path, rule: str, value: str, remedy: str) -> DataError:
    """The ``DataError`` of one problem."""
    return DataError(str(Problem(file, rule, value, remedy)))


def report(title: str, problems: Sequence[object]) -> DataError:
    """One ``DataError`` that lists every problem of a set."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    plural = "problem" if len(problems) == 1 else "problems"
    return DataError(f"{title} cannot be used, {len(problems)} {plural}:\n{lines}")
