"""Importance of settings and of loss components, as far as a search can measure it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.importance import Importance, of_pairs
from harness.record.metric_names import metric_name
from harness.record.table import completed_trials, label
from harness.reports.document import (
    Block,
    Columns,
    Figure,
    Heading,
    Record,
    Refusal,
    Section,
    Table,
    Text,
    row,
    table,
)
from harness.reports.figures import importance as bars
from harness.reports.figures import simplex
from harness.reports.search.findings import Findings, Importances
from harness.reports.search.format import kind_of, score, setting, spread
from harness.stats.multiplicity import CORRECTION
from harness.text import count, listed, p_value

PER_SETTING = 12
"""Completed trials for each setting below which an order of importance is more often wrong than right."""
PAIRS_SHOWN = 10


def losses(findings: Findings) -> tuple[Section, ...]:
    """The weights of the loss components in the best trials and what they explain; no section if none was searched."""
    weights = [name for name in findings.table.distributions if name.startswith("weight/")]
    if not weights or findings.best.empty:
        return ()
    tables = [(how, table.set_index("parameter")) for how, table in findings.probed or findings.importance]
    top, done = findings.best.iloc[0], completed_trials(findings.table.trials)
    figures = {
        name: {"best": float(top[name]), "mean_of_best": findings.best[name].mean(), "mean_of_all": done[name].mean()}
        for name in weights
    }
    header = ["component", "weight in the best", f"mean in the best {len(findings.best)}", f"mean in all {len(done)}"]
    header += [f"{how.title} importance{' (probe)' * bool(findings.probed)}" for how, _ in tables]
    rows = tuple(
        row(
            name.removeprefix("weight/"),
            *map(setting, figures[name].values()),
            *(_explained(table.loc[name].to_dict()) for _, table in tables),
        )
        for name in weights
    )
    text = (
        f"From {len(done)} completed trials. The weights add up to one, so a weight can only rise if another falls: "
        "the importance of one includes what was given up for it. Importance has no sign; the figure shows the "
        "direction."
    )
    frame = pd.DataFrame.from_dict(figures, orient="index").rename_axis("weight").reset_index()
    caption = "Weights and importance of every component."
    blocks: list[Block] = [Text(text), Table("loss_weights", caption, tuple(header), rows, frame)]
    if len(weights) >= 2 and len(done):
        caption = f"Loss weights and score: {len(done)} completed trials filled, stopped ones hollow."
        blocks.append(Figure("simplex", caption, lambda: simplex.draw(findings.table)))
    return (Section("Which parts of the loss mattered", tuple(blocks)),)


def importance(findings: Findings) -> Section:
    """Importance of settings and of their pairs, from the probe and from the sampler's trials, never mixed."""
    blocks: list[Block] = []
    if shown(findings.probed) or shown(findings.importance):
        text = (
            "**Importance** is a share from 0 to 1. The brackets hold the middle 95 % of refits on bootstrap samples "
            "of the trials: they show how stable the number is and are no confidence interval. A setting above its "
            "level of **chance** stands out: in 95 % of studies no setting without an effect does. Levels are computed "
            "step by step, so that a setting next to a strong one is compared with what the strong one leaves "
            "unexplained. **Rank kept**: share of bootstrap samples with the same rank; **comes first**: share in "
            "which it ranks first."
        )
        blocks.append(Text(text))
    if len(findings.table.objectives) > 1:
        text = f"Importance is that of validation {metric_name(findings.metric)} alone, not of the other objectives."
        blocks.append(Text(text))
    if findings.outcomes.get("infeasible"):
        text = "Settings that miss a constraint were not measured: importance is about those that meet it."
        blocks.append(Text(text))
    caption = "Importance of every searched setting, with its spread over refits"
    trials = findings.table.trials
    if findings.probed:
        blocks += [
            Text(
                "**From the probe.** Its trials cover the space evenly, were proposed without regard to scores, and no "
                "scheduler stopped them. The sampler never saw them, and none of its trials is among them."
            ),
            *_cautions(trials[trials["probe"]], findings.probed),
            *_tables(findings.probed, findings.probed_pairs, "_probe"),
            *_bars("importance_probe", f"{caption}, from the probe.", findings.probed),
            *_regression(findings),
        ]
    blocks += [
        *_trace(findings),
        *_cautions(trials[~trials["probe"]], findings.importance),
        *_tables(findings.importance, findings.pairs, ""),
        *_bars("importance", caption + ", from the trace" * bool(findings.probed) + ".", findings.importance),
        *([] if findings.probed else _regression(findings)),
    ]
    return Section("Which settings mattered", tuple(blocks))


