"""What published data sets have in common: where they lie, how they are read, and how they are split.

The file of a set says what its folder and its files are called and which rule of ``patients`` it follows. It overrides
``read`` where its masks are no ready-made images, and ``assignment`` where options choose the split.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from sam2lora.datasets.layout import folder, gather
from sam2lora.datasets.levels import Coding
from sam2lora.datasets.pairs import Entry, Found, Pair, Source
from sam2lora.datasets.patients import by_image, of_test
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import committed, dealt, is_committed


class PublishedSet(Source):
    """A data set that its owners distribute. ``folders``: names of its folder; ``coding``: of its masks."""

    folders: ClassVar[tuple[str, ...]]
    coding: ClassVar[Coding] = "light"

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name of the set in JSON and on a command line."""

    @property
    def name(self) -> str:
        """``kind``, unless copies of the set have names of their own."""
        return self.kind

    @property
    def annotator(self) -> str:
        """The graders whose masks are read: the first, unless the set has several."""
        return "first"

    @property
    def overlaps(self) -> frozenset[str]:
        """The pool of the set alone, unless other sets have photographs of it."""
        return frozenset({self.kind})

    def home(self, root: Path | None) -> Path:
        """The folder of the set under ``root``. Raises ``DataError`` when there is none."""
        return folder(root, self.folders, self.title)

    @abstractmethod
    def parts(self, base: Path) -> Sequence[Found]:
        """Pair the files of every part of the set under its folder ``base``, and name the rule of its patients."""

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = self.home(root)
        return gather(base, self.title, self.parts(base))

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry, self.annotator, self.coding)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set; patients are dealt where none is committed.

        The test part is then what the files of the set say of their images, or a quarter of the patients.
        """
        if is_committed(self.kind):
            return committed(self.kind)
        test = of_test(entries) if any(entry.split for entry in entries) else None
        return dealt(self.kind, by_image(entries), test)
