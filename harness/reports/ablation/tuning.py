"""Fixed or tuned settings: what each arm's search found, and whether the ranking of arms depends on it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.record.table import metric_name
from harness.reports.ablation import format
from harness.reports.ablation.arm_searches import EDGE, Searched, Setting, Tuned
from harness.reports.ablation.findings import Answers, untrained
from harness.reports.ablation.fixed_vs_tuned import Beside, Placed
from harness.reports.document import Block, Cell, Figure, Refusal, Section, Table, Text, row
from harness.stats.arm_means import ArmMean
from harness.stats.effects import Effect
from harness.stats.refusal import Refused
from harness.text import count, listed

_SHOWN = (1, 3, 10, 30, 100, 300, 1000)
"""Numbers of trials that the page's table has; the CSV file has all."""


def sections(found: Answers) -> list[Section]:
    """What there is to say about tuning; nothing where no arm was tuned, here or in a study of the same question."""
    return [*_beside(found), *_searches(found)]


def _beside(found: Answers) -> list[Section]:
    title = "Fixed and tuned settings, side by side"
    told = found.beside
    if told is None:
        return []
    if isinstance(told, Refused):
        return [Section(title, (Refusal(str(told)),))]
    metric = metric_name(found.ablation.primary)
    return [Section(title, (Text(_moved(told)), _ranking(told, metric), _verdicts(told, metric)))]


def _moved(told: Beside) -> str:
    began = (
        f"Does the ranking of the arms depend on their settings? `{told.fixed}` ran all arms with the settings as "
        f"declared, `{told.tuned}` ran each with the best of {told.budget} trials of its own."
    )
    if not any(one.fixed_rank and one.tuned_rank for one in told.arms):
        return f"{began} No arm has a rank both ways: see the ablation table for the reason."
    moved = tuple(one.arm for one in told.arms if one.moved)
    if moved:
        shown = (
            f"This is shown for {listed(moved)}: the ranks open with fixed and with tuned settings have none in common"
        )
    else:
        shown = "This is shown for no arm: each may have the same rank both ways"
    return f"{began} {shown} (each study's ranks hold with 95 %, those of both with 90 %)."


def _ranking(told: Beside, metric: str) -> Table:
    rows = tuple(
        row(one.arm, format.rank(one.fixed_rank), format.rank(one.tuned_rank), _mean(one.fixed), _mean(one.tuned),
            _gain(one.gain), format.probability(one.gain_p), _replicates(one), str(one.fixed.images))
        for one in sorted(told.arms, key=lambda one: one.fixed_rank.place if one.fixed_rank else math.inf)
    )  # fmt: skip
    header = ("arm", "rank, fixed [95 %]", "rank, tuned [95 %]", "fixed [95 %]", "tuned [95 %]",
              "tuned less fixed [95 %]", "Holm p", "replicates", "images")  # fmt: skip
    caption = (
        f"Mean test {metric} over all test sets with equal weight, and the arm's rank (1 is the highest) with those "
        "that the paired differences of all two arms leave open. The last interval is of the paired difference within "
        f"the one arm; its p against 0 is adjusted for the {count(len(told.arms), 'arm')}. It is of the settings that "
        "one search found: another search may find others, and that luck is in no interval. "
        "Replicates: with fixed settings, with tuned ones, and those of both that the difference is over."
    )
    return Table("fixed_and_tuned", caption, header, rows, pd.DataFrame(map(_flat_placed, told.arms)))


def _verdicts(told: Beside, metric: str) -> Table:
    rows, flat = [], []
    for pair in told.judged:
        name = pair[0].effect.contrast
        cells: list[Cell | str] = []
        own: dict[str, Any] = {}
        for how, one in zip(("fixed", "tuned"), pair, strict=True):
            effect, verdict = one.effect, format.verdict(one.verdict)
            cells += [verdict, format.effected(effect.estimate, effect.low, effect.high)]
            own |= {f"{how}_verdict": verdict.text, f"{how}_estimate": effect.estimate, f"{how}_low": effect.low}
            own |= {f"{how}_high": effect.high, f"{how}_holm_p": one.holm_p, f"{how}_replicates": effect.replicates}
        count = f"{pair[0].effect.replicates}, {pair[1].effect.replicates}"
        rows.append(row(name, *cells, count))
        flat.append({"contrast": name, **own})
    header = ("comparison", "fixed", "effect [95 %]", "tuned", "effect [95 %]", "replicates")
    caption = (
        f"The verdicts on {metric} of the two studies, each with its own error rate: a comparison that is decided in "
        "one and undecided in the other was not shown to differ between them. Replicates: with fixed settings, with "
        "tuned ones."
    )
    return Table("verdicts_both", caption, header, tuple(rows), pd.DataFrame(flat))


def _mean(mean: ArmMean) -> str:
    return format.scored(mean.mean, mean.low, mean.high)


def _gain(gain: Effect | Refused) -> str:
    return gain.found if isinstance(gain, Refused) else format.effected(gain.estimate, gain.low, gain.high)


def _replicates(one: Placed) -> str:
    both = 0 if isinstance(one.gain, Refused) else one.gain.replicates
    return f"{one.fixed.replicates}, {one.tuned.replicates}, {both}"


def _flat_placed(one: Placed) -> dict[str, Any]:
    flat: dict[str, Any] = {"arm": one.arm}
    for how, rank, mean in (("fixed", one.fixed_rank, one.fixed), ("tuned", one.tuned_rank, one.tuned)):
        own = asdict(mean)
        for name in ("place", "best", "worst"):
            flat[f"{how}_rank_{name}"] = getattr(rank, name) if rank else math.nan
        flat |= {f"{how}_{name}": own[name] for name in ("mean", "low", "high", "replicates", "images")}
    gain = one.gain if isinstance(one.gain, Effect) else None
    for name in ("estimate", "low", "high", "p", "replicates", "images"):
        flat[f"gain_{name}"] = getattr(gain, name) if gain else math.nan
    flat["gain_holm_p"] = one.gain_p
    return flat