def _bars(name: str, caption: str, tables: Importances) -> tuple[Block, ...]:
    """The figure of importances; no block where no setting has one."""
    panels = [bars.Panel(how.title, how.question, rows) for how, rows in tables]
    return (Figure(name, caption, lambda: bars.draw(panels)),) if shown(tables) else ()


def shown(tables: Importances) -> bool:
    """Whether any setting has a figure."""
    return any(table["importance"].notna().any() for _, table in tables)


def _explained(one: Mapping[Any, Any]) -> str:
    if pd.isna(one["importance"]):
        return f"not shown: {one['note']}"
    if pd.isna(one["chance"]):
        return f"{spread(one)}, no chance level"
    return spread(one) + (", above chance" if one["importance"] > one["chance"] else ", not above chance")


def _trace(findings: Findings) -> tuple[Block, ...]:
    """The limits of trials that an optimiser chose; nothing if they cover the space evenly."""
    if findings.probe:
        return (Text("**From the sampler's own trials.**"),) if findings.probed else ()
    sampler = kind_of(findings.table.question.get("sampler", "unknown"))
    where = (
        "Believe the probe where the two differ."
        if findings.probed
        else "For an answer that holds, add a probe (`--probe 60`), search with the random or quasi-random sampler, or "
        "run a designed ablation."
    )
    text = (
        f"**A trace is not a probe.** The sampler `{sampler}` chose trials by scores, so it hardly covered the "
        "settings that it left early, and the order of importance from such trials is often wrong. **No chance level "
        f"holds for them, so no setting can be said to stand out there.** {where}"
    )
    return (Text(text),)


def _cautions(trials: pd.DataFrame, tables: Importances) -> list[Block]:
    """Why these trials say less than their tables suggest: there are few, or some were stopped or are open."""
    if not shown(tables):
        return []
    n, own = len(completed_trials(trials)), trials["reused_from"].isna()
    settings = max((len(table) for _, table in tables), default=0)
    stopped = int((own & (trials["outcome"] == "stopped")).sum())
    still = int(trials["outcome"].isin(["running", "waiting"]).sum())
    text = []
    if n < PER_SETTING * settings:
        text.append(
            f"{count(n, 'completed trial')} for {count(settings, 'setting')}: too few for a reliable order, which "
            f"takes about {PER_SETTING * settings}."
        )
    if stopped:
        text.append(
            f"The scheduler stopped {count(stopped, 'trial')} early. They have no final score and are left out, so "
            "settings that make a trial bad early look less important than they are."
        )
    if still:
        text.append(f"{count(still, 'trial')} still open: the study had not ended.")
    return [Text(f"**Caution.** {line}") for line in text]


def _tables(tables: Importances, joint: pd.DataFrame, suffix: str) -> list[Block]:
    blocks = [block for how, table in tables for block in _evaluator(how, table, suffix)]
    return blocks + _pairs(tables, joint, suffix)


def _evaluator(how: Importance, frame: pd.DataFrame, suffix: str) -> list[Block]:
    heading = Heading(f"{how.title}, {how.question}")
    if frame.empty:
        return [heading, Refusal("no setting was searched.")]
    if frame["importance"].isna().all():
        return [heading, Refusal(f"{frame['note'].iloc[0]}.")]
    columns = {"setting": _setting, **SHARE_COLUMNS, "remark": _remark}
    n = int(frame["n"].max())
    text = "no chance level: a sampler chose them" if frame["chance"].isna().all() else f"{how.shuffles} shuffles"
    caption = f"{n} completed trials, {how.bootstraps} bootstraps, {text}."
    return [heading, table(f"importance_{how.kind}{suffix}", caption, frame.to_dict("records"), columns, frame)]


def _setting(one: Record) -> str:
    return label(one["parameter"])


def _remark(one: Record) -> str:
    return str(one["note"])


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.0f} %"


def reach_of(one: Record) -> str:
    """The level of chance of a setting; empty without one, and where there are too few shuffles for it."""
    return score(one["chance"]) if math.isfinite(one["chance"]) else ""


