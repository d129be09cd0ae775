"""The same question answered by other methods, side by side, so that no reader has to trust a single one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from harness.record.metric_names import metric_name
from harness.record.table import failed
from harness.reports.ablation import format
from harness.reports.ablation.design import untrained
from harness.reports.ablation.findings import Findings
from harness.reports.document import (
    Block,
    Columns,
    Figure,
    Items,
    Refusal,
    Section,
    Table,
    Text,
    plain_table,
    row,
    table,
)
from harness.reports.figures import shares
from harness.stats.aggregate import LEAST, Aggregate
from harness.stats.crossed_variance import clusters
from harness.stats.effects import Effect
from harness.stats.missing_data import OUTLYING, ArmFailures, Collapsed, collapsed, upper_rate
from harness.stats.mixed_model import MixedEffect
from harness.stats.refusal import Refused
from harness.stats.variance_components import Part
from harness.text import count, listed


def checks(findings: Findings) -> Section:
    """The interval of the verdicts next to bootstrap, sign flips and a mixed model."""
    title = "Cross-checks"
    if not findings.judged:
        return Section(title, (Refusal("no trial has test scores."),))
    model = {} if isinstance(findings.mixed, Refused) else {one.contrast: one for one in findings.mixed.effects}
    effects = [judged.effect for judged in findings.judged]
    columns: Columns[Effect] = {
        "comparison": lambda one: one.contrast,
        "as in the verdicts [95 %]": format.estimate,
        "on the median run": lambda one: format.effect(one.median),
        "p": lambda one: format.probability(one.p),
        "bootstrap [nominally 95 %]": _bootstrap,
        "sign flips p": _sign_flips,
        "mixed model [95 %]": lambda one: format.estimate(model[one.contrast]) if model else "not fitted",
        "mixed model p": lambda one: format.probability(model[one.contrast].p) if model else format.NONE,
        "n": lambda one: f"{format.share(one.replicates, one.declared)} x {one.images}",
    }
    caption = (
        "No verdict uses these numbers, and no p here is corrected for the number of comparisons. The bootstrap "
        "resamples replicates and patients; where three replicates dominate the variance it covers 79 %. Sign flips "
        "assume no distribution but are about these images only: with ten replicates they find one in 12 % of "
        "comparisons without an effect. They cannot give a p below the least possible one. The mixed model has "
        f"{_random(findings)} as random effects, pools one error variance over all arms and is about these images "
        f"only. n: replicates x images.{_shared(findings)}"
    )
    frame = pd.DataFrame([_flat(one, model.get(one.contrast)) for one in effects])
    blocks: list[Block] = [table("checks", caption, effects, columns, frame)]
    if isinstance(findings.mixed, Refused):
        blocks.append(Refusal(f"Mixed model. {findings.mixed}"))
    elif not findings.mixed.converged:
        blocks.append(Text(f"**The mixed model did not converge** and is not to be used: {findings.mixed.note}."))
    return Section(title, tuple(blocks))


def _bootstrap(one: Effect) -> str:
    if math.isnan(one.boot_low):
        return format.NONE
    return f"[{format.effect(one.boot_low)}, {format.effect(one.boot_high)}]"


def _sign_flips(one: Effect) -> str:
    if math.isnan(one.flip_p):
        return format.NONE
    return f"{format.probability(one.flip_p)} (least possible {one.flip_floor:.3g})"


def _flat(one: Effect, other: MixedEffect | None) -> dict[str, Any]:
    names = ("contrast", "estimate", "median", "low", "high", "p", "boot_low", "boot_high", "flip_p", "flip_floor",
             "replicates", "images")  # fmt: skip
    mixed = {f"mixed_{name}": value for name, value in vars(other).items() if name != "contrast"} if other else {}
    return {name: getattr(one, name) for name in names} | mixed


def _random(findings: Findings) -> str:
    """The random effects of the mixed model, in words."""
    known = {"target": "data set", "run": "training run"}
    fitted = ("target", "run") if isinstance(findings.mixed, Refused) else tuple(findings.mixed.variances)
    return listed(tuple(known.get(name, name) for name in fitted if name != "residual"))


def _shared(findings: Findings) -> str:
    """The sentence for replicates that share folds or seeds."""
    axes = clusters(findings.cells.replicates)
    if "replicates" in axes:
        return ""
    if len(axes) == 1:
        (name,) = axes
        return f" Replicates share {name}: those of one {name[:-1]} are resampled, and flipped, together."
    return (
        " Replicates share seeds and folds: the bootstrap resamples both, and there are no sign flips, which need "
        "independent groups of replicates."
    )


def variances(findings: Findings) -> Section:
    """Where scores vary."""
    title = "Where scores vary"
    split = findings.variances
    if isinstance(split, Refused):
        return Section(title, (Refusal(str(split)),))
    columns: Columns[Part] = {
        "source": lambda part: part.source,
        "standard deviation": lambda part: f"{math.sqrt(max(part.variance, 0.0)):.4f}",
        "share": lambda part: format.percent(part.share, 1),
        "levels (n)": lambda part: str(part.n),
    }
    left = [
        *([f"arms {listed(split.left_out_arms)}"] if split.left_out_arms else []),
        *([count(split.left_out_replicates, "replicate")] if split.left_out_replicates else []),
        *([f"targets {listed(split.left_out_targets)}"] if split.left_out_targets else []),
        *([count(split.left_out_images, "image")] if split.left_out_images else []),
    ]
    gone = f" Left out to make the block complete: {listed(left)}." if left else ""
    caption = (
        f"The variance of a single image's {metric_name(findings.ablation.primary)}, split over {split.arms} arms x "
        f"{split.replicates} replicates x {split.targets} targets with {split.images} images.{gone} "
        f"{_trained(findings)}The seed decides data order, augmentation and initial adapter together, so these are one "
        "source here. A negative estimate counts as 0. These shares are estimates without an interval; that of a "
        "source with few levels (n) is poor."
    )
    parts = table("variance", caption, split.parts, columns, pd.DataFrame(map(asdict, split.parts)))
    caption = "Share of the variance by source; see the table for counts."
    return Section(title, (Figure("variance", caption, lambda: shares.draw(split.parts)), parts))


def _trained(findings: Findings) -> str:
    empty = untrained(findings.ablation)
    return "" if empty is None else f"The untrained arm {empty} is left out. "


_FEWEST = (
    f"Intervals need {LEAST} replicates or more (folds, where replicates share these) and {LEAST} patients or more in "
    "every data set."
)


def aggregates(findings: Findings) -> Section:
    """Interquartile means and probabilities of improvement."""
    title = "Robust aggregates"
    if not findings.aggregates:
        return Section(title, (Refusal("no trial has test scores."),))
    if all(math.isnan(one.iqm_low) for one in findings.aggregates):
        chance = (
            "With three replicates every run of an arm beats all runs of an equal arm by chance in 10 % of studies."
        )
        return Section(title, (Refusal(f"{_FEWEST} {chance}"),))

    def better(one: Aggregate) -> str:
        if one.arm == findings.reference:
            return "the reference"
        return format.score_with_interval(one.better, one.better_low, one.better_high)

    columns: Columns[Aggregate] = {
        "arm": lambda one: one.arm,
        "interquartile mean [95 %]": lambda one: format.score_with_interval(one.iqm, one.iqm_low, one.iqm_high),
        f"P(better than {findings.reference}) [95 %]": better,
        "n": lambda one: f"{format.share(one.replicates, one.declared)} x {one.images}",
    }
    caption = (
        "The interquartile mean drops the best and the worst quarter of an arm's (replicate, data set) scores. The "
        f"probability of improvement is how often a run of the arm beats a run of {findings.reference} on the same "
        f"data set. n: replicates that both completed x images. {_FEWEST} They are for each arm separately, not "
        "corrected for the number of arms. No verdict uses these numbers."
    )
    frame = pd.DataFrame(map(asdict, findings.aggregates))
    return Section(title, (table("aggregates", caption, findings.aggregates, columns, frame),))


def failures(findings: Findings) -> Section:
    """Trials without a result, and whether that depends on the arm."""
    missing = findings.missing
    failed = sum(one.failed for one in missing.arms)
    fallen = collapsed(findings.cells, findings.ablation.smallest) if findings.cells.targets else ()
    below = {one.arm: sum(run.arm == one.arm for run in fallen) for one in missing.arms}
    rates = {one.arm: upper_rate(one.failed + below[one.arm], one.declared) for one in missing.arms}
    columns: Columns[ArmFailures] = {
        "arm": lambda one: one.arm,
        "trials without a result": lambda one: f"{one.failed} of {one.declared}",
        "far below": lambda one: str(below[one.arm]),
        "may fail or collapse in": lambda one: f"up to {format.percent(rates[one.arm])}",
        "undefined image scores": lambda one: str(one.undefined),
    }
    if not failed:
        test = "Every trial has a result, so nothing is missing that could bias a comparison."
    elif math.isnan(missing.p):
        test = "Whether failures depend on the arm cannot be tested: replicates with a failed trial have no other."
    else:
        how = "exact" if missing.exact else f"{missing.arrangements:,} random arrangements"
        reach = (
            f"; the failures are so few that no p below {missing.floor:.3g} was possible"
            if missing.floor > 0.05
            else ""
        )
        depends = (
            "**failures depend on the arm, so the other results are biased**"
            if missing.p <= 0.05
            else "no sign that failures depend on the arm"
        )
        p = format.probability(missing.p)
        test = f"Test of whether failures depend on the arm, within replicates ({how}): p = {p}{reach}; {depends}."
    caption = (
        f"{failed} of {sum(one.declared for one in missing.arms)} trials (arm x replicate) have no result. Far below: "
        f"runs whose score is more than {OUTLYING:g} times the usual spread below the one expected of their arm and "
        "replicate. May fail or collapse in: the upper 95 % limit of the share of such runs (Clopper-Pearson)."
    )
    frame = pd.DataFrame(map(asdict, missing.arms)).assign(far_below=list(below.values()), rate=list(rates.values()))
    counts = table("missing", caption, missing.arms, columns, frame)
    blocks: list[Block] = [Text(test), counts, Text(_runs(fallen, min(one.declared for one in missing.arms)))]
    if reasons := _reasons(findings):
        blocks.append(reasons)
    lines = findings.scores.left_out
    blocks.append(Items(lines) if lines else Text("Nothing else was left out: every score is defined."))
    return Section("Failures, and what was left out", tuple(blocks))


def _runs(fallen: Sequence[Collapsed], runs: int) -> str:
    """The runs that collapsed where one can see it, and what so few runs cannot show."""
    rate = format.percent(upper_rate(0, runs))
    rare = (
        f"No test can see a failure that no run has shown: an arm that collapses in {rate} of its runs has no collapse "
        f"in {runs} runs in one study of twenty, and its mean is then too high."
    )
    if not fallen:
        return rare
    named = "; ".join(
        f"{one.arm}, seed {one.replicate.seed}, fold {one.replicate.fold}, by {format.size(one.below)}"
        for one in fallen
    )
    return (
        f"**Look at {count(len(fallen), 'run')} far below the others**: {named}. They hardly move the effects on the "
        f"median run, which stand next to the means in the cross-checks; the verdicts are about means. {rare}"
    )


def _reasons(findings: Findings) -> Table | None:
    wrong = failed(findings.table.trials)
    if wrong.empty or "param/arm" not in wrong:
        return None
    columns = ["param/arm", "seed", "fold", "outcome", "why"]
    frame = wrong[columns].rename(columns={"param/arm": "arm"}).astype(str)
    shown = plain_table("failed", "The trials that ended without a result, with the recorded reason.", frame)
    return replace(shown, rows=tuple(row(*(cell.text[:160] for cell in line)) for line in shown.rows))
