"""The scores themselves: arms by test sets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from harness.record.table import metric_name, metrics_like, twins
from harness.reports.ablation import format
from harness.reports.ablation.findings import Answers, untrained
from harness.reports.document import Block, Cell, Figure, Refusal, Section, Table, Text
from harness.stats.arm_means import ArmMean
from harness.stats.ranks import Rank
from harness.stats.refusal import Refused
from harness.text import count, listed

OVERALL = "all, equal weights"


def scores(found: Answers) -> Section:
    """The ablation table: a row an arm, a column a test set."""
    title = "Ablation table"
    if not found.means:
        return Section(title, (Refusal("no trial has scores on a set that judges."),))
    alone = [Text(f"No interval: {why}.") for why in dict.fromkeys(one.why for one in found.means if one.why)]
    if isinstance(found.ranks, Refused):
        return Section(title, (Refusal(f"Ranks. {found.ranks}"), _table(found, {}), *alone))
    ranked = {one.arm: one for one in found.ranks}
    blocks: list[Block] = [_table(found, ranked), *alone, _ELSEWHERE]
    if not any(one.worst == 1 for one in found.ranks):
        blocks.insert(0, Text("No arm is in bold: none is shown to score higher than every other one."))
    return Section(title, tuple(blocks))


_ELSEWHERE = Refusal(
    "Tests of ranks over data sets (Friedman, Wilcoxon, critical differences). They take data sets for independent, "
    "but all of these judged the same trained models: the report speaks of these sets, not of others."
)


def _twins(found: Answers) -> str:
    """That the primary metric is another one's number, where it is."""
    primary, images = found.ablation.primary, found.table.images
    known = [name for name in ("dataset", primary, *metrics_like(primary)) if name in images]
    return twins(images.loc[images["role"] != "val", known]) if "dataset" in images else ""


def best(found: Answers) -> str:
    """Which arm scores highest, whether it is shown to beat the others, and which arms score below the untrained
    model; empty without scores."""
    top = found.highest
    if top is None:
        return ""
    selected = "too high by selection, " if sum(map(_overall, found.means)) > 1 else ""
    told = (
        f"The arm **{top.arm}** has the highest mean, {selected}{_cell(top)} ({_count(top)}), {_held(found, top.arm)}."
    )
    overall = {mean.arm: mean for mean in found.means if _overall(mean)}
    empty = untrained(found.ablation)
    if empty not in overall:
        return told
    worse = [arm for arm, mean in overall.items() if mean.mean < overall[empty].mean]
    harmed = f"; below it by their means, which is no test: {listed(worse)}" if worse else ""
    without = overall[empty]
    return f"{told} The model without any training has {_cell(without)} ({_count(without)}){harmed}."


def _overall(mean: ArmMean) -> bool:
    return mean.target is None and not math.isnan(mean.mean)


def _held(found: Answers, arm: str) -> str:
    """Whether ``arm`` is shown to beat the others."""
    if isinstance(found.ranks, Refused):
        return "of which no rank can be given"
    own = next(one for one in found.ranks if one.arm == arm)
    if own.worst == 1:
        return f"which is shown to beat every other of {_ranked(found)}"
    return (
        f"not shown to beat the others: of {_ranked(found)} it may be any from the {_nth(own.best)} to the "
        f"{_nth(own.worst)}"
    )


def _ranked(found: Answers) -> str:
    """The arms that are ranked, in words."""
    assert not isinstance(found.ranks, Refused)
    train = "" if untrained(found.ablation) is None else " that train"
    return f"the {count(len(found.ranks), 'arm')}{train}"


def _count(mean: ArmMean) -> str:
    return f"{count(mean.replicates, 'replicate')} x {count(mean.images, 'image')}"


