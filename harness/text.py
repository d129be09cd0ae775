"""How numbers and names are written in every report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any


def count(number: int, noun: str) -> str:
    """``3 images``, ``1 image``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(names: Iterable[str]) -> str:
    """``a, b and c``; "none" without a name."""
    known = list(names)
    if not known:
        return "none"
    return known[0] if len(known) == 1 else ", ".join(known[:-1]) + " and " + known[-1]


def abridged(names: Sequence[str], most: int = 3) -> str:
    """`listed`, where there are more than ``most`` as ``a, b, c and 4 more``."""
    return listed(names if len(names) <= most else [*names[:most], f"{len(names) - most} more"])


def amount(value: float) -> str:
    """A number of parameters, MiB or seconds: whole with separators from 100 up, else three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def p_value(p: float) -> str:
    """A p-value with three decimals, or that it is smaller than these show."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def difference(value: Any) -> str:
    """A setting in which an arm differs: loss terms and lists of choices as a sum, choices by kind, four digits."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "loss" in item for item in value):
        return " + ".join(f"{term['weight']:.3g} {term['loss']['kind']}" for term in value)
    if isinstance(value, list) and all(isinstance(item, dict) and "kind" in item for item in value):
        return " + ".join(map(difference, value)) or "none"
    if isinstance(value, dict) and "kind" in value:
        rest = ", ".join(f"{name}={difference(inner)}" for name, inner in value.items() if name != "kind")
        return f"{value['kind']}({rest})" if rest else str(value["kind"])
    text = json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > 6 else text
