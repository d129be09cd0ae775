"""Splits by patient, committed as one CSV per data set, so that every study means the same images.

Columns ``image,patient,split``; ``split`` is ``test`` or the fold ``0`` to ``4`` of the development part.
``python -m sam2lora.datasets.splits`` writes them anew; the result is the same file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from sam2lora.errors import DataError

FOLDS = ("0", "1", "2", "3", "4")
SPLITS = (*FOLDS, "test")


def read_split(path: Path) -> dict[str, tuple[str, str]]:
    """``{image: (patient, split)}`` of one CSV of this package.

    Raises ``DataError`` when the file is missing, a column or value is unknown, an image is named twice, or one
    patient lies in two splits (a score on it would be a score on a known patient).
    """
    if not path.is_file():
        raise DataError(f"{path}: a data set needs a split, but there is no such file: write it (image,patient,split).")
    table = _table(path, (["image", "patient", "split"],))
    return {image: (patient, split) for image, (patient, split) in table.items() if split is not None}


def read_listing(path: Path) -> dict[str, tuple[str, str | None]]:
    """``{image: (patient, split)}`` of a user's CSV; the split is None where the file has no such column.

    Names are in Unicode's form C, as those of files are: one name that two systems store in two ways is one.

    Raises ``DataError`` as ``read_split`` does, and when the file is no UTF-8 text, a line has more cells than there
    are columns, or patients differ in case and spaces alone: one person written in two ways could be in two splits.
    """
    return _table(path, (["image", "patient", "split"], ["image", "patient"]))


def _table(path: Path, columns: Sequence[list[str]]) -> dict[str, tuple[str, str | None]]:
    try:
        lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True)
        names, rows = list(lines.fieldnames or []), [(lines.line_num, row) for row in lines]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a listing must be UTF-8 text, but {error}: save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: a listing must be a readable CSV, but {why}: write it again.") from error
    if names not in columns:
        there = f"they are {','.join(names)}" if names else "there is none"
        offered = " or ".join(",".join(names) for names in columns)
        raise DataError(
            f"{path}: the columns must be {offered}, with commas in every line, but {there}: correct the first line."
        )
    return _checked(path, rows, "split" in names)


def dealt(name: str, patients: Mapping[str, str], test: Collection[str] | None = None) -> dict[str, str]:
    """The split of every image of a set whose ids are not known beforehand; ``patients`` is ``{image: patient}``.

    Patients are sorted by the SHA-256 of ``name/patient`` and dealt in turn: every fourth one, beginning with the
    second, is ``test``, the others fill the five folds round by round. So no order of files matters, no patient is in
    two splits, and three patients make a development part of two folds and a test. The rule sees only who is there:
    a patient more or less may move others, so studies are comparable on equal copies only (the digest of the cache
    tells copies apart). ``test``: the patients of the test part where owners or literature name it; then all others
    fill the folds.
    """
    free = set(patients.values()) - set(test or ())
    order = sorted(free, key=lambda patient: hashlib.sha256(f"{name}/{patient}".encode()).hexdigest())
    home = _home if test is None else _fold
    homes = {patient: home(place) for place, patient in enumerate(order)}
    return {image: homes.get(patient, "test") for image, patient in patients.items()}


def _fold(place: int) -> str:
    return FOLDS[place % len(FOLDS)]


def _home(place: int) -> str:
    rounds, seat = divmod(place, 4)
    return "test" if seat == 1 else FOLDS[(3 * rounds + (seat + 1) // 2) % len(FOLDS)]


def is_committed(name: str) -> bool:
    """Whether this package has the CSV ``name``."""
    return _file(name).is_file()


def committed(name: str) -> dict[str, str]:
    """The split of every image id of the committed CSV ``name``."""
    return {image: split for image, (_, split) in _read_committed(name).items()}


@cache
def _read_committed(name: str) -> dict[str, tuple[str, str]]:
    return read_split(_file(name))


def _file(name: str) -> Path:
    return Path(__file__).parent / f"{name}.csv"


def _checked(
    path: Path, rows: Sequence[tuple[int, dict[str, str]]], with_split: bool
) -> dict[str, tuple[str, str | None]]:
    """The table of ``rows``, each with the number of its line; ``DictReader`` keeps surplus cells under None."""
    table: dict[str, tuple[str, str | None]] = {}
    home: dict[str, str | None] = {}
    written: dict[str, str] = {}
    wrong: list[str] = []
    for number, row in rows:
        if None in row:
            wrong.append(f"line {number}: a line must have {len(row) - 1} cells, but it has more")
        image, patient = (unicodedata.normalize("NFC", row[column] or "") for column in ("image", "patient"))
        split = row.get("split")
        if not image or not patient:
            wrong.append(f"line {number}: an image and its patient must be named, but one is empty")
        if with_split and split not in SPLITS:
            wrong.append(f"line {number}: a split must be one of {', '.join(SPLITS)}, but it is {split!r}")
        if image in table:
            wrong.append(f"line {number}: an image must be named once, but {image} is named again")
        if home.setdefault(patient, split) != split:
            wrong.append(
                f"line {number}: a patient must lie in one split, but {patient} is in {home[patient]} and {split}"
            )
        if (other := written.setdefault("".join(patient.casefold().split()), patient)) != patient:
            wrong.append(
                f"line {number}: patients must differ in more than case and spaces, but there are {other!r} and "
                f"{patient!r}"
            )
        table[image] = (patient, split)
    if wrong:
        raise DataError(f"{path}: " + "; ".join(wrong) + ": correct these lines.")
    return table
