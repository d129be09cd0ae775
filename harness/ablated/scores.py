"""The scores themselves: arms by test sets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from harness.ablated import words
from harness.ablated.answers import Answers, untrained
from harness.inference.means import ArmMean
from harness.pages.document import Block, Cell, Figure, Refusal, Section, Table, Text
from harness.pages.words import count, listed
from harness.table import metric_name

OVERALL = "all, equal weights"


def scores(found: Answers) -> Section:
    """The ablation table: a row an arm, a column a test set."""
    title = "Ablation table"
    if not found.means:
        return Section(title, (Refusal("no trial has scores on a set that judges."),))
    blocks: list[Block] = [_table(found)]
    apart = [best for best in found.best if best.apart]
    if not apart:
        blocks.insert(
            0, Text("No arm is in bold: nowhere does the difference between the best arm and all others hold up.")
        )
    return Section(title, tuple(blocks))


def best(found: Answers) -> str:
    """Which arm to take, whether it is shown to beat the others, and which arms training has harmed; empty without
    scores."""
    overall = {mean.arm: mean for mean in found.means if mean.target is None and not math.isnan(mean.mean)}
    top = next((one for one in found.best if one.target is None), None)
    if top is None:
        return ""
    held = "which is shown to beat every other arm" if top.apart else f"not shown to beat {top.runner_up} and the rest"
    told = f"The highest mean has the arm **{top.arm}**, {_cell(overall[top.arm])}, {held}."
    empty = untrained(found.ablation)
    if empty not in overall:
        return told
    worse = [arm for arm, mean in overall.items() if mean.mean < overall[empty].mean]
    harmed = f"; on average below it: {listed(worse)}" if worse else ""
    return f"{told} The model without any training has {_cell(overall[empty])}{harmed}."


def _table(found: Answers) -> Table:
    columns = [None, *(target.name for target in found.cells.targets)]
    bold = {(best.arm, best.target) for best in found.best if best.apart}
    cells = {(mean.arm, mean.target): mean for mean in found.means}
    rows = tuple(
        (Cell(arm), *(Cell(_cell(cells[arm, name]), bold=(arm, name) in bold) for name in columns),
         Cell(_replicates([cells[arm, name] for name in columns])))
        for arm in found.cells.arms
    )  # fmt: skip
    header = ("arm", OVERALL, *(f"{t.name} (n = {_size(found, t.name)})" for t in found.cells.targets), "replicates")
    caption = (
        f"Mean {metric_name(found.ablation.primary)} with its 95 % interval over replicates and patients. Bold: the "
        "best arm, where its paired difference to every other arm holds at 5 %, corrected for their number and for "
        "having been chosen by the data. Overlap of these intervals says nothing about a difference: arms are paired."
    )
    return Table("scores", caption, header, rows, pd.DataFrame(map(asdict, found.means)))


def _cell(mean: ArmMean) -> str:
    return words.NONE if math.isnan(mean.mean) else words.scored(mean.mean, mean.low, mean.high)


def _size(found: Answers, name: str) -> str:
    own = [mean for mean in found.means if mean.target == name]
    images, patients = max(mean.images for mean in own), max(mean.patients for mean in own)
    return f"{count(images, 'image')}, {count(patients, 'patient')}"


def _replicates(means: Sequence[ArmMean]) -> str:
    fewest = min(mean.replicates for mean in means)
    return words.share(fewest, means[0].declared)


def transfer(found: Answers) -> Section:
    """What was trained on against what was tested on."""
    title = "From sources to targets"
    made = transfer_rows(found)
    if not made:
        return Section(title, (Refusal("no trial has scores on a test set."),))
    sets = all_sets(found)
    header = ("arm", "trained on", *(f"{name} ({what})" for name, what in sets))
    rows = tuple(
        (Cell(arm), Cell(_trained_on(found, arm)), *(Cell(_sized(cells.get(name))) for name, _ in sets))
        for arm, cells in made.items()
    )
    caption = (
        f"Mean {metric_name(found.ablation.primary)} with its 95 % interval and n (replicates x images), on the test "
        "parts of the sources (same hospitals, other patients) and on unseen targets."
    )
    flat = pd.DataFrame(
        [{"trained_on": _trained_on(found, arm), **asdict(c)} for arm in made for c in made[arm].values()]
    )
    picture = "The same as a map, without intervals; an arm that is not trained is left out of it."
    return Section(title, (Figure("transfer", picture), Table("transfer", caption, header, rows, flat)))


def transfer_rows(found: Answers) -> dict[str, dict[str, ArmMean]]:
    """By arm: the means by test set."""
    own: dict[str, dict[str, ArmMean]] = {}
    for mean in (*found.sources, *found.means):
        if mean.target is not None and not math.isnan(mean.mean):
            own.setdefault(mean.arm, {})[mean.target] = mean
    return own


def _trained_on(found: Answers, arm: str) -> str:
    if not any(path.startswith("protocol") for own in found.ablation.differences.values() for path in own):
        return " + ".join(found.table.question.get("sources") or ("the sources",))
    trials = found.table.trials
    configs = trials.loc[(trials["param/arm"] == arm) & trials["config"].notna(), "config"]
    if configs.empty:
        return "unknown"
    sources = json.loads(str(configs.iloc[0])).get("protocol", {}).get("sources", [])
    return " + ".join(str(source.get("hospital", source.get("kind"))) for source in sources) or "unknown"


def all_sets(found: Answers) -> list[tuple[str, str]]:
    """Every test set that has scores, sources first, and what it is."""
    sources = [(target.name, "test part of a source") for target in found.measured.sources.targets]
    own = [(target.name, "unseen") for target in found.cells.targets if found.measured.unseen]
    return [*sources, *own]


def _sized(mean: ArmMean | None) -> str:
    if mean is None:
        return "not tested"
    return f"{words.scored(mean.mean, mean.low, mean.high)}, n = {mean.replicates} x {mean.images}"


def by_rank(found: Answers) -> list[Section]:
    """Rank by data set, as the SAM2LoRA paper lays it out; no section where the rank is not what the arms differ in."""
    ranks = {arm: rank_of(found, arm) for arm in found.cells.arms}
    known = [rank for rank in ranks.values() if rank is not None]
    if len(known) < len(ranks) or len(set(known)) < len(ranks) or not found.means:
        return []
    sets = all_sets(found)
    means = {(mean.arm, mean.target): mean for mean in (*found.sources, *found.means) if mean.target}
    rows, flat = [], []
    for arm, rank in sorted(ranks.items(), key=lambda item: item[1] or 0):
        own = [means.get((arm, name)) for name, _ in sets]
        rows.append((Cell(str(rank)), *(Cell(_sized(mean)) for mean in own)))
        flat += [{"rank": rank, **asdict(mean)} for mean in own if mean is not None]
    frame = pd.DataFrame(flat)
    best = frame.iloc[int(frame["mean"].to_numpy().argmax())]
    caption = (
        f"Mean test {metric_name(found.ablation.primary)} by rank (rows) and data set (columns). The highest cell, "
        f"{best['mean']:.3f} (rank {best['rank']} on {best['target']}), is the best of {len(frame)} and too high by "
        f"selection; the mean of all cells is {frame['mean'].mean():.3f}, the lowest {frame['mean'].min():.3f}. "
        "n: replicates x images."
    )
    header = ("rank", *(f"{name} ({what})" for name, what in sets))
    return [Section("Rank by data set", (Table("ranks_by_set", caption, header, tuple(rows), frame),))]


def rank_of(found: Answers, arm: str) -> int | None:
    """The adapter's rank in an arm; None where no arm's rank differs from the base, or the arm's adapter has none."""
    differences = found.ablation.differences
    if not any("adapter.rank" in own for own in differences.values()):
        return None
    rank = differences[arm].get("adapter.rank", (found.ablation.base.get("adapter") or {}).get("rank"))
    return int(rank) if isinstance(rank, int) else None
