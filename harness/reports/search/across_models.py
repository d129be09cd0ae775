"""One summary over the studies of a protocol that has several models. It loads neither torch nor Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.record.metric_names import metric_name
from harness.record.table import read, seed_of
from harness.reports.rendering.files import csv
from harness.reports.rendering.markdown import grid
from harness.reports.search.findings import summarize
from harness.reports.search.format import score, sizes, with_gaps
from harness.reports.search.gain import gains, signed, validated
from harness.reports.search.overview import chosen
from sam2lora.intervals import ORACLE

COLUMNS = (
    *("study", "trial", "oracle", "settings", "validation", "validation_n", "validation_clusters"),
    *("dataset", "role", "metric", "mean", "low", "high", "n", "clusters", "undefined"),
    *("gain", "gain_low", "gain_high", "gain_n", "gain_clusters", "gain_undefined"),
)
_GAINS = {"gain": "mean", "gain_low": "low", "gain_high": "high"}
_GAINS |= {f"gain_{name}": name for name in ("n", "clusters", "undefined")}


def summary(storage: str, names: Sequence[str], folder: Path) -> pd.DataFrame:
    """One row for each study and test set: the best trial by validation, and its test score.

    ``settings``: those of that trial, as JSON. ``role`` is ``target`` where the model was tested on data sets that it
    never saw, else ``source``. ``validation_n`` and ``validation_clusters``: on how many images and patients the
    validation score rests. ``gain``: how much better the best trial scores than the declared defaults, paired by image;
    NaN where they were not trained. ``low`` and ``high`` bound a 95 % interval over patients. A study without a
    completed trial, or whose best trial was scored on nothing, has one row without scores.
    """
    rows: list[Mapping[Any, Any]] = []
    for name in names:
        table = read(storage, name, folder)
        findings = summarize(table, 1, seed_of(table))
        if findings.best.empty:
            rows.append({"study": name})
            continue
        best = {
            "study": name,
            "trial": int(findings.best.iloc[0]["number"]),
            "oracle": bool(findings.best.iloc[0]["oracle_prompt"]),
            "settings": json.dumps(chosen(findings)),
        }
        best["validation"] = float(findings.best.iloc[0]["value"])
        rests = validated(findings)
        best |= {"validation_n": rests["n"], "validation_clusters": rests["clusters"]}
        scores = findings.scores[(findings.scores["place"] == 1) & (findings.scores["metric"] == findings.metric)]
        wanted = "target" if (scores["role"] == "target").any() else "source"
        gained = gains(findings)
        gained = gained[gained["reference"] == "defaults"].set_index("dataset")
        for row in scores[scores["role"] == wanted].to_dict("records") or [{}]:
            against = gained.loc[row["dataset"]] if row.get("dataset") in gained.index else pd.Series(dtype=float)
            rows.append({**best, **row, **{name: against.get(own) for name, own in _GAINS.items()}})
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def write(frame: pd.DataFrame, lines: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """Write ``summary.md`` of ``lines`` and ``summary.csv`` of ``frame`` into ``folder``, which is made; both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / "summary.md", folder / "summary.csv"
    text.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data.write_text(csv(frame), encoding="utf-8")
    return text, data


def markdown(frame: pd.DataFrame) -> list[str]:
    """The summary as Markdown: the test scores and the settings of every model, and the conclusions that they do not
    allow."""
    metrics = frame["metric"].dropna().unique()
    name = metric_name(str(metrics[0])) if len(metrics) else "score"
    header = ("model", "best trial", f"validation {name}", "tested on", f"test {name} [95 % interval]", "of")
    prompted = f" {ORACLE} The test prompts were taken from the ground truth." if frame["oracle"].eq(True).any() else ""
    return [
        "# One model for each data set",
        "",
        "The best trial of each study was chosen by validation on its sources, without any of its test images. Each "
        "line is a separate search: a mean over the lines describes the protocol, and choosing settings by it would "
        f"let every data set steer the model that is tested on it.{prompted}",
        "",
        *grid(header, [_cells(row) for row in frame.to_dict("records")]),
        "",
        *_gained(frame),
        *_settings(frame),
    ]


def _gained(frame: pd.DataFrame) -> list[str]:
    """The gain of tuning over the declared defaults, model by model; no line where no model has the defaults."""
    known = frame[frame["gain"].notna()]
    if known.empty:
        return []
    rows = [
        [_model(str(row["study"])), str(row["dataset"]), signed(_part(row, "gain")), sizes(_part(row, "gain"))]
        for row in known.to_dict("records")
    ]
    return [
        "## What tuning gained over the declared defaults",
        "",
        *grid(("model", "tested on", "gain [95 % interval]", "of"), rows),
        "",
        "The best trial minus the defaults, paired by image, with an interval over patients. One seed each: with other "
        "seeds, either may come out ahead.",
        "",
    ]


def _part(row: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """The columns ``name`` and ``name_...`` of a row, by the names that a score's columns have."""
    prefix = f"{name}_"
    return {
        "mean": row[name],
        **{str(key).removeprefix(prefix): row[key] for key in row if str(key).startswith(prefix)},
    }


def _settings(frame: pd.DataFrame) -> list[str]:
    """The settings of each model's best trial: those on which the models agree transfer."""
    models = frame[frame["settings"].notna()].drop_duplicates("study")
    chosen = {
        _model(study): json.loads(recorded) for study, recorded in zip(models["study"], models["settings"], strict=True)
    }
    names = list(dict.fromkeys(name for one in chosen.values() for name in one))
    if not names:
        return []
    rows = [[model, *(one.get(name, "none") for name in names)] for model, one in chosen.items()]
    return [
        "## What each search chose",
        "",
        *grid(("model", *names), rows),
        "",
        "One search each: where the models differ, the searches may be the reason. An ablation of the same protocol "
        "shows whether a setting matters on all of them.",
    ]


def _model(study: str) -> str:
    """The part of a study's name that names its model."""
    return study.rpartition("/")[2]


def _cells(row: Mapping[Any, Any]) -> list[str]:
    model = _model(str(row["study"]))
    if pd.isna(row["trial"]):
        return [model, "none completed", "", "", "", ""]
    mark = f" {ORACLE}" if row["oracle"] else ""
    validation = score(float(row["validation"]))
    if pd.notna(row["validation_n"]):
        validation += f" ({sizes({**_part(row, 'validation'), 'undefined': 0})})"
    cells = [model, f"{int(row['trial'])}{mark}", validation]
    if pd.isna(row["dataset"]):
        return [*cells, "not scored", "", ""]
    return [*cells, str(row["dataset"]), with_gaps(row), sizes(row)]
