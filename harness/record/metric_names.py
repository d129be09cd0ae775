"""Metrics in a report: their names, those that are one number, and those that no verdict can rest on."""

from __future__ import annotations

import pandas as pd

from harness.text import listed
from sam2lora.metrics import reading

_TWINS = (
    ("boundary_iou", "iou", "no structure of {} is wider than the band of the boundary IoU, as with vessels"),
    ("accuracy_full", "accuracy", "the field of view of {} is the whole photograph"),
    ("auc_full", "auc", "the field of view of {} is the whole photograph"),
)
"""Metrics that are one number on some data sets, and when."""


def metrics_like(metric: str) -> tuple[str, ...]:
    """The metrics of which ``metric`` may be the number on some data sets."""
    return tuple(other for name, other, _ in _TWINS if name == metric)


def twins(scores: pd.DataFrame) -> str:
    """Which metrics are one number on which data sets, in sentences with a leading space; empty where none are.

    ``scores``: a column ``dataset``, and one for each metric; its rows are images or means.
    """
    sentences = ""
    for metric, other, why in _TWINS:
        if metric not in scores or other not in scores:
            continue
        apart = (scores[metric] - scores[other]).abs().groupby(scores["dataset"]).max()
        same = tuple(str(name) for name in apart.index[apart < _SAME])
        if same:
            name, another = (metric_name(one) for one in (metric, other))
            sentences += f" On {listed(same)} {name} and {another} are one number: {why.format(listed(same))}."
    return sentences


_SAME = 5e-4
"""What two numbers of three decimals may differ by and still look alike."""


def unjudgeable(metric: str) -> str:
    """Why no verdict of an ablation can rest on ``metric``, as a clause; empty where one can.

    A verdict calls a positive effect help. A distance would not be judged with its sign turned either: effects are
    means over data sets with equal weight, and a pixel is another length in every camera.
    """
    read = reading(metric)
    if not read.smaller:
        return ""
    pixels = ", and its pixels differ between cameras, so that its mean over data sets has no meaning" * bool(read.unit)
    return f"of {read.name} less is better{pixels}"


def metric_name(metric: str) -> str:
    """A metric as the literature writes it."""
    return reading(metric).name
