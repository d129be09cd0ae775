"""What tuning gained: the best settings beside the declared defaults and the frozen model, one trial each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.record.table import StudyTable, measured, metric_name, metric_of
from harness.reports.document import Block, Refusal, Section, Table, Text, row
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, score, setting, sizes
from harness.text import listed
from sam2lora.choice import unlike
from sam2lora.intervals import mean_interval

GAIN_COLUMNS = (
    *("reference", "dataset", "role", "best", "other"),
    *("mean", "low", "high", "n", "clusters", "undefined"),
)
WORDS = {"defaults": "the declared defaults", "frozen": "the frozen model"}


def reached(table: StudyTable) -> pd.DataFrame:
    """The completed reference trials, each name once (the latest), the defaults first."""
    done = table.references[table.references["outcome"] == "completed"]
    return done.drop_duplicates("reference", keep="last").sort_values("reference", ignore_index=True)


def gains(found: Findings) -> pd.DataFrame:
    """How much better the best trial is than each reference, `GAIN_COLUMNS`; no row without both.

    Rows with role ``val`` and data set ``validation`` hold the difference of the objectives, of ``n`` images and
    ``clusters`` patients, without an interval: the best was chosen by it. The others hold the difference image by
    image on a test part with its interval over patients. Trials are left out whose prompts do not compare.
    """
    rows: list[dict[str, Any]] = []
    if len(found.best):
        top = found.best.iloc[0]
        for reference in reached(found.table).to_dict("records"):
            if bool(reference["oracle_prompt"]) == bool(top["oracle_prompt"]):
                rows += _against(found, reference)
    return pd.DataFrame(rows, columns=list(GAIN_COLUMNS))


def _against(found: Findings, reference: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    top, metric = found.best.iloc[0], metric_of(found.table)
    named = {"reference": reference["reference"]}
    difference = float(top["value"]) - float(reference["value"])
    objective = {"dataset": "validation", "role": "val", "best": top["value"], "other": reference["value"]}
    yield {**named, **objective, "mean": difference, **validated(found)}
    columns = ["dataset", "role", "image", "patient", metric]
    images = found.table.images
    mine, other = (images[images["key"] == key].reindex(columns=columns) for key in (top["key"], reference["key"]))
    both = mine.merge(other, on=columns[:-1], suffixes=("_best", "_other"))
    tests = both[both["role"] != "val"].sort_values(["role", "dataset"], ascending=[False, True])  # targets first
    for (role, dataset), part in tests.groupby(["role", "dataset"], sort=False):
        ours, theirs = part[f"{metric}_best"], part[f"{metric}_other"]
        paired = ours.notna() & theirs.notna()
        interval = mean_interval(ours - theirs, part["patient"])
        scored = {"best": ours[paired].mean(), "other": theirs[paired].mean()}
        yield {**named, "dataset": dataset, "role": role, **scored, **vars(interval)}


def validated(found: Findings) -> dict[str, float]:
    """On how many images and patients a validation score rests; NaN where the record does not say."""
    return {"n": math.nan, "clusters": math.nan, "undefined": 0.0, **found.table.validation}


def what_tuning_gained(found: Findings) -> str:
    """The comparison in plain words; empty for a search without a completed reference."""
    table, known = gains(found), reached(found.table)
    if table.empty:
        return ""
    told = [f"{WORDS[one['reference']]} {score(one['value'])}" for one in known.to_dict("records")]
    text = f"In validation the best trial reaches {score(found.best.iloc[0]['value'])}, {listed(told)}."
    rows = table[table["reference"] == "defaults"]
    if rows.empty:
        return text
    validation = _better(found, float(rows[rows["role"] == "val"]["mean"].iloc[0]))
    targets = rows[rows["role"] == "target"]
    lower = [str(name) for name in targets[targets["high"] < 0]["dataset"]]
    if validation < 0:
        text += " **Tuning gained nothing**: validation would choose the defaults."
    elif validation == 0:
        text += " **Tuning gained nothing**: the defaults do as well in validation."
    elif len(targets) and not (targets["low"] > 0).any():
        text += " **Tuning gained nothing that can be told from 0** on a hospital that judges."
    if len(targets):
        each = "; ".join(f"{signed(one)} on {one['dataset']} ({sizes(one)})" for one in targets.to_dict("records"))
        text += (
            f" Tested against the defaults, the best trial gains {each}: paired by image, 95 % interval over patients."
        )
    if lower:
        text += f" It is **worse than the defaults** on {listed(lower)}."
    return f"{text} One seed each: trained again, either may come out ahead."


def _better(found: Findings, difference: float) -> float:
    return -difference if found.table.direction == "minimize" else difference


def signed(one: Mapping[Any, Any]) -> str:
    """A difference with its sign and its interval; without one it says so."""
    if pd.isna(one["mean"]):
        return "undefined"
    if pd.isna(one["low"]):
        return f"{one['mean']:+.3f} (no interval)"
    return f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"


def gain(found: Findings) -> Section:
    """The references beside the best trial, on every set."""
    title = "What tuning gained"
    references, done = found.table.references, measured(found.table.trials)
    if references.empty:
        return Section(title, (Refusal("no reference was trained; without `--no-references` a search trains two."),))
    blocks: list[Block] = [
        Text(f"{WORDS[str(one['reference'])]}: {one['outcome']}, {one['why']}.".capitalize())
        for one in references[references["outcome"] != "completed"].to_dict("records")
    ]
    table = gains(found)
    if table.empty:
        why = "no trial of the search has completed" if done.empty else "none has completed with prompts that compare"
        return Section(title, (*blocks, Refusal(f"there is nothing to compare: {why}.")))
    header = ("compared with", "data set", "best trial", "reference", "gain [95 % interval]", "of")
    rows = tuple(
        row(
            WORDS[str(one["reference"])],
            _where(one),
            score(one["best"]),
            score(one["other"]),
            signed(one),
            sizes(one),
        )
        for one in table.to_dict("records")
    )
    caption = (
        f"{metric_name(found.metric)} of the best trial less that of the reference. Tests are paired image by image, "
        "with a t interval over patients; validation chose the best of many trials and is too high by selection, so it "
        "has no interval. One seed each: the intervals do not hold the spread between trainings."
    )
    return Section(title, (*blocks, Table("gain", caption, header, rows, table), *_settings(found)))


def _where(one: Mapping[Any, Any]) -> str:
    words = {"target": " (target)", "source": f" ({IN_DOMAIN})"}
    return str(one["dataset"]) + words.get(one["role"], "")


def _settings(found: Findings) -> tuple[Block, ...]:
    """In which settings the best trial differs from the defaults, by their paths in a trial's JSON."""
    defaults = reached(found.table).query("reference == 'defaults'")
    if defaults.empty:
        return ()
    before, now = (json.loads(str(one["config"])) for one in (defaults.iloc[0], found.best.iloc[0]))
    frame = pd.DataFrame(unlike(before, now), columns=["setting", "defaults", "best"])
    if frame.empty:
        return (Text("The best trial has the settings of the defaults."),)
    cells = tuple(
        row(_named(path, now), _plain(one), _plain(other))
        for path, one, other in frame.itertuples(index=False, name=None)
    )
    caption = "Where the settings of the best trial differ from the declared defaults."
    return (Table("defaults", caption, ("setting", "declared defaults", "best trial"), cells, frame),)


def _named(path: str, config: Mapping[str, Any]) -> str:
    """A setting's path; a loss, which the path counts, with its name."""
    match path.split("."):
        case ["loss", "terms", place, *_]:
            return f"{path} ({config['loss']['terms'][int(place)]['loss']['kind']})"
    return path


def _plain(value: Any) -> str:
    return setting(value) if isinstance(value, int | float | str) else json.dumps(value)
