"""Scores by what an arm was trained on, and by its adapter's rank."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd

from harness.record.metric_names import metric_name
from harness.reports.ablation import format
from harness.reports.ablation.design import untrained
from harness.reports.ablation.findings import Findings
from harness.reports.document import Columns, Figure, Refusal, Section, table
from harness.reports.figures import transfer as transfer_map
from harness.stats.arm_means import ArmMean


def transfer(findings: Findings) -> Section:
    """Scores by training sources and test sets."""
    title = "From sources to targets"
    made = transfer_rows(findings)
    if not made:
        return Section(title, (Refusal("no trial has scores on a test set."),))
    columns: Columns[str] = {"arm": str, "trained on": partial(_trained_on, findings), **_by_set(findings)}
    caption = (
        f"Mean {metric_name(findings.ablation.primary)} with its 95 % interval and n (replicates x images), on the "
        "test parts of the sources (same hospitals, other patients) and on unseen targets."
    )
    flat = pd.DataFrame(
        [{"trained_on": _trained_on(findings, arm), **asdict(c)} for arm in made for c in made[arm].values()]
    )
    scores = table("transfer", caption, made, columns, flat)
    trained = [arm for arm in made if arm != untrained(findings.ablation)]
    if not trained:
        return Section(title, (scores,))
    sets = all_sets(findings)
    means = [[made[arm][name].mean if name in made[arm] else math.nan for name, _ in sets] for arm in trained]
    seen = [what != "unseen" for _, what in sets]
    metric = metric_name(findings.ablation.primary)
    draw = partial(transfer_map.draw, trained, [name for name, _ in sets], seen, np.array(means), metric)
    return Section(
        title, (Figure("transfer", "The means of the table as a map; an untrained arm is left out.", draw), scores)
    )


def _by_set(findings: Findings) -> Columns[str]:
    """A column for each test set, with the score of an arm."""
    means = transfer_rows(findings)

    def on(name: str) -> Callable[[str], str]:
        return lambda arm: _sized(means.get(arm, {}).get(name))

    return {f"{name} ({what})": on(name) for name, what in all_sets(findings)}


def transfer_rows(findings: Findings) -> dict[str, dict[str, ArmMean]]:
    """By arm: the means by test set."""
    own: dict[str, dict[str, ArmMean]] = {}
    for mean in (*findings.sources, *findings.means):
        if mean.target is not None and not math.isnan(mean.mean):
            own.setdefault(mean.arm, {})[mean.target] = mean
    return own


def _trained_on(findings: Findings, arm: str) -> str:
    if arm == untrained(findings.ablation):
        return "nothing"
    if not any(path.startswith("protocol") for own in findings.ablation.differences.values() for path in own):
        return " + ".join(findings.table.question.get("sources") or ("the sources",))
    trials = findings.table.trials
    configs = trials.loc[(trials["param/arm"] == arm) & trials["config"].notna(), "config"]
    if configs.empty:
        return "unknown"
    sources = json.loads(str(configs.iloc[0])).get("protocol", {}).get("sources", [])
    return " + ".join(str(source.get("hospital", source.get("kind"))) for source in sources) or "unknown"


def all_sets(findings: Findings) -> list[tuple[str, str]]:
    """Every test set that has scores, sources first, and what it is."""
    sources = [(target.name, "test part of a source") for target in findings.scores.sources.targets]
    own = [(target.name, "unseen") for target in findings.cells.targets if findings.scores.unseen]
    return [*sources, *own]


def _sized(mean: ArmMean | None) -> str:
    if mean is None:
        return "no score"
    return f"{format.mean(mean)}, n = {mean.replicates} x {mean.images}"


def by_rank(findings: Findings) -> list[Section]:
    """Rank by data set, as the SAM2LoRA paper lays it out; no section where the rank is not what the arms differ in."""
    ranks = {arm: rank_of(findings, arm) for arm in findings.cells.arms}
    known = [rank for rank in ranks.values() if rank is not None]
    if len(known) < len(ranks) or len(set(known)) < len(ranks) or not transfer_rows(findings):
        return []
    arms = sorted(ranks, key=lambda arm: ranks[arm] or 0)
    means = transfer_rows(findings)
    ordered = [(arm, means.get(arm, {}).get(name)) for arm in arms for name, _ in all_sets(findings)]
    frame = pd.DataFrame([{"rank": ranks[arm], **asdict(mean)} for arm, mean in ordered if mean is not None])
    best = frame.iloc[int(frame["mean"].to_numpy().argmax())]
    caption = (
        f"Mean test {metric_name(findings.ablation.primary)} with its 95 % interval by rank (rows) and data set "
        f"(columns). The highest cell, {best['mean']:.3f} (rank {best['rank']} on {best['target']}), is the best of "
        f"{len(frame)} and too high by selection; the mean of all cells is {frame['mean'].mean():.3f}, the lowest "
        f"{frame['mean'].min():.3f}. n: replicates x images."
    )
    columns: Columns[str] = {"rank": lambda arm: str(ranks[arm]), **_by_set(findings)}
    return [Section("Rank by data set", (table("ranks_by_set", caption, arms, columns, frame),))]


def rank_of(findings: Findings, arm: str) -> int | None:
    """The adapter's rank in an arm; None where no arm's rank differs from the base, or the arm's adapter has none."""
    differences = findings.ablation.differences
    base = findings.ablation.base
    path, adapter = "adapters.0.rank", next(iter(base.get("adapters", ())), base)
    if "adapter" in base:  # a study of before there could be several
        path, adapter = "adapter.rank", base["adapter"]
    if not any(path in own for own in differences.values()):
        return None
    rank = differences[arm].get(path, adapter.get("rank"))
    return int(rank) if isinstance(rank, int) else None
