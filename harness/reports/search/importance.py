"""Which settings, and which parts of the loss, mattered, as far as a search can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.importance import Fanova, Importance
from harness.record.table import label, measured, metric_name
from harness.reports.document import Block, Figure, Heading, Refusal, Section, Table, Text, row
from harness.reports.search.findings import Findings, Importances
from harness.reports.search.format import kind_of, score, setting, spread
from harness.text import count, listed

PER_SETTING = 12
"""Completed trials for each setting below which an order of importance is more often wrong than right."""
PAIRS_SHOWN = 10


def losses(found: Findings) -> tuple[Section, ...]:
    """The weights of the loss components in the best trials and what they explain; no section if none was searched."""
    weights = [name for name in found.table.distributions if name.startswith("weight/")]
    if not weights or found.best.empty:
        return ()
    tables = [(how, table.set_index("parameter")) for how, table in found.probed or found.importance]
    top, done = found.best.iloc[0], measured(found.table.trials)
    figures = {
        name: {"best": float(top[name]), "mean_of_best": found.best[name].mean(), "mean_of_all": done[name].mean()}
        for name in weights
    }
    header = ["component", "weight in the best", f"mean in the best {len(found.best)}", f"mean in all {len(done)}"]
    header += [f"{how.title} importance{' (probe)' * bool(found.probed)}" for how, _ in tables]
    rows = tuple(
        row(
            name.removeprefix("weight/"),
            *map(setting, figures[name].values()),
            *(_told(table.loc[name].to_dict()) for _, table in tables),
        )
        for name in weights
    )
    told = (
        f"From {len(done)} completed trials. The weights add up to one, so a weight can only rise if another falls: "
        "the importance of one holds what was given up for it. Importance has no sign; the figure shows the direction."
    )
    frame = pd.DataFrame.from_dict(figures, orient="index").rename_axis("weight").reset_index()
    table = Table("loss_weights", "Weights and importance of every component.", tuple(header), rows, frame)
    figure = Figure("simplex", f"Loss weights and score: {len(done)} completed trials filled, stopped ones hollow.")
    return (Section("Which parts of the loss mattered", (Text(told), table, figure)),)


def importance(found: Findings) -> Section:
    """Importance of settings and of their pairs, from the probe and from the sampler's trials, never mixed."""
    blocks: list[Block] = []
    if shown(found.probed) or shown(found.importance):
        told = (
            "**Importance** is a share from 0 to 1; in brackets the middle 95 % of what refits on bootstraps of the "
            "trials give, which shows how steady the figure is and is no confidence interval. A setting above its "
            "level of **chance** stands out: in 95 % of studies no setting without effect does. Levels are found in "
            "steps, so that a setting beside a strong one is measured against what the strong one leaves over. **Rank "
            "kept**: share of bootstraps with the same rank; **comes first**: share in which it is the largest."
        )
        blocks.append(Text(told))
    if len(found.table.objectives) > 1:
        told = f"Importance is that of validation {metric_name(found.metric)} alone, not of the other objectives."
        blocks.append(Text(told))
    if found.outcomes.get("infeasible"):
        told = "Settings that miss a constraint were not measured: importance is about those that meet it."
        blocks.append(Text(told))
    caption = "Importance of every searched setting, with its spread over refits"
    trials = found.table.trials
    if found.probed:
        blocks += [
            Text(
                "**From the probe.** Its trials cover the space evenly, were proposed without regard to scores and "
                "were stopped by no scheduler. The sampler never saw them, and none of its own trials is among them."
            ),
            *_cautions(trials[trials["probe"]], found.probed),
            *_tables(found.probed, found.probed_pairs, "_probe"),
            Figure("importance_probe", f"{caption}, from the probe."),
            *_regression(found),
        ]
    blocks += [
        *_trace(found),
        *_cautions(trials[~trials["probe"]], found.importance),
        *_tables(found.importance, found.pairs, ""),
        Figure("importance", caption + ", from the trace" * bool(found.probed) + "."),
        *([] if found.probed else _regression(found)),
    ]
    return Section("Which settings mattered", tuple(blocks))