def _nth(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def _table(found: Answers, ranked: Mapping[str, Rank]) -> Table:
    columns = [None, *(target.name for target in found.cells.targets)]
    cells = {(mean.arm, mean.target): mean for mean in found.means}
    bold = {arm for arm, one in ranked.items() if one.worst == 1}
    rows = tuple(
        (Cell(arm), *(Cell(_cell(cells[arm, name]), bold=arm in bold and name is None) for name in columns),
         Cell(format.rank(ranked.get(arm))), Cell(_replicates([cells[arm, name] for name in columns])))
        for arm in found.cells.arms
    )  # fmt: skip
    header = (
        "arm", OVERALL, *(f"{t.name} (n = {_size(found, t.name)})" for t in found.cells.targets), "rank [95 %]",
        "replicates",
    )  # fmt: skip
    caption = (
        f"Mean {metric_name(found.ablation.primary)} with its 95 % interval over replicates and patients. Overlap of "
        f"these intervals says nothing about a difference: arms are paired.{_ranking(found)}{_twins(found)}"
    )
    frame = pd.DataFrame([asdict(mean) for mean in found.means])
    overall = frame["target"].isna()
    for name in ("place", "best", "worst"):
        frame[f"rank_{name}"] = (
            frame["arm"].map({arm: getattr(one, name) for arm, one in ranked.items()}).where(overall)
        )
    return Table("scores", caption, header, rows, frame)


def _ranking(found: Answers) -> str:
    if isinstance(found.ranks, Refused):
        return ""
    fewest = min(one.replicates for one in found.ranks)
    return (
        f" Ranks, of {_ranked(found)}, are one more than the arms that score higher over all sets on the replicates of "
        "both; the interval has those "
        "that the paired differences of all two arms, over replicates and patients, leave open, all of them together "
        f"with 95 % (each pair over {count(fewest, 'replicate')} or more). Bold: no rank but the first is open."
    )


def _cell(mean: ArmMean) -> str:
    return format.NONE if math.isnan(mean.mean) else format.scored(mean.mean, mean.low, mean.high)


def _size(found: Answers, name: str) -> str:
    own = [mean for mean in found.means if mean.target == name]
    images, patients = max(mean.images for mean in own), max(mean.patients for mean in own)
    return f"{count(images, 'image')}, {count(patients, 'patient')}"


def _replicates(means: Sequence[ArmMean]) -> str:
    fewest = min(mean.replicates for mean in means)
    return format.share(fewest, means[0].declared)


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
    if arm == untrained(found.ablation):
        return "nothing"
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
        return "no score"
    return f"{format.scored(mean.mean, mean.low, mean.high)}, n = {mean.replicates} x {mean.images}"


def by_rank(found: Answers) -> list[Section]:
    """Rank by data set, as the SAM2LoRA paper lays it out; no section where the rank is not what the arms differ in."""
    ranks = {arm: rank_of(found, arm) for arm in found.cells.arms}
    known = [rank for rank in ranks.values() if rank is not None]
    if len(known) < len(ranks) or len(set(known)) < len(ranks) or not transfer_rows(found):
        return []
    sets = all_sets(found)
    means = {(arm, name): mean for arm, own in transfer_rows(found).items() for name, mean in own.items()}
    rows, flat = [], []
    for arm, rank in sorted(ranks.items(), key=lambda item: item[1] or 0):
        own = [means.get((arm, name)) for name, _ in sets]
        rows.append((Cell(str(rank)), *(Cell(_sized(mean)) for mean in own)))
        flat += [{"rank": rank, **asdict(mean)} for mean in own if mean is not None]
    frame = pd.DataFrame(flat)
    best = frame.iloc[int(frame["mean"].to_numpy().argmax())]
    caption = (
        f"Mean test {metric_name(found.ablation.primary)} with its 95 % interval by rank (rows) and data set "
        f"(columns). The highest cell, {best['mean']:.3f} (rank {best['rank']} on {best['target']}), is the best of "
        f"{len(frame)} and too high by selection; the mean of all cells is {frame['mean'].mean():.3f}, the lowest "
        f"{frame['mean'].min():.3f}. n: replicates x images."
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
