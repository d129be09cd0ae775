"""``python -m sam2lora.datasets.splits``: write the CSVs of the complete sets anew, from the rules stated here.

The folds of a development part: patients are sorted by the SHA-256 of their name within their class and dealt in
turn, class after class. So folds are balanced in patients and classes, and no generator's version matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sam2lora.cli.options import path_option
from sam2lora.cli.parser import Parser
from sam2lora.datasets.patients import image_itself, without_eye
from sam2lora.datasets.splits import FOLDS


class Row(NamedTuple):
    """One image: its id, whether it is in the test part, the class by which folds are balanced, and whose it is."""

    image: str
    test: bool
    stratum: str = ""
    patient: Callable[[str], str] = image_itself


_STARE = "0001 0002 0003 0004 0005 0044 0077 0081 0082 0139 0162 0163 0235 0236 0239 0240 0255 0291 0319 0324"
_DRISHTI_TRAINING = (
    "002 004 008 010 012 015 016 017 018 022 024 026 031 032 033 035 036 037 038 040 041 042 044 045 046 "
    "047 049 051 057 058 060 061 062 063 064 066 068 069 075 076 080 081 084 088 089 090 092 094 098 101"
)


# RIM-ONE r3 by class and split: the numbers of the left and the right eyes.
_RIM_ONE_EYES = {
    ("N", False): (
        "5 7 8 9 11 13 25 27 53 55 59 61 63 65 67 69 71 74 79 81 83 85 87 91",
        "6 10 12 14 16 24 26 52 54 56 58 62 64 66 68 70 72 73 75 76 80 82 84 86 88 90 92",
    ),
    ("G", False): ("1 4 6 7 10 12 15 17 20 32 34 38 39", "3 5 8 9 11 13 14 16 18 19 21 33 35 36 37"),
    ("S", False): ("1 11 12 15 17 18 20 22 23 25 27", "10 13 14 16 19 21 24 26 28"),
    ("N", True): (
        "1 3 17 21 23 29 31 33 35 37 39 41 43 47 49 51",
        "2 4 18 20 22 28 30 32 34 36 38 40 42 44 46 48 50 78",
    ),
    ("G", True): ("22 24 25 28 30", "2 23 26 27 29 31"),
    ("S", True): ("2 4 5 7 9 30 31 32 34", "3 6 8 29 33 35"),
}


def rows() -> dict[str, list[Row]]:
    """Every image of every complete set, by the name of its CSV."""
    return {
        "chase_db1_first_20": _chase(test=range(11, 15)),
        "chase_db1_last_8": _chase(test=range(1, 11)),
        "dr_hagis": _dr_hagis(),
        "drishti_gs1": _drishti(),
        "drions_db": [Row(f"{number:03d}", number > 60) for number in range(1, 111)],
        "drive": [Row(f"{number:02d}", number <= 20) for number in range(1, 41)],
        "fives": _fives(),
        "hrf": [Row(f"{n:02d}_{c}", n > 5, c) for n in range(1, 16) for c in ("dr", "g", "h")],
        "idrid": [Row(f"IDRiD_{number:02d}", number > 54) for number in range(1, 82)],
        "refuge1_by_camera": _refuge("VT"),
        "refuge1_official": _refuge("T"),
        "rim_one_r3": _rim_one(),
        "stare": [Row(f"im{number}", place >= 10) for place, number in enumerate(_STARE.split())],
    }


def _chase(test: Iterable[int]) -> list[Row]:
    tested = set(test)
    return [Row(f"{child:02d}{eye}", child in tested, patient=without_eye) for child in range(1, 15) for eye in "LR"]


def _dr_hagis() -> list[Row]:
    """Four diseases in blocks of ten; 32 shows the photograph of 24 and is no image of the set."""
    development = {*range(1, 6), *range(11, 16), *range(21, 26), 31, 33, 34, 35}
    numbers = [number for number in range(1, 41) if number != 32]
    return [Row(str(number), number not in development, str((number - 1) // 10)) for number in numbers]


def _drishti() -> list[Row]:
    training = set(_DRISHTI_TRAINING.split())
    numbers = [f"{number:03d}" for number in range(1, 102)]
    return [Row(number, number not in training) for number in numbers]


def _refuge(test: str) -> list[Row]:
    """The letter of an image is its part and, in the training part, its class: g and n. ``test``: letters."""
    counts = {"g": 40, "n": 360, "V": 400, "T": 400}
    return [Row(f"{c}{n:04d}", c in test, c) for c, count in counts.items() for n in range(1, count + 1)]


def _rim_one() -> list[Row]:
    return [
        Row(f"{letter}-{number}-{eye}", test, letter)
        for (letter, test), eyes in _RIM_ONE_EYES.items()
        for eye, numbers in zip("LR", eyes, strict=True)
        for number in numbers.split()
    ]


def _fives() -> list[Row]:
    """Classes are numbered in blocks: 150 images each in the training part, 50 each in the test part."""
    numbered = [("train", block, 150) for block in range(4)] + [("test", block, 50) for block in range(4)]
    return [
        Row(f"{part}/{number}_{'ADGN'[block]}", part == "test", "ADGN"[block])
        for part, block, length in numbered
        for number in range(1 + block * length, 1 + (block + 1) * length)
    ]


def table(name: str, images: list[Row]) -> str:
    """The text of one CSV: ``image,patient,split``, sorted by image."""
    rows = [(row, row.patient(row.image)) for row in sorted(images)]
    development = {(row.stratum, patient) for row, patient in rows if not row.test}
    order = sorted(development, key=lambda pair: (pair[0], hashlib.sha256(f"{name}/{pair[1]}".encode()).hexdigest()))
    fold = {patient: FOLDS[place % len(FOLDS)] for place, (_, patient) in enumerate(order)}
    lines = [f"{row.image},{patient},{'test' if row.test else fold[patient]}" for row, patient in rows]
    return "\n".join(["image,patient,split", *lines]) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Write every CSV into a folder, by default that of this package."""
    parser = Parser(prog="python -m sam2lora.datasets.splits", description=__doc__)
    here = Path(__file__).parent
    parser.add_argument("--out", type=path_option, default=here, help="folder of the CSVs (default: this package)")
    out = parser.parse_args(arguments).out
    for name, images in rows().items():
        (out / f"{name}.csv").write_text(table(name, images), encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