def shown(tables: Importances) -> bool:
    """Whether any setting has a figure."""
    return any(table["importance"].notna().any() for _, table in tables)


def _told(one: Mapping[Any, Any]) -> str:
    if pd.isna(one["importance"]):
        return f"not shown: {one['note']}"
    if pd.isna(one["chance"]):
        return f"{spread(one)}, no chance level"
    return spread(one) + (", above chance" if one["importance"] > one["chance"] else ", within the reach of chance")


def _trace(found: Findings) -> tuple[Block, ...]:
    """What must not be made of the trials that an optimiser chose; nothing if they were spread evenly."""
    if found.probe:
        return (Text("**From the sampler's own trials.**"),) if found.probed else ()
    sampler = kind_of(found.table.question.get("sampler", "unknown"))
    where = (
        "Believe the probe where the two differ."
        if found.probed
        else "For an answer that holds, add a probe (`--probe 60`), search with the random or quasi-random sampler, or "
        "run a designed ablation."
    )
    told = (
        f"**A trace is not a probe.** The sampler `{sampler}` looked at scores while it chose, so settings that it "
        f"left early are hardly covered, and importance read off such trials often has the wrong order. **No chance "
        f"level holds for them, so no setting can be said to stand out there.** {where}"
    )
    return (Text(told),)


def _cautions(trials: pd.DataFrame, tables: Importances) -> list[Block]:
    """What makes these trials say less than their tables look like: too few, or a part of them stopped or open."""
    if not shown(tables):
        return []
    n, own = len(measured(trials)), trials["reused_from"].isna()
    settings = max((len(table) for _, table in tables), default=0)
    stopped = int((own & (trials["outcome"] == "stopped")).sum())
    still = int(trials["outcome"].isin(["running", "waiting"]).sum())
    told = []
    if n < PER_SETTING * settings:
        told.append(
            f"{count(n, 'completed trial')} for {count(settings, 'setting')}: too few for an order to be relied upon "
            f"({PER_SETTING * settings} is where it begins to be)."
        )
    if stopped:
        told.append(
            f"The scheduler stopped {count(stopped, 'trial')} early. They have no final score and are not here, so "
            "what made a trial bad early looks less important than it is."
        )
    if still:
        told.append(f"{count(still, 'trial')} still open: the study was not at its end.")
    return [Text(f"**Caution.** {line}") for line in told]


def _tables(tables: Importances, joint: pd.DataFrame, suffix: str) -> list[Block]:
    blocks = [block for how, table in tables for block in _evaluator(how, table, suffix)]
    return blocks + _pairs(tables, joint, suffix)


def _evaluator(how: Importance, table: pd.DataFrame, suffix: str) -> list[Block]:
    heading = Heading(f"{how.title}, {how.question}")
    if table.empty:
        return [heading, Refusal("no setting was searched.")]
    if table["importance"].isna().all():
        return [heading, Refusal(f"{table['note'].iloc[0]}.")]
    header = ("setting", "importance", "chance", "rank", "rank kept", "comes first", "remark")
    rows = tuple(row(label(one["parameter"]), *_shares(one), one["note"]) for one in table.to_dict("records"))
    n = int(table["n"].max())
    told = "no chance level: a sampler chose them" if table["chance"].isna().all() else f"{how.shuffles} shuffles"
    caption = f"{n} completed trials, {how.bootstraps} bootstraps, {told}."
    return [heading, Table(f"importance_{how.kind}{suffix}", caption, header, rows, table)]


def _shares(one: Mapping[Any, Any]) -> tuple[str, ...]:
    """Importance, chance, rank, how often it was kept, how often it was the first."""
    return (
        spread(one) if not pd.isna(one["importance"]) else "not shown",
        reach_of(one),
        "" if pd.isna(one["rank"]) or pd.isna(one["keeps_rank"]) else str(int(one["rank"])),
        "" if pd.isna(one["keeps_rank"]) else f"{100 * one['keeps_rank']:.0f} %",
        "" if pd.isna(one["is_first"]) else f"{100 * one['is_first']:.0f} %",
    )