SHARE_COLUMNS: Columns[Record] = {
    "importance": lambda one: "not shown" if pd.isna(one["importance"]) else spread(one),
    "chance": reach_of,
    "rank": lambda one: "" if pd.isna(one["keeps_rank"]) else str(int(one["rank"])),
    "rank kept": lambda one: _percent(one["keeps_rank"]),
    "comes first": lambda one: _percent(one["is_first"]),
}
"""The columns of an importance."""


def _pairs(asked: Importances, frame: pd.DataFrame, suffix: str) -> list[Block]:
    """What pairs of settings explain beyond their separate effects: the `PAIRS_SHOWN` largest, and why others have no
    number."""
    how = of_pairs(how for how, _ in asked)
    if frame.empty or how is None:
        return []
    known = frame[frame["importance"].notna()]
    blocks: list[Block] = [
        Heading(f"Pairs, {how.title}: what share do two settings explain beyond what each explains alone?")
    ]
    if len(known):
        rest = len(known) - PAIRS_SHOWN
        reach = (
            "There is no chance level: a sampler chose these trials. "
            if known["chance"].isna().all()
            else "The level of chance, for the largest of all pairs, is the larger of two: that of shuffled scores, "
            "and that of separate effects with shuffled residuals, which a forest sometimes takes for joint effects. A "
            "share below it is no evidence of a joint effect, nor of its absence: 40 trials show only large ones. "
        )
        caption = f"{how.bootstraps} bootstraps. {reach}PED-ANOVA is not defined for pairs."
        caption += f" The {rest} smaller ones are in `pairs{suffix}.csv`." * (rest > 0)
        columns: Columns[Record] = {
            "settings": _couple,
            **SHARE_COLUMNS,
            "trials": lambda one: str(one["n"]),
            "remark": _remark,
        }
        shown = known.head(PAIRS_SHOWN).to_dict("records")
        blocks.append(table(f"pairs{suffix}", caption, shown, columns, frame))
    for why, rows_of in frame[frame["importance"].isna()].groupby("note", sort=False):
        blocks.append(Refusal(f"{listed(map(_couple, rows_of.to_dict('records')))}: {why}."))
    return blocks


def _regression(findings: Findings) -> list[Block]:
    """The effect of every setting by least squares, next to the trees."""
    frame = findings.regression
    if frame.empty:
        return []
    if refusals := regression_refused(frame):
        return [Heading("A regression next to the trees"), *map(Refusal, refusals)]
    n, probe = int(frame["n"].max()), bool(findings.probed)
    text = (
        f"**A regression next to the trees**, on the same {count(n, 'trial')}{' of the probe' * probe}. It models "
        "slopes and curvature only, and detects smaller effects than a forest does. "
        f"**p ({CORRECTION})** is adjusted for the number of settings: below 0.05 the setting matters, with a risk of "
        "5 % that any setting without an effect is called so. The effect of a loss weight is that of raising it at the "
        "cost of the others."
    )
    columns: Columns[Record] = {
        "setting": _setting,
        "explains beyond the others": lambda one: "" if pd.isna(one["explains"]) else f"{one['explains']:.3f}",
        "slope": lambda one: coefficient(one["slope"]),
        "curvature": lambda one: coefficient(one["curvature"]),
        "presence": lambda one: coefficient(one["presence"]),
        "p": lambda one: probability(one["p"]),
        f"p ({CORRECTION})": lambda one: probability(one["holm"]),
        "remark": _remark,
    }
    caption = (
        f"Slope: change of validation {metric_name(findings.metric)} from one end of the searched range to the other; "
        "curvature: coefficient of the square, below 0 for a peak; presence: the effect of being present at all. A "
        "category has no slope."
    )
    return [Text(text), table("regression", caption, frame.to_dict("records"), columns, frame)]


def regression_refused(frame: pd.DataFrame) -> list[str]:
    """Why no setting has a figure, by reason; empty where one has."""
    if frame[["explains", "holm"]].notna().any(axis=None):
        return []
    return [f"{listed(map(label, rows['parameter']))}: {why}." for why, rows in frame.groupby("note", sort=False)]


def coefficient(value: float) -> str:
    """A coefficient with its sign; empty where there is none."""
    return "" if pd.isna(value) else f"{value:+.3f}"


def probability(p: float) -> str:
    """A p-value; empty where nothing was tested."""
    return "" if pd.isna(p) else p_value(p)


def _couple(one: Mapping[Any, Any]) -> str:
    return f"{label(one['first'])} × {label(one['second'])}"
