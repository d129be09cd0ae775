"""Test scores of the best settings on every data set, sources above targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.record.metric_names import metric_name
from harness.reports.figures import style
from sam2lora.intervals import ORACLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(scores: pd.DataFrame, metric: str, judged: str = "unseen") -> Figure:
    """One dot per trial and data set with its 95 % interval over patients, sources above targets.

    ``judged``: the label of a target, such as ``unseen``.

    ``scores``: columns place (1 is the best by validation), number, dataset, role, mean, low, high, n, clusters,
    oracle_prompt. The legend marks a trial that was prompted from the ground truth.
    A mean without an interval (per-image scores left out) is a dot alone.
    """
    datasets = list(scores[["dataset", "role"]].drop_duplicates().itertuples(index=False, name=None))
    datasets.sort(key=lambda pair: (pair[1] != "source", pair[0]))
    places = sorted(scores["place"].unique())
    figure = style.figure(7.8, 1.6 + (0.42 + 0.13 * len(places)) * len(datasets))
    axes = figure.add_subplot()
    for row, (dataset, role) in enumerate(datasets):
        _dataset(axes, scores[scores["dataset"] == dataset], row, role, len(places))
    labels = [f"{dataset}\n{_size(scores, dataset)}" for dataset, _ in datasets]
    axes.set_yticks(range(len(datasets)), labels)
    axes.set_ylim(len(datasets) - 0.5, -0.5)
    for row, (_, role) in enumerate(datasets):
        if row > 0 and role != datasets[row - 1][1]:
            axes.axhline(row - 0.5, color=style.INK, lw=0.8)
    style.tidy(axes, grid="x")
    axes.set_xlabel(f"test {metric_name(metric)}: mean over images, 95 % interval over patients")
    _legend(figure, axes, scores, judged)
    return figure


def _dataset(axes: Axes, rows: pd.DataFrame, row: int, role: str, places: int) -> None:
    colour = style.SOURCE if role == "source" else style.TARGET
    ordered = rows.sort_values("place")
    for index, (place, mean, low, high) in enumerate(ordered[["place", "mean", "low", "high"]].to_numpy(dtype=float)):
        first, marker = place == 1, style.PLACES[(int(place) - 1) % len(style.PLACES)]
        height = row + (0.7 * (index - (places - 1) / 2) / max(places, 2))
        axes.errorbar(
            [mean], [height], xerr=[[mean - low], [high - mean]], fmt=marker, color=colour, capsize=2.5,
            ms=8 if first else 5, lw=1.8 if first else 1.0, mfc=colour if first else style.PAPER,
        )  # fmt: skip


def _size(scores: pd.DataFrame, dataset: str) -> str:
    known = scores[(scores["dataset"] == dataset) & scores["clusters"].notna()]
    if known.empty:
        return "no interval"
    images, patients = int(known["n"].max()), int(known["clusters"].max())
    said = f"{images} image{'s' * (images != 1)}, {patients} patient{'s' * (patients != 1)}"
    return said if known["low"].notna().any() else f"{said}: no interval"


def _legend(figure: Figure, axes: Axes, scores: pd.DataFrame, judged: str) -> None:
    for role, colour, text in (
        ("source", style.SOURCE, "source (test split)"),
        ("target", style.TARGET, f"target ({judged})"),
    ):
        if (scores["role"] == role).any():
            axes.plot([], [], color=colour, lw=3, label=text)
    trials = scores[["place", "number", "oracle_prompt"]].drop_duplicates().sort_values("place")
    for place, number, oracle in trials.itertuples(index=False, name=None):
        face = style.INK if place == 1 else style.PAPER
        marker = style.PLACES[(place - 1) % len(style.PLACES)]
        text = f"place {place}: trial {number}" + (f" {ORACLE}, prompted from ground truth" if oracle else "")
        axes.plot([], [], marker, color=style.INK, mfc=face, ms=6, label=text)
    style.legend(figure, axes, "outside right upper", ncols=1)