def _pairs(asked: Importances, table: pd.DataFrame, suffix: str) -> list[Block]:
    """What pairs explain beyond their settings: the `PAIRS_SHOWN` largest, and why others have no figure."""
    forests = [how for how, _ in asked if isinstance(how, Fanova)]
    if table.empty or not forests:
        return []
    how = forests[0]
    told = table[table["importance"].notna()]
    blocks: list[Block] = [
        Heading(f"Pairs, {how.title}: what share do two settings explain beyond what each explains alone?")
    ]
    if len(told):
        rest = len(told) - PAIRS_SHOWN
        reach = (
            "There is no chance level: a sampler chose these trials. "
            if told["chance"].isna().all()
            else "Chance, of the largest of all pairs, is the larger of two: shuffled scores, and separate effects of "
            "the settings with the remainder shuffled, which a forest takes for joint ones now and then. A share in "
            "its reach is no evidence, and none either that there is no joint effect: 40 trials show large ones only. "
        )
        caption = f"{how.bootstraps} bootstraps. {reach}PED-ANOVA is not defined for pairs."
        caption += f" The {rest} smaller ones are in `pairs{suffix}.csv`." * (rest > 0)
        header = ("settings", "importance", "chance", "rank", "rank kept", "comes first", "trials", "remark")
        rows = tuple(
            row(_couple(one), *_shares(one), str(one["n"]), one["note"])
            for one in told.head(PAIRS_SHOWN).to_dict("records")
        )
        blocks.append(Table(f"pairs{suffix}", caption, header, rows, table))
    for why, rows_of in table[table["importance"].isna()].groupby("note", sort=False):
        blocks.append(Refusal(f"{listed(map(_couple, rows_of.to_dict('records')))}: {why}."))
    return blocks


def reach_of(one: Mapping[Any, Any]) -> str:
    """The level of chance of a setting; empty without one, and where there are too few shuffles for it."""
    return score(one["chance"]) if pd.notna(one["chance"]) and one["chance"] != float("inf") else ""


def _regression(found: Findings) -> list[Block]:
    """What least squares says of every setting, beside the trees."""
    table = found.regression
    if table.empty:
        return []
    if refusals := regression_refused(table):
        return [Heading("Beside the trees: a regression"), *map(Refusal, refusals)]
    n, probe = int(table["n"].max()), bool(found.probed)
    told = (
        f"**Beside the trees: a regression** on the same {count(n, 'trial')}{' of the probe' * probe}. It knows slopes "
        "and hills alone, and finds smaller ones than a forest does. **p (Holm)** is adjusted for the number of "
        "settings: below 0.05 the setting matters, with a risk of 5 % that any without effect is called so. The effect "
        "of a loss weight is of giving it room at the cost of the others."
    )
    header = ("setting", "explains beyond the others", "slope", "curvature", "presence", "p", "p (Holm)", "remark")
    figures = ("explains", "slope", "curvature", "presence", "p", "holm")
    rows = tuple(
        row(label(one["parameter"]), *(_figure(one, name) for name in figures), one["note"])
        for one in table.to_dict("records")
    )
    caption = (
        f"Slope: change of validation {metric_name(found.metric)} from one end of the searched range to the other; "
        "curvature: of the square, below 0 for a hill; presence: what being there at all adds. A category has no slope."
    )
    return [Text(told), Table("regression", caption, header, rows, table)]


def regression_refused(table: pd.DataFrame) -> list[str]:
    """Why no setting has a figure, by reason; empty where one has."""
    if table[["explains", "holm"]].notna().any(axis=None):
        return []
    return [f"{listed(map(label, rows['parameter']))}: {why}." for why, rows in table.groupby("note", sort=False)]


def _figure(one: Mapping[Any, Any], name: str) -> str:
    if pd.isna(one[name]):
        return ""
    if name in ("p", "holm"):
        return "< 0.001" if one[name] < 0.001 else f"{one[name]:.3f}"
    return f"{one[name]:.3f}" if name == "explains" else f"{one[name]:+.3f}"


def _couple(one: Mapping[Any, Any]) -> str:
    return f"{label(one['first'])} × {label(one['second'])}"
