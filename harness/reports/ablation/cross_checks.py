"""The same question asked in other ways: side by side, so that nobody has to trust one method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from harness.record.table import metric_name
from harness.reports.ablation import format
from harness.reports.ablation.findings import Answers, untrained
from harness.reports.document import Block, Cell, Figure, Items, Refusal, Section, Table, Text, row
from harness.stats.aggregate import LEAST
from harness.stats.crossed_variance import clusters
from harness.stats.missing_data import OUTLYING, Collapsed, collapsed, not_excluded
from harness.stats.refusal import Refused
from harness.text import count, listed


def checks(found: Answers) -> Section:
    """The verdicts' interval beside bootstrap, sign flips and a mixed model."""
    title = "Cross-checks"
    if not found.judged:
        return Section(title, (Refusal("no trial has scores on a set that judges."),))
    model = {} if isinstance(found.mixed, Refused) else {one.contrast: one for one in found.mixed.effects}
    rows, flat = [], []
    for judged in found.judged:
        one, other = judged.effect, model.get(judged.effect.contrast)
        mixed = format.effected(other.estimate, other.low, other.high) if other else "not fitted"
        boot = (
            format.NONE
            if math.isnan(one.boot_low)
            else f"[{format.effect(one.boot_low)}, {format.effect(one.boot_high)}]"
        )
        flips = (
            format.NONE
            if math.isnan(one.flip_p)
            else f"{format.probability(one.flip_p)} (least possible {one.flip_floor:.3g})"
        )
        n = f"{format.share(one.replicates, one.declared)} x {one.images}"
        rows.append(row(one.contrast, format.effected(one.estimate, one.low, one.high), format.effect(one.median),
                        format.probability(one.p), boot, flips, mixed,
                        format.probability(other.p) if other else format.NONE, n))  # fmt: skip
        flat.append(
            {
                "contrast": one.contrast, "estimate": one.estimate, "median": one.median,
                "low": one.low, "high": one.high, "p": one.p,
                "boot_low": one.boot_low, "boot_high": one.boot_high,
                "flip_p": one.flip_p, "flip_floor": one.flip_floor,
                "replicates": one.replicates, "images": one.images,
                **({f"mixed_{k}": v for k, v in asdict(other).items() if k != "contrast"} if other else {}),
            }
        )  # fmt: skip
    header = ("comparison", "of the verdicts [95 %]", "on the median run", "p", "bootstrap [nominally 95 %]",
              "sign flips p", "mixed model [95 %]", "mixed model p", "n")  # fmt: skip
    caption = (
        "No verdict uses these, and none of these p is corrected for the number of comparisons. The bootstrap draws "
        "replicates and patients anew; where replicates dominate three of them, it covers 79 %. Sign flips need no "
        "distribution, but ask about these images only: with ten replicates they call 12 % of those without effect. "
        f"They cannot give less than the least possible p. The mixed model has {_random(found)} as random effects, "
        f"pools one error over all arms and asks about these images only. n: replicates x images.{_shared(found)}"
    )
    blocks: list[Block] = [Table("checks", caption, header, tuple(rows), pd.DataFrame(flat))]
    if isinstance(found.mixed, Refused):
        blocks.append(Refusal(f"Mixed model. {found.mixed}"))
    elif not found.mixed.converged:
        blocks.append(Text(f"**The mixed model did not converge** and is not to be used: {found.mixed.note}."))
    return Section(title, tuple(blocks))


def _random(found: Answers) -> str:
    """The random effects of the mixed model, in words."""
    known = {"target": "data set", "run": "training run"}
    fitted = ("target", "run") if isinstance(found.mixed, Refused) else tuple(found.mixed.variances)
    return listed(tuple(known.get(name, name) for name in fitted if name != "residual"))


def _shared(found: Answers) -> str:
    """What is said where replicates share folds or seeds."""
    axes = clusters(found.cells.replicates)
    if "replicates" in axes:
        return ""
    if len(axes) == 1:
        (name,) = axes
        return f" Replicates share {name}: those of one are drawn, and flipped, together."
    return (
        " Replicates share seeds and folds: both are drawn by the bootstrap, and there are no sign flips, which need "
        "replicates that fall into independent groups."
    )


def variances(found: Answers) -> Section:
    """Where scores vary."""
    title = "Where scores vary"
    split = found.variances
    if isinstance(split, Refused):
        return Section(title, (Refusal(str(split)),))
    rows = tuple(
        row(
            part.source,
            f"{math.sqrt(max(part.variance, 0.0)):.4f}",
            format.percent(part.share, 1),
            str(part.n),
        )
        for part in split.parts
    )
    left = [
        *([f"arms {listed(split.left_out_arms)}"] if split.left_out_arms else []),
        *([count(split.left_out_replicates, "replicate")] if split.left_out_replicates else []),
        *([f"targets {listed(split.left_out_targets)}"] if split.left_out_targets else []),
        *([count(split.left_out_images, "image")] if split.left_out_images else []),
    ]
    gone = f" Left out, so that the block is complete: {listed(left)}." if left else ""
    caption = (
        f"The variance of a single image's {metric_name(found.ablation.primary)}, split over "
        f"{split.arms} arms x {split.replicates} replicates x {split.targets} targets with {split.images} images.{gone}"
        f" {_trained(found)}The seed draws data order, augmentation and initial adapter together, so that they are one "
        "term here and cannot be told apart. An estimate below 0 "
        "counts as 0. These shares are estimates without an interval: a source with few levels (n) is known badly."
    )
    frame = pd.DataFrame(map(asdict, split.parts))
    table = Table("variance", caption, ("source", "standard deviation", "share", "levels (n)"), rows, frame)
    return Section(title, (Figure("variance", "Share of the variance by source; see the table for counts."), table))


