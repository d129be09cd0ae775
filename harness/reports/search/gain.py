"""The gain of tuning: the best trial compared with the declared defaults and the frozen model, one trial each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.record.metric_names import metric_name
from harness.record.table import StudyTable, completed_trials, metric_of
from harness.reports.document import Block, Columns, Record, Refusal, Section, Text, table
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, score, setting, sizes
from harness.text import listed
from sam2lora.choice import json_differences
from sam2lora.intervals import mean_interval, with_interval

GAIN_COLUMNS = (
    *("reference", "dataset", "role", "best", "other"),
    *("mean", "low", "high", "n", "clusters", "undefined"),
)
WORDS = {"defaults": "the declared defaults", "frozen": "the frozen model"}


def reached(table: StudyTable) -> pd.DataFrame:
    """The completed reference trials, each name once (the latest), the defaults first."""
    done = table.references[table.references["outcome"] == "completed"]
    return done.drop_duplicates("reference", keep="last").sort_values("reference", ignore_index=True)


def gains(findings: Findings) -> pd.DataFrame:
    """The gain of the best trial over each reference, `GAIN_COLUMNS`; no row without both.

    Rows with role ``val`` and data set ``validation`` hold the difference of the objectives, of ``n`` images and
    ``clusters`` patients, without an interval: the best was chosen by it. The others hold the difference image by
    image on a test part with its interval over patients. Trials are left out whose prompts do not compare.
    """
    rows: list[dict[str, Any]] = []
    if len(findings.best):
        top = findings.best.iloc[0]
        for reference in reached(findings.table).to_dict("records"):
            if bool(reference["oracle_prompt"]) == bool(top["oracle_prompt"]):
                rows += _against(findings, reference)
    return pd.DataFrame(rows, columns=list(GAIN_COLUMNS))


def _against(findings: Findings, reference: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    top, metric = findings.best.iloc[0], metric_of(findings.table)
    named = {"reference": reference["reference"]}
    difference = float(top["value"]) - float(reference["value"])
    objective = {"dataset": "validation", "role": "val", "best": top["value"], "other": reference["value"]}
    yield {**named, **objective, "mean": difference, **validated(findings)}
    columns = ["dataset", "role", "image", "patient", metric]
    images = findings.table.images
    mine, other = (images[images["key"] == key].reindex(columns=columns) for key in (top["key"], reference["key"]))
    both = mine.merge(other, on=columns[:-1], suffixes=("_best", "_other"))
    tests = both[both["role"] != "val"].sort_values(["role", "dataset"], ascending=[False, True])  # targets first
    for (role, dataset), part in tests.groupby(["role", "dataset"], sort=False):
        ours, theirs = part[f"{metric}_best"], part[f"{metric}_other"]
        paired = ours.notna() & theirs.notna()
        interval = mean_interval(ours - theirs, part["patient"])
        scored = {"best": ours[paired].mean(), "other": theirs[paired].mean()}
        yield {**named, "dataset": dataset, "role": role, **scored, **vars(interval)}


def validated(findings: Findings) -> dict[str, float]:
    """The images and patients behind a validation score; NaN where the record does not have them."""
    return {"n": math.nan, "clusters": math.nan, "undefined": 0.0, **findings.table.validation}


def what_tuning_gained(findings: Findings) -> str:
    """The comparison in plain words; empty for a search without a completed reference."""
    table, known = gains(findings), reached(findings.table)
    if table.empty:
        return ""
    references = [f"{WORDS[one['reference']]} {score(one['value'])}" for one in known.to_dict("records")]
    text = f"In validation the best trial reaches {score(findings.best.iloc[0]['value'])}, {listed(references)}."
    rows = table[table["reference"] == "defaults"]
    if rows.empty:
        return text
    validation = _better(findings, float(rows[rows["role"] == "val"]["mean"].iloc[0]))
    targets = rows[rows["role"] == "target"]
    lower = [str(name) for name in targets[targets["high"] < 0]["dataset"]]
    if validation < 0:
        text += " **Tuning gained nothing**: validation would choose the defaults."
    elif validation == 0:
        text += " **Tuning gained nothing**: the defaults do as well in validation."
    elif len(targets) and not (targets["low"] > 0).any():
        text += " **No gain from tuning can be distinguished from 0** on any target."
    if len(targets):
        each = "; ".join(f"{signed(one)} on {one['dataset']} ({sizes(one)})" for one in targets.to_dict("records"))
        text += (
            f" Tested against the defaults, the best trial gains {each}: paired by image, 95 % interval over patients."
        )
    if lower:
        text += f" It is **worse than the defaults** on {listed(lower)}."
    return f"{text} One seed each: with other seeds, either may come out ahead."


def _better(findings: Findings, difference: float) -> float:
    return -difference if findings.table.direction == "minimize" else difference


def signed(one: Mapping[Any, Any]) -> str:
    """A difference with its sign and its interval; without one it says so."""
    if pd.isna(one["mean"]):
        return "undefined"
    if pd.isna(one["low"]):
        return f"{one['mean']:+.3f} (no interval)"
    return with_interval("{:+.3f}".format, one["mean"], one["low"], one["high"])


def gain(findings: Findings) -> Section:
    """The best trial compared with the references, on every data set."""
    title = "What tuning gained"
    references, done = findings.table.references, completed_trials(findings.table.trials)
    if references.empty:
        return Section(title, (Refusal("no reference was trained; without `--no-references` a search trains two."),))
    blocks: list[Block] = [
        Text(f"{WORDS[str(one['reference'])]}: {one['outcome']}, {one['why']}.".capitalize())
        for one in references[references["outcome"] != "completed"].to_dict("records")
    ]
    frame = gains(findings)
    if frame.empty:
        why = "no trial of the search has completed" if done.empty else "none has completed with comparable prompts"
        return Section(title, (*blocks, Refusal(f"there is nothing to compare: {why}.")))
    columns: Columns[Record] = {
        "compared with": lambda one: WORDS[str(one["reference"])],
        "data set": _where,
        "best trial": lambda one: score(one["best"]),
        "reference": lambda one: score(one["other"]),
        "gain [95 % interval]": signed,
        "of": sizes,
    }
    caption = (
        f"{metric_name(findings.metric)} of the best trial minus that of the reference. Test scores are paired by "
        "image, with a t interval over patients; validation chose the best of many trials and is too high by "
        "selection, so it has no interval. One seed each: the intervals do not include the spread between training "
        "runs."
    )
    shown = table("gain", caption, frame.to_dict("records"), columns, frame)
    return Section(title, (*blocks, shown, *_settings(findings)))


def _where(one: Mapping[Any, Any]) -> str:
    words = {"target": " (target)", "source": f" ({IN_DOMAIN})"}
    return str(one["dataset"]) + words.get(one["role"], "")


def _settings(findings: Findings) -> tuple[Block, ...]:
    """The settings in which the best trial differs from the defaults, by their paths in the JSON of a trial."""
    defaults = reached(findings.table).query("reference == 'defaults'")
    if defaults.empty:
        return ()
    before, now = (json.loads(str(one["config"])) for one in (defaults.iloc[0], findings.best.iloc[0]))
    frame = pd.DataFrame(json_differences(before, now), columns=["setting", "defaults", "best"])
    if frame.empty:
        return (Text("The best trial has the settings of the defaults."),)
    columns: Columns[Record] = {
        "setting": lambda one: _named(one["setting"], now),
        "declared defaults": lambda one: _plain(one["defaults"]),
        "best trial": lambda one: _plain(one["best"]),
    }
    caption = "Where the settings of the best trial differ from the declared defaults."
    return (table("defaults", caption, frame.to_dict("records"), columns, frame),)


def _named(path: str, config: Mapping[str, Any]) -> str:
    """A setting's path; a loss, which the path counts, with its name."""
    match path.split("."):
        case ["loss", "terms", place, *_]:
            return f"{path} ({config['loss']['terms'][int(place)]['loss']['kind']})"
    return path


def _plain(value: Any) -> str:
    return setting(value) if isinstance(value, int | float | str) else json.dumps(value)
