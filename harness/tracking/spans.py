"""Sets of numbers as short texts: ``0-3,5-5``."""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import groupby

_SPANS = re.compile(r"\d+-\d+(,\d+-\d+)*")


def to_text(numbers: Set[int], limit: int) -> str:
    """``numbers`` as spans, lowest first, as many as ``limit`` characters hold; "" for none."""
    runs = (list(run) for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]))
    text = ",".join(f"{run[0][1]}-{run[-1][1]}" for run in runs)
    return text if len(text) <= limit else text[: limit + 1].rpartition(",")[0]


def from_text(text: str) -> set[int]:
    """The numbers of ``text``; none where it is not of `to_text`."""
    if not _SPANS.fullmatch(text):
        return set()
    ends = (span.split("-") for span in text.split(","))
    return {number for first, last in ends for number in range(int(first), int(last) + 1)}
