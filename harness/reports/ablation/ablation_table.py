"""The ablation table: the score of every arm on every test set, its rank, and which arm is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from harness.record.metric_names import metric_name, metrics_like, twins
from harness.reports.ablation import format
from harness.reports.ablation.design import untrained
from harness.reports.ablation.findings import Findings
from harness.reports.document import Block, Cell, Columns, Refusal, Section, Table, Text, table
from harness.stats.arm_means import ArmMean
from harness.stats.ranks import Rank
from harness.stats.refusal import Refused
from harness.text import count, listed


def scores(findings: Findings) -> Section:
    """The ablation table: a row an arm, a column a test set."""
    title = "Ablation table"
    if not findings.means:
        return Section(title, (Refusal("no trial has test scores."),))
    alone = [Text(f"No interval: {why}.") for why in dict.fromkeys(one.why for one in findings.means if one.why)]
    if isinstance(findings.ranks, Refused):
        return Section(title, (Refusal(f"Ranks. {findings.ranks}"), _table(findings, {}), *alone))
    ranked = {one.arm: one for one in findings.ranks}
    blocks: list[Block] = [_table(findings, ranked), *alone, _ELSEWHERE]
    if not any(one.worst == 1 for one in findings.ranks):
        blocks.insert(0, Text("No arm is in bold: none is shown to score higher than every other."))
    return Section(title, tuple(blocks))


_ELSEWHERE = Refusal(
    "tests of ranks over data sets (Friedman, Wilcoxon, critical differences). They assume independent data sets, but "
    "all of these tested the same trained models: this report is about these data sets, not about others."
)


def _twins(findings: Findings) -> str:
    """That the primary metric is another one's number, where it is."""
    primary, images = findings.ablation.primary, findings.table.images
    known = [name for name in ("dataset", primary, *metrics_like(primary)) if name in images]
    return twins(images.loc[images["role"] != "val", known]) if "dataset" in images else ""


def best(findings: Findings) -> str:
    """Which arm scores highest, whether it is shown to beat the others, and which arms score below the untrained
    model; empty without scores."""
    top = findings.highest
    if top is None:
        return ""
    selected = "; too high by selection" if sum(map(_overall, findings.means)) > 1 else ""
    text = (
        f"**{top.arm}** has the highest mean, {format.mean(top)} ({_count(top)}{selected}). {_held(findings, top.arm)}"
    )
    overall = {mean.arm: mean for mean in findings.means if _overall(mean)}
    empty = untrained(findings.ablation)
    if empty not in overall:
        return text
    without = overall[empty]
    worse = [arm for arm, mean in overall.items() if mean.mean < without.mean]
    harmed = f"; the means of {listed(worse)} are lower, which is no test" if worse else ""
    return f"{text} The untrained model has {format.mean(without)} ({_count(without)}){harmed}."


def _overall(mean: ArmMean) -> bool:
    return mean.target is None and not math.isnan(mean.mean)


def _held(findings: Findings, arm: str) -> str:
    """Whether ``arm`` is shown to beat the others."""
    if isinstance(findings.ranks, Refused):
        return "No rank can be given."
    rank = next(rank for rank in findings.ranks if rank.arm == arm)
    if rank.worst == 1:
        return f"It is shown to beat every other of {_ranked(findings)}."
    return (
        f"It is not shown to beat the others: among {_ranked(findings)} it may have any rank from the "
        f"{_nth(rank.best)} to the {_nth(rank.worst)}."
    )


def _ranked(findings: Findings) -> str:
    """The arms that are ranked, in words."""
    assert not isinstance(findings.ranks, Refused)
    kind = "arm" if untrained(findings.ablation) is None else "trained arm"
    return f"the {count(len(findings.ranks), kind)}"


def _count(mean: ArmMean) -> str:
    return f"{count(mean.replicates, 'replicate')} x {count(mean.images, 'image')}"


def _nth(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def _table(findings: Findings, ranked: Mapping[str, Rank]) -> Table:
    means = {(mean.arm, mean.target): mean for mean in findings.means}
    best = {arm for arm, one in ranked.items() if one.worst == 1}

    def on(target: str | None) -> Callable[[str], Cell]:
        return lambda arm: Cell(format.mean(means[arm, target]), bold=arm in best and target is None)

    columns: Columns[str] = {
        "arm": str,
        "all, equal weights": on(None),
        **{f"{one.name} (n = {_size(findings, one.name)})": on(one.name) for one in findings.cells.targets},
        "rank [95 %]": lambda arm: format.rank(ranked.get(arm)),
        "replicates": lambda arm: _replicates([mean for mean in findings.means if mean.arm == arm]),
    }
    caption = (
        f"Mean {metric_name(findings.ablation.primary)} with its 95 % interval over replicates and patients. Whether "
        "these intervals overlap says nothing about a difference, since arms are "
        f"paired.{_ranking(findings)}{_twins(findings)}"
    )
    frame = pd.DataFrame([asdict(mean) for mean in findings.means])
    overall = frame["target"].isna()
    for name in ("place", "best", "worst"):
        places = {arm: getattr(one, name) for arm, one in ranked.items()}
        frame[f"rank_{name}"] = frame["arm"].map(places).where(overall)
    return table("scores", caption, findings.cells.arms, columns, frame)


def _ranking(findings: Findings) -> str:
    if isinstance(findings.ranks, Refused):
        return ""
    fewest = min(one.replicates for one in findings.ranks)
    return (
        f" The rank of an arm among {_ranked(findings)} is one more than the number of arms that score higher over all "
        "sets on the replicates of both; its interval holds the ranks that the paired differences between arms, over "
        "replicates and patients, leave open, with 95 % confidence for all arms together (each pair over "
        f"{count(fewest, 'replicate')} or more). Bold: only the first rank is open."
    )


def _size(findings: Findings, name: str) -> str:
    own = [mean for mean in findings.means if mean.target == name]
    images, patients = max(mean.images for mean in own), max(mean.patients for mean in own)
    return f"{count(images, 'image')}, {count(patients, 'patient')}"


def _replicates(means: Sequence[ArmMean]) -> str:
    fewest = min(mean.replicates for mean in means)
    return format.share(fewest, means[0].declared)
