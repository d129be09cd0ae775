"""Which settings, and which parts of the loss, mattered, as far as a search can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.importance import Fanova, Importance
from harness.pages.document import Block, Figure, Heading, Refusal, Section, Table, Text, row
from harness.pages.words import count, listed
from harness.searched.findings import Findings, Importances
from harness.searched.words import interval, kind_of, score, setting
from harness.table import label, measured, metric_name

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
    blocks: list[Block] = [
        Text(
            "**Importance** is a share from 0 to 1 with a 95 % interval from a bootstrap over trials. **Chance** is "
            "what 95 % of studies with shuffled scores stay below: less than that is no evidence. **Rank kept**: share "
            "of bootstraps with the same rank; **comes first**: share in which it is the largest."
        )
    ]
    if len(found.table.objectives) > 1:
        told = f"Importance is that of validation {metric_name(found.metric)} alone, not of the other objectives."
        blocks.append(Text(told))
    if found.outcomes.get("infeasible"):
        told = "Settings that miss a constraint were not measured: importance is about those that meet it."
        blocks.append(Text(told))
    caption = "Importance of every searched setting with 95 % intervals"
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
        ]
    blocks += [
        *_trace(found),
        *_cautions(trials[~trials["probe"]], found.importance),
        *_tables(found.importance, found.pairs, ""),
        Figure("importance", caption + ", from the trace" * bool(found.probed) + "."),
    ]
    return Section("Which settings mattered", tuple(blocks))


def _told(one: Mapping[Any, Any]) -> str:
    if pd.isna(one["importance"]):
        return f"not shown: {one['note']}"
    beyond = "above chance" if one["importance"] > one["chance"] else "within the reach of chance"
    return interval(one, "importance") + f", {beyond}" + ("" if one["trusted"] else ", not to be trusted")


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
        f"left early are hardly covered, and importance read off such trials often has the wrong order. {where}"
    )
    return (Text(told),)


def _cautions(trials: pd.DataFrame, tables: Importances) -> list[Block]:
    """What makes these trials say less than their tables look like: too few, or a part of them stopped or open."""
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
    caption = f"{n} completed trials, {how.bootstraps} bootstraps, {how.shuffles} shuffles."
    return [heading, Table(f"importance_{how.kind}{suffix}", caption, header, rows, table)]


def _shares(one: Mapping[Any, Any]) -> tuple[str, ...]:
    """Importance, chance, rank, how often it was kept, how often it was the first."""
    return (
        interval(one, "importance") if not pd.isna(one["importance"]) else "not shown",
        "" if pd.isna(one["chance"]) else score(one["chance"]),
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
        caption = (
            f"{how.bootstraps} bootstraps, {how.shuffles} shuffles. Chance is the larger of two: shuffled scores, and "
            "separate effects of the settings with the remainder shuffled, which a forest takes for joint ones now and "
            "then. A share within its reach is no evidence, and neither is it evidence that there is no joint effect: "
            "40 trials show large ones only. PED-ANOVA is not defined for pairs."
        ) + f" The {rest} smaller ones are in `pairs{suffix}.csv`." * (rest > 0)
        header = ("settings", "importance", "chance", "rank", "rank kept", "comes first", "trials", "remark")
        rows = tuple(
            row(_couple(one), *_shares(one), str(one["n"]), one["note"])
            for one in told.head(PAIRS_SHOWN).to_dict("records")
        )
        blocks.append(Table(f"pairs{suffix}", caption, header, rows, table))
    for why, rows_of in table[table["importance"].isna()].groupby("note", sort=False):
        blocks.append(Refusal(f"{listed(map(_couple, rows_of.to_dict('records')))}: {why}."))
    return blocks


def _couple(one: Mapping[Any, Any]) -> str:
    return f"{label(one['first'])} × {label(one['second'])}"
