"""A published set of which some images cannot be used: the copy is damaged, or masks were never handed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sam2lora.choice import choice
from sam2lora.datasets.layout import without_unpaired
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.published import Published


@choice
class Incomplete:
    """``dataset`` without the images that cannot be used: every published set takes these two options.

    ``unreadable``: ``"skip"`` leaves out images that cannot be read, or whose masks cannot, instead of refusing the
    set. ``missing``: ``"skip"`` leaves out images without one of their masks, or without the field of view that ships
    with the others, and masks without an image. A part of several images and no mask is refused, and so is a set of
    which nothing is left. Every other image keeps its split where the set has a committed one; a set whose patients are
    dealt deals those who are there. All that is left out is counted and reported; a file that is mended or added later
    makes another set of images, with another digest.
    """

    kind: Literal["incomplete"] = "incomplete"
    dataset: Annotated[Published, Field(discriminator="kind")]
    unreadable: Literal["refuse", "skip"] = "refuse"
    missing: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        if self.unreadable == self.missing == "refuse":
            raise ValueError("an incomplete set must skip something, but it refuses all: name the set itself")

    @property
    def name(self) -> str:
        """That of the set: one study holds it once, whole or not."""
        return self.dataset.name

    @property
    def title(self) -> str:
        """That of the set."""
        return self.dataset.title

    @property
    def target(self) -> Target:
        """What the set is read for."""
        return self.dataset.target

    @property
    def complete(self) -> int | None:
        """How many images the owners distribute, of which some are not used."""
        return self.dataset.complete

    @property
    def licence(self) -> str:
        """That of the set."""
        return self.dataset.licence

    @property
    def overlaps(self) -> frozenset[str]:
        """The pools of the set."""
        return self.dataset.overlaps

    def find(self, root: Path | None) -> Found:
        """List what can be used. Raises ``DataError`` as the set does."""
        found = self.dataset.find(root)
        if self.missing == "skip":
            found = without_unpaired(found)
        return replace(found, skip_unreadable=self.unreadable == "skip")

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return self.dataset.read(entry)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every image id, by the rule of the set."""
        return self.dataset.assignment(entries)
