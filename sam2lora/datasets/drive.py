"""DRIVE (Staal et al., 2004): 40 photographs of a Dutch screening programme, 565 x 584, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sam2lora.choice import choice
from sam2lora.datasets.pairs import (
    Entry,
    Found,
    Pair,
    Problem,
    Target,
    by_stem,
    combine,
    folder,
    pair_up,
    plausible,
    read_image,
    read_mask,
)
from sam2lora.datasets.splits import committed

FOLDERS = ("DRIVE",)
LICENCE = "research use, registration with the Image Sciences Institute, Utrecht"


@choice
class Drive:
    """``DRIVE/{training,test}/{images,1st_manual,2nd_manual,mask}`` with the owners' 20/20 split.

    ``annotator``: the training images have one grader, so every value but ``"first"`` is a problem there. Its
    photographs are of different patients as far as its owners say: one patient per image.
    """

    kind: Literal["drive"] = "drive"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    @property
    def name(self) -> str:
        """``"drive"``."""
        return "drive"

    @property
    def title(self) -> str:
        """The owners' spelling."""
        return "DRIVE"

    @property
    def target(self) -> Target:
        """Blood vessels."""
        return "vessel"

    @property
    def overlaps(self) -> frozenset[str]:
        """Its own patients (RITE re-grades the same photographs)."""
        return frozenset({"drive"})

    def find(self, root: Path) -> Found:
        """List ``root/DRIVE``. Raises ``DataError`` when the folder is missing."""
        base = folder(root, FOLDERS, self.title, "download it from its owners")
        parts = [_part(base / part, part, self.annotator) for part in ("test", "training")]
        entries = tuple(entry for part in parts for entry in part.entries)
        return Found(entries, tuple(problem for part in parts for problem in part.problems))

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image = read_image(entry.image)
        shape = image.shape[:2]
        masks = [read_mask(path, shape=shape) for path in entry.masks]
        assert entry.fov is not None
        fov = read_mask(entry.fov, shape=shape)
        mask = combine(masks, self.annotator)
        plausible(entry.masks[0], mask, fov)
        return Pair(image, mask, fov)

    def assignment(self) -> dict[str, str]:
        """The split of every image id."""
        return committed(self.name)


def _part(base: Path, part: str, annotator: str) -> Found:
    images = {name.removesuffix(f"_{part}"): path for name, path in by_stem(base / "images").items()}
    fovs = {name.removesuffix(f"_{part}_mask"): path for name, path in by_stem(base / "mask").items()}
    wanted = {"first": ("1st",), "second": ("2nd",)}.get(annotator, ("1st", "2nd"))
    graders = []
    for grader in wanted:
        files = by_stem(base / f"{grader}_manual")
        if not files:
            return Found((), (_ungraded(base, part, grader),))
        graders.append((f"{base / f'{grader}_manual'}", {name.split("_")[0]: path for name, path in files.items()}))
    return pair_up(images, graders, str, (f"{base / 'mask'}", fovs))


def _ungraded(base: Path, part: str, grader: str) -> Problem:
    if part == "training" and grader == "2nd":
        return Problem(base, "the training images have one grader", "the second was asked for", 'ask for "first"')
    return Problem(
        base / f"{grader}_manual", "every image needs its mask", "there is none",
        "the archive of the challenge holds no test masks: take the owners' complete archive",
    )
