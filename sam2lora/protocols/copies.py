"""One photograph under two names: refused where it trains and tests a model, else reported as a suspicion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sam2lora.datasets import CachedSet, Source
from sam2lora.datasets.likeness import alike
from sam2lora.errors import OverlapError

if TYPE_CHECKING:
    from sam2lora.protocols import Protocol

_SHOWN = 5


@dataclass(frozen=True)
class Photograph:
    """An image of a study. ``part``: of its set, ``"test"`` if it tests; None where the protocol does not use it."""

    dataset: Source
    id: str
    patient: str
    part: str | None
    file: Path

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True)
class Doubt:
    """Photographs of two sets, or of one, that seem to be copies of each other. ``exact``: pixel for pixel."""

    pairs: tuple[tuple[Photograph, Photograph], ...]
    exact: bool

    @property
    def recorded(self) -> str:
        """The pairs by set and id, which stay the same when the data are moved."""
        shown = [f"{one.dataset.name} {one.id} and {other.dataset.name} {other.id}" for one, other in self.pairs]
        return f"{'identical' if self.exact else 'alike'}: {', '.join(shown)}"

    def __str__(self) -> str:
        what = (
            "are identical pixel for pixel and weigh double in training"
            if self.exact
            else "look like copies, resized, compressed, cropped or mirrored"
        )
        count = f"{len(self.pairs)} pair{'s' * (len(self.pairs) > 1)} of photographs"
        return f"{count} {_of(self.pairs[0])} {what}, leave one of each out if so:\n{_listed(self.pairs)}"


def check_photographs(protocol: Protocol, sets: Iterable[CachedSet]) -> tuple[Doubt, ...]:
    """Raise ``OverlapError`` if a photograph stands in two parts of a study; what seems to be a copy is returned.

    ``sets``: the opened sources and targets of ``protocol``. Pixels are compared, not names or files, of all
    parts of all sets: a photograph of a source must not be one of a target or of another source, nor lie in two parts
    of its set, nor count twice among the test images. Left alone are pictures of one patient in one set, which lie
    on one side, and those of two targets that share patients by name, which are counted once.
    """
    opened = {one.dataset.name: one for one in sets}
    chosen = [opened[dataset.name] for dataset in (*protocol.sources, *protocol.targets)]
    photographs = [photograph for one in chosen for photograph in _photographs(protocol, one)]
    prints = [print_ for one in chosen for print_ in one.fingerprints]
    refused, doubled = _identical(photographs, prints)
    if refused:
        raise OverlapError("\n".join(_refusal(pairs) for pairs in _by_sets(refused)))
    looks = [
        (photographs[i], photographs[j])
        for i, j in _alike(tuple(one.folder for one in chosen))
        if prints[i] != prints[j] and _verdict(photographs[i], photographs[j]) is not None
    ]
    return (
        *(Doubt(tuple(pairs), exact=True) for pairs in _by_sets(doubled)),
        *(Doubt(tuple(pairs), exact=False) for pairs in _by_sets(looks)),
    )


def _photographs(protocol: Protocol, opened: CachedSet) -> Iterable[Photograph]:
    tested = opened.dataset.name in {target.name for target in protocol.targets} and not protocol.shots
    for identity, patient, split, file in zip(opened.ids, opened.patients, opened.splits, opened.files, strict=True):
        part: str | None = split
        if tested:
            part = "test" if split == "test" or protocol.target_images == "all" else None
        yield Photograph(opened.dataset, identity, patient, part, file)


Pairs = list[tuple[Photograph, Photograph]]


def _identical(photographs: Sequence[Photograph], prints: Sequence[str]) -> tuple[Pairs, Pairs]:
    """Each photograph with the first before it that it must not equal, and with the first that it should not equal."""
    same: dict[str, list[Photograph]] = defaultdict(list)
    found: dict[str, Pairs] = {"refused": [], "doubled": []}
    for photograph, digest in zip(photographs, prints, strict=True):
        for verdict, pairs in found.items():
            first = next((one for one in same[digest] if _verdict(one, photograph) == verdict), None)
            if first is not None:
                pairs.append((first, photograph))
                break
        same[digest].append(photograph)
    return found["refused"], found["doubled"]


def _verdict(one: Photograph, other: Photograph) -> Literal["refused", "doubled"] | None:
    """What it means that two photographs are one."""
    if one.part is None or other.part is None:
        return None
    if one.dataset.name != other.dataset.name:
        return None if one.dataset.overlaps & other.dataset.overlaps else "refused"
    if one.patient == other.patient:
        return None
    return "doubled" if one.part == other.part != "test" else "refused"


@lru_cache(maxsize=16)
def _alike(folders: tuple[Path, ...]) -> list[tuple[int, int]]:
    """Pairs among the photographs of several caches, counted through."""
    return alike(np.concatenate([np.load(folder / "thumbnails.npy", mmap_mode="r") for folder in folders]))


def _by_sets(pairs: Pairs) -> Iterable[Pairs]:
    groups: dict[tuple[str, str], Pairs] = defaultdict(list)
    for one, other in pairs:
        groups[one.dataset.name, other.dataset.name].append((one, other))
    return groups.values()


def _refusal(pairs: Pairs) -> str:
    one, other = pairs[0]
    remedy = (
        "leave one of the two sets out, or remove these images from one of them"
        if one.dataset.name != other.dataset.name
        else "remove one of each pair, or, in a folder, name one patient for both in its patients.csv"
    )
    count = f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of photographs"
    return (
        f"A photograph must stand in a study once, or it is trained on and tested on, or counted twice, but {count} "
        f"{_of((one, other))} {'are' if len(pairs) > 1 else 'is'} identical pixel for pixel: {remedy}.\n"
        f"{_listed(pairs)}"
    )


def _of(pair: tuple[Photograph, Photograph]) -> str:
    one, other = (photograph.dataset.name for photograph in pair)
    return f"of {one!r}" if one == other else f"of {one!r} and {other!r}"


def _listed(pairs: Sequence[tuple[Photograph, Photograph]]) -> str:
    lines = [f"  {one} and {other}" for one, other in pairs[:_SHOWN]]
    return "\n".join([*lines, *([f"  and {len(pairs) - _SHOWN} more"] if len(pairs) > _SHOWN else [])])