def _searches(found: Answers) -> list[Section]:
    title = "Tuning of each arm"
    told = found.tuned
    if told is None:
        return []
    if isinstance(told, Refused):
        return [Section(title, (Refusal(str(told)),))]
    blocks: list[Block] = [Text(_how(found, told)), _settings(told)]
    if len(told.curves.curves):
        blocks += [Figure("tuning", _band(found, told)), _curves(told)]
    blocks += [Refusal(f"Tuning curve. {refused}") for refused in told.curves.refused.values()]
    return [Section(title, tuple(blocks))]


def _how(found: Answers, told: Tuned) -> str:
    budget = found.ablation.tuned
    text = (
        f"Before its replicates ran, each arm had a search of its own with the same budget of {budget} trials, drawn "
        "at random on logarithmic scales, with a seed that no replicate has. The best was chosen by validation on the "
        "sources; no score of a test set and of no target entered."
    )
    untrained_arm = untrained(found.ablation)
    missing = [arm for arm in told.untuned if arm != untrained_arm]
    if untrained_arm in told.untuned:
        text += f" The arm {untrained_arm} trains nothing and was not tuned."
    if missing:
        text += f" **The record has no search of {listed(missing)}.**"
    edges = [one.arm for one in told.searched if any(setting.edge for setting in one.settings)]
    if edges:
        text += (
            f" For {listed(edges)} the best lies at the edge of a range: a wider range, or more trials, may do "
            "better, and the arm may be sold short."
        )
    return text


def _settings(told: Tuned) -> Table:
    names = list(dict.fromkeys(setting.name for one in told.searched for setting in one.settings))
    spans = {setting.name: setting for one in told.searched for setting in one.settings}
    same = {name: len({(s.low, s.high) for one in told.searched for s in one.settings if s.name == name}) == 1
            for name in names}  # fmt: skip
    rows = tuple(
        row(one.arm, *(_setting(own.get(name), same[name]) for name in names), f"{one.score:.3f}", str(one.number),
            format.share(one.completed, len(one.scores)), _edges(one))
        for one in told.searched
        for own in [{setting.name: setting for setting in one.settings}]
    )  # fmt: skip
    told_spans = "; ".join(f"{name} {spans[name].low:.3g} to {spans[name].high:.3g}" for name in names if same[name])
    header = ("arm", *names, "validation", "trial", "trials with a score", "at the edge")
    caption = (
        f"The settings that each arm's replicates ran with. {f'Ranges: {told_spans}. ' if told_spans else ''}The "
        f"validation score is the best of the trials and too high by selection; it judges nothing. At the edge: in the "
        f"outer {EDGE:.0%} of a range.".replace("10%", "tenth")
    )
    frame = pd.DataFrame([_flat_searched(one) for one in told.searched])
    return Table("tuned_settings", caption, header, rows, frame)


def _setting(setting: Setting | None, same: bool) -> str:
    if setting is None:
        return "as declared"
    return f"{setting.value:.3g}" if same else f"{setting.value:.3g} ({setting.low:.3g} to {setting.high:.3g})"


def _edges(one: Searched) -> str:
    return ", ".join(f"{setting.name}: {setting.edge}" for setting in one.settings if setting.edge) or "no"


def _flat_searched(one: Searched) -> dict[str, Any]:
    flat: dict[str, Any] = {"arm": one.arm, "study": one.study, "trial": one.number, "validation": one.score}
    flat |= {"trials": len(one.scores), "completed": one.completed}
    for setting in one.settings:
        name = setting.name
        flat |= {name: setting.value, f"{name} low": setting.low, f"{name} high": setting.high}
        flat[f"{name} edge"] = setting.edge or "no"
    return flat


def _band(found: Answers, told: Tuned) -> str:
    fewest = int(told.curves.curves["n"].min())
    return (
        f"How good the best of so many trials is, by validation {metric_name('dice')}. Blue: the median of such "
        "searches, with a 95 % band that holds it for all numbers of trials at once (Learned-Miller and DeStefano up "
        "to 60 trials, Kolmogorov and Smirnov beyond; Lourie, Cho and He 2023): for the one arm, not for all of them. "
        f"Dashed: the expected best score. Grey: the other arms. {count(fewest, 'trial')} of an arm carry its "
        "band, and where the band leaves the frame they say nothing more. The curve is about other draws of the "
        "settings with this seed, not about other seeds."
    )  # fmt: skip


def _curves(told: Tuned) -> Table:
    frame = told.curves.curves
    shown = frame[frame["trials"].isin(_SHOWN) | (frame["trials"] == frame["n"])]
    rows = tuple(
        row(str(one["arm"]), str(one["trials"]), format.scored(one["median"], one["low"], one["high"]),
            format.scored(one["mean"], one["mean_low"], one["mean_high"]), str(one["n"]), str(one["failed"]))
        for one in shown.to_dict("records")
    )  # fmt: skip
    header = (
        "arm",
        "trials of a search",
        "median best [95 % band]",
        "expected best [95 % band]",
        "n",
        "of these failed",
    )
    caption = (
        "Both bands come from one band of the arm's scores, simultaneous over all numbers of trials. The expected "
        "best's is wide since a rare trial might reach 1. n: trials that were made; one that failed counts as 0. The "
        "CSV file has every number of trials."
    )
    return Table("tuning", caption, header, rows, frame)
