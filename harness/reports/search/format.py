"""How numbers are written in a search's report: scores, intervals with their gaps, settings, sizes, marks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from harness.text import count
from sam2lora.intervals import ORACLE, with_interval

IN_DOMAIN = "in domain"
"""The label of a source's test split: the same hospital, other images."""


def score(value: float, decimals: int = 3) -> str:
    """A score with ``decimals``, or "undefined"."""
    return "undefined" if pd.isna(value) else f"{value:.{decimals}f}"


def interval(row: Mapping[Any, Any], decimals: int = 3) -> str:
    """A figure with its 95 % interval in brackets: ``0.712 [0.690, 0.731]``; without one, why there is none."""
    if pd.isna(row["mean"]):
        return "undefined"
    if pd.isna(row["low"]):
        return f"{score(row['mean'], decimals)} (no interval{_why_none(row)})"
    return with_interval(partial(score, decimals=decimals), row["mean"], row["low"], row["high"])


def spread(row: Mapping[Any, Any]) -> str:
    """An importance with what refits on other draws of its trials give: ``0.420 (0.310 to 0.552)``."""
    return f"{score(row['importance'])} ({score(row['low'])} to {score(row['high'])})"


def _why_none(row: Mapping[Any, Any]) -> str:
    """Why a mean has no interval: one patient has no spread, and images that were not read have no patients."""
    if pd.isna(row.get("clusters")):
        return ": image scores missing"
    return f": {count(int(row['clusters']), 'trial' if row.get('role') == 'val' else 'patient')}"


def with_gaps(row: Mapping[Any, Any], decimals: int = 3) -> str:
    """`interval` of a test score, with how many of the images have none: a mean over the others flatters or harms."""
    undefined = 0 if pd.isna(row["undefined"]) else int(row["undefined"])
    text = interval(row, decimals=decimals)
    return text + (f", {undefined} of {int(row['n']) + undefined} images undefined" if undefined else "")


def marked(row: Mapping[Any, Any]) -> str:
    """A trial's number, with `ORACLE` if its scores were reached with prompts from the ground truth."""
    return f"{row['number']} {ORACLE}" if row["oracle_prompt"] else str(row["number"])


def setting(value: Any) -> str:
    """A setting with as many digits as a reader can use."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def images_of(rows: pd.DataFrame) -> str:
    """The images and patients behind the scores of a data set: ``14 images, 7 patients``."""
    known = rows[rows["clusters"].notna()]
    return sizes((known if len(known) else rows).sort_values("n").iloc[-1].to_dict())


def sizes(row: Mapping[Any, Any]) -> str:
    """The same of one score, with the images that it leaves out."""
    undefined = 0 if pd.isna(row["undefined"]) else int(row["undefined"])
    images = "images unknown" if pd.isna(row["n"]) else count(int(row["n"]), "image")
    images += f" and {undefined} undefined" if undefined else ""
    return images if pd.isna(row["clusters"]) else f"{images}, {count(int(row['clusters']), 'patient')}"


def kind_of(value: Any) -> str:
    """The kind of a sampler, scheduler or backbone as the question records it: a choice's JSON or a bare name."""
    return str(value.get("kind", value)) if isinstance(value, Mapping) else str(value)
