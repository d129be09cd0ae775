"""Which images belong to one patient: every rule that a data set can name where it pairs its files.

The rules of an id are functions from the id to the patient. A folder lists its patients in ``patients.csv`` instead;
``splits.read_listing`` checks that file. A split never separates the images of a patient.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from sam2lora.datasets.pairs import Entry, Found, failure
from sam2lora.datasets.splits import read_listing


def image_itself(image: str) -> str:
    """Each image is a patient: the owners name none."""
    return image


def without_eye(image: str) -> str:
    """Both eyes of a patient, from ids that end with the eye: ``01L`` and ``01R``, ``RET002OD`` and ``RET002OS``."""
    return re.sub("(L|R|OD|OS)$", "", image)


def before_underscore(image: str) -> str:
    """All images of a subject or number, from ids that begin with it: ``1_OD_1`` and ``1_OS_2``."""
    return image.partition("_")[0]


def by_image(entries: Sequence[Entry]) -> dict[str, str]:
    """The patient of every image id."""
    return {entry.id: entry.patient for entry in entries}


def of_test(entries: Sequence[Entry]) -> list[str]:
    """The patients of the images that a listing or a folder of the set puts into the test part."""
    return [entry.patient for entry in entries if entry.split == "test"]


def listed(found: Found, listing: Path, known: Collection[str]) -> Found:
    """The same images with the patients and splits of a ``patients.csv``.

    ``known``: ids that the listing may name although they are not in ``found``. Raises ``DataError`` for an image
    without a line, and for a line without an image.
    """
    table = read_listing(listing)
    images = {entry.id for entry in found.entries}
    absent = sorted(set(table) - images - set(known))
    if unlisted := sorted(images - set(table)):
        remedy = "add a line for each, without the ending of the file"
        raise failure(listing, "every image must have a line", f"{', '.join(unlisted[:5])} have none", remedy)
    if absent and not found.problems:
        rule, value = "every line must name an image", f"there is no image {', '.join(absent[:5])}"
        raise failure(listing, rule, value, "remove these lines, or add the images")
    people = [(entry, *table[entry.id]) for entry in found.entries]
    entries = (replace(entry, patient=patient, split=split or entry.split) for entry, patient, split in people)
    return replace(found, entries=tuple(entries))


def check_parts(entries: Sequence[Entry], listing: Path) -> None:
    """Check patients of a set whose parts are the folders ``train`` and ``test``.

    Raises ``DataError`` when the split of an image is not that of its folder, and when a patient has images in both.
    """
    moved = [entry.id for entry in entries if (entry.split == "test") != entry.id.startswith("test/")]
    if moved:
        rule, value = "a split must be that of the folder", f"that of {', '.join(moved[:5])} is not"
        raise failure(listing, rule, value, "correct these lines, or leave parts=folders out")
    developing = {entry.patient for entry in entries if entry.split != "test"}
    if both := sorted(developing & set(of_test(entries))):
        rule, value = "a patient must lie in one part", f"{', '.join(both[:5])} have images in train and in test"
        raise failure(listing, rule, value, "move all images of a patient to one of the folders")