def _trained(found: Answers) -> str:
    empty = untrained(found.ablation)
    return "" if empty is None else f"Without the arm {empty}, which is not trained. "


_FEWEST = (
    f"Intervals take {LEAST} replicates or more (folds, where they share these) and {LEAST} patients of every data set."
)


def aggregates(found: Answers) -> Section:
    """Interquartile means and probabilities of improvement."""
    title = "Robust aggregates"
    if not found.aggregates:
        return Section(title, (Refusal("no trial has scores on a set that judges."),))
    if all(math.isnan(one.iqm_low) for one in found.aggregates):
        chance = "Every run of an arm beats all of an equal one by chance in 10 % of studies of three replicates."
        return Section(title, (Refusal(f"{_FEWEST} {chance}"),))
    rows = []
    for one in found.aggregates:
        better = (
            "the reference"
            if one.arm == found.reference
            else format.scored(one.better, one.better_low, one.better_high)
        )
        n = f"{format.share(one.replicates, one.declared)} x {one.images}"
        rows.append(row(one.arm, format.scored(one.iqm, one.iqm_low, one.iqm_high), better, n))
    header = ("arm", "interquartile mean [95 %]", f"P(better than {found.reference}) [95 %]", "n")
    caption = (
        "The interquartile mean drops the best and the worst quarter of an arm's (replicate, data set) scores. The "
        f"probability of improvement is how often a run of the arm beats a run of {found.reference} on the same data "
        f"set. n: replicates that both completed x images. {_FEWEST} They are of each arm alone, not corrected "
        "for how many arms there are. No verdict rests on these."
    )
    return Section(
        title, (Table("aggregates", caption, header, tuple(rows), pd.DataFrame(map(asdict, found.aggregates))),)
    )


def failures(found: Answers) -> Section:
    """Trials without a result, and whether that depends on the arm."""
    told = found.missing
    failed = sum(one.failed for one in told.arms)
    fallen = collapsed(found.cells, found.ablation.smallest) if found.cells.targets else ()
    bad = {one.arm: one.failed + sum(run.arm == one.arm for run in fallen) for one in told.arms}
    rates = {one.arm: not_excluded(bad[one.arm], one.declared) for one in told.arms}
    rows = tuple(
        row(one.arm, f"{one.failed} of {one.declared}", str(bad[one.arm] - one.failed),
            f"up to {format.percent(rates[one.arm])}", str(one.undefined))
        for one in told.arms
    )  # fmt: skip
    header = ("arm", "trials without a result", "far below", "may fail or collapse in", "undefined image scores")
    if not failed:
        test = "Every trial has a result, so nothing is missing that could bias a comparison."
    elif math.isnan(told.p):
        test = "Failures cannot be told apart by arm: in every replicate where a trial failed, all did."
    else:
        how = "exact" if told.exact else f"{told.arrangements:,} drawn arrangements"
        reach = f"; the failures are so few that no p below {told.floor:.3g} was possible" if told.floor > 0.05 else ""
        depends = (
            "**failures depend on the arm: what is left is biased**"
            if told.p <= 0.05
            else "no sign that failures depend on the arm"
        )
        p = format.probability(told.p)
        test = f"Whether failures depend on the arm, within replicates ({how}): p = {p}{reach}; {depends}."
    caption = (
        f"{failed} of {sum(one.declared for one in told.arms)} trials (arm x replicate) have no result. Far below: "
        f"runs that score more than {OUTLYING:g} times the usual spread below what arm and replicate let expect. "
        "May fail or collapse in: the share of runs that so many of the arm leave open (95 %, Clopper-Pearson)."
    )
    flat = [{**asdict(one), "far_below": bad[one.arm] - one.failed, "rate": rates[one.arm]} for one in told.arms]
    table = Table("missing", caption, header, rows, pd.DataFrame(flat))
    blocks: list[Block] = [Text(test), table, Text(_runs(fallen, min(one.declared for one in told.arms)))]
    if reasons := _reasons(found):
        blocks.append(reasons)
    lines = found.measured.left_out
    blocks.append(Items(lines) if lines else Text("Nothing else was left out: every score is defined."))
    return Section("Failures, and what was left out", tuple(blocks))


def _runs(fallen: Sequence[Collapsed], runs: int) -> str:
    """The runs that collapsed where one can see it, and what so few runs cannot show."""
    rate = format.percent(not_excluded(0, runs))
    rare = (
        f"No test sees what no run of a study has shown: an arm that collapses in {rate} of its runs comes through "
        f"{runs} runs without one in one study of twenty, and its mean is then too high."
    )
    if not fallen:
        return rare
    named = "; ".join(
        f"{one.arm}, seed {one.replicate.seed}, fold {one.replicate.fold}, by {format.size(one.below)}"
        for one in fallen
    )
    return (
        f"**Look at {count(len(fallen), 'run')} far below the others**: {named}. The effects on the median run, beside "
        f"the means in the cross-checks, are hardly moved by them; the verdicts are about means. {rare}"
    )


def _reasons(found: Answers) -> Table | None:
    trials = found.table.trials
    wrong = trials[trials["outcome"].isin(["diverged", "out_of_memory", "crashed", "unreadable"])]
    if wrong.empty or "param/arm" not in wrong:
        return None
    columns = ["param/arm", "seed", "fold", "outcome", "why"]
    flat = wrong[columns].rename(columns={"param/arm": "arm"}).astype(str)
    rows = tuple(tuple(Cell(text[:160]) for text in line) for line in flat.itertuples(index=False, name=None))
    caption = "The trials that ended without a result, with the recorded reason."
    return Table("failed", caption, tuple(flat.columns), rows, flat)
