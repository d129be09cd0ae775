"""Fixed and tuned settings: the search of each arm, and whether the ranking of arms depends on tuning."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.record.metric_names import metric_name
from harness.reports.ablation import format
from harness.reports.ablation.arm_searches import EDGE, ArmSearch, ArmSearches, TunedSetting
from harness.reports.ablation.design import untrained
from harness.reports.ablation.findings import Findings
from harness.reports.ablation.fixed_vs_tuned import ArmBothWays, FixedVsTuned
from harness.reports.document import Block, Cell, Columns, Figure, Record, Refusal, Section, Table, Text, row, table
from harness.reports.figures import tuning
from harness.stats.effects import Effect
from harness.stats.multiplicity import CORRECTION
from harness.stats.refusal import Refused
from harness.text import count, listed

_SHOWN = (1, 3, 10, 30, 100, 300, 1000)
"""Numbers of trials that the page's table has; the CSV file has all."""


def sections(findings: Findings) -> list[Section]:
    """The sections on tuning; none where no arm was tuned, in this study or in one of the same question."""
    return [*_fixed_and_tuned(findings), *_searches(findings)]


def _fixed_and_tuned(findings: Findings) -> list[Section]:
    title = "Fixed and tuned settings, side by side"
    comparison = findings.fixed_vs_tuned
    if comparison is None:
        return []
    if isinstance(comparison, Refused):
        return [Section(title, (Refusal(str(comparison)),))]
    metric = metric_name(findings.ablation.primary)
    return [Section(title, (Text(_moved(comparison)), _ranking(comparison, metric), _verdicts(comparison, metric)))]


def _moved(comparison: FixedVsTuned) -> str:
    began = (
        f"Does the ranking of the arms depend on their settings? `{comparison.fixed}` ran all arms with the declared "
        f"settings, `{comparison.tuned}` ran each arm with the best of its {comparison.budget} tuning trials."
    )
    if not any(one.fixed_rank and one.tuned_rank for one in comparison.arms):
        return f"{began} No arm has a rank in both studies: see the ablation table for the reason."
    moved = tuple(one.arm for one in comparison.arms if one.moved)
    if moved:
        shown = (
            f"This is shown for {listed(moved)}: the rank intervals with fixed and with tuned settings do not overlap"
        )
    else:
        shown = "This is shown for no arm: each may have the same rank in both"
    return f"{began} {shown} (95 % confidence for the ranks of each study, 90 % for those of both)."


def _ranking(comparison: FixedVsTuned, metric: str) -> Table:
    columns: Columns[ArmBothWays] = {
        "arm": lambda one: one.arm,
        "rank, fixed [95 %]": lambda one: format.rank(one.fixed_rank),
        "rank, tuned [95 %]": lambda one: format.rank(one.tuned_rank),
        "fixed [95 %]": lambda one: format.mean(one.fixed),
        "tuned [95 %]": lambda one: format.mean(one.tuned),
        "tuned minus fixed [95 %]": lambda one: (
            one.gain.value if isinstance(one.gain, Refused) else format.estimate(one.gain)
        ),
        f"{CORRECTION} p": lambda one: format.probability(one.gain_p),
        "replicates": _replicates,
        "images": lambda one: str(one.fixed.images),
    }
    caption = (
        f"Mean test {metric} over all test sets with equal weight, and the arm's rank (1 is the highest) with the "
        "ranks that the paired differences between arms leave open. The last interval is that of the paired "
        f"difference within the arm; its p against 0 is adjusted for the {count(len(comparison.arms), 'arm')}. It is "
        "about the settings that one search chose: another search may choose others, and no interval includes that "
        "luck. Replicates: with fixed settings, with tuned settings, and in both, over which the difference is taken."
    )
    arms = sorted(comparison.arms, key=lambda one: one.fixed_rank.place if one.fixed_rank else math.inf)
    return table("fixed_and_tuned", caption, arms, columns, pd.DataFrame(map(_flat_placed, comparison.arms)))


def _verdicts(comparison: FixedVsTuned, metric: str) -> Table:
    rows, flat = [], []
    for pair in comparison.judged:
        name = pair[0].effect.contrast
        cells: list[Cell | str] = []
        own: dict[str, Any] = {}
        for how, one in zip(("fixed", "tuned"), pair, strict=True):
            effect, verdict = one.effect, format.verdict_cell(one.verdict)
            cells += [verdict, format.estimate(effect)]
            own |= {f"{how}_verdict": verdict.text, f"{how}_estimate": effect.estimate, f"{how}_low": effect.low}
            own |= {f"{how}_high": effect.high, f"{how}_holm_p": one.differs_p, f"{how}_replicates": effect.replicates}
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


def _replicates(one: ArmBothWays) -> str:
    both = 0 if isinstance(one.gain, Refused) else one.gain.replicates
    return f"{one.fixed.replicates}, {one.tuned.replicates}, {both}"


def _flat_placed(one: ArmBothWays) -> dict[str, Any]:
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


def _searches(findings: Findings) -> list[Section]:
    title = "Tuning of each arm"
    searches = findings.arm_searches
    if searches is None:
        return []
    if isinstance(searches, Refused):
        return [Section(title, (Refusal(str(searches)),))]
    blocks: list[Block] = [Text(_how(findings, searches)), _settings(searches)]
    curves = searches.curves.curves
    if len(curves):
        blocks += [
            Figure("tuning", _band(findings, searches), lambda: tuning.draw(curves, metric_name("dice"))),
            _curves(searches),
        ]
    blocks += [Refusal(f"Tuning curve. {refused}") for refused in searches.curves.refused.values()]
    return [Section(title, tuple(blocks))]


def _how(findings: Findings, searches: ArmSearches) -> str:
    budget = findings.ablation.tuned
    text = (
        f"Before its replicates ran, each arm was tuned by a search with a budget of {budget} trials, drawn at random "
        "on logarithmic scales with a seed that no replicate has. The best trial was chosen by validation on the "
        "sources; no score of a test set or a target was used."
    )
    untrained_arm = untrained(findings.ablation)
    missing = [arm for arm in searches.untuned if arm != untrained_arm]
    if untrained_arm in searches.untuned:
        text += f" The arm {untrained_arm} trains nothing and was not tuned."
    if missing:
        text += f" **The record has no search of {listed(missing)}.**"
    edges = [one.arm for one in searches.searches if any(setting.edge for setting in one.settings)]
    if edges:
        text += (
            f" For {listed(edges)} the best trial is at the edge of a range: a wider range or more trials may do "
            "better, so the arm may be underrated."
        )
    return text


def _settings(searches: ArmSearches) -> Table:
    names = list(dict.fromkeys(setting.name for one in searches.searches for setting in one.settings))
    spans = {setting.name: setting for one in searches.searches for setting in one.settings}
    same = {name: len({(s.low, s.high) for one in searches.searches for s in one.settings if s.name == name}) == 1
            for name in names}  # fmt: skip

    def value_of(name: str) -> Callable[[ArmSearch], str]:
        return lambda one: _setting(next((own for own in one.settings if own.name == name), None), same[name])

    columns: Columns[ArmSearch] = {
        "arm": lambda one: one.arm,
        **{name: value_of(name) for name in names},
        "validation": lambda one: f"{one.score:.3f}",
        "trial": lambda one: str(one.number),
        "trials with a score": lambda one: format.share(one.completed, len(one.scores)),
        "at the edge": _edges,
    }
    ranges = "; ".join(f"{name} {spans[name].low:.3g} to {spans[name].high:.3g}" for name in names if same[name])
    caption = (
        f"The settings that each arm's replicates ran with. {f'Ranges: {ranges}. ' if ranges else ''}The "
        "validation score is the best of the trials and too high by selection; it enters no verdict. At the edge: in "
        f"the outer {format.percent(EDGE)} of a range."
    )
    frame = pd.DataFrame([_flat_searched(one) for one in searches.searches])
    return table("tuned_settings", caption, searches.searches, columns, frame)


def _setting(setting: TunedSetting | None, same: bool) -> str:
    if setting is None:
        return "as declared"
    return f"{setting.value:.3g}" if same else f"{setting.value:.3g} ({setting.low:.3g} to {setting.high:.3g})"


def _edges(one: ArmSearch) -> str:
    return ", ".join(f"{setting.name}: {setting.edge}" for setting in one.settings if setting.edge) or "no"


def _flat_searched(one: ArmSearch) -> dict[str, Any]:
    flat: dict[str, Any] = {"arm": one.arm, "study": one.study, "trial": one.number, "validation": one.score}
    flat |= {"trials": len(one.scores), "completed": one.completed}
    for setting in one.settings:
        name = setting.name
        flat |= {name: setting.value, f"{name} low": setting.low, f"{name} high": setting.high}
        flat[f"{name} edge"] = setting.edge or "no"
    return flat


def _band(findings: Findings, searches: ArmSearches) -> str:
    fewest = int(searches.curves.curves["n"].min())
    return (
        f"The best validation {metric_name('dice')} of a search by its number of trials. Blue: the median over such "
        "searches, with a 95 % band that holds for all numbers of trials at once (Learned-Miller and DeStefano up to "
        "60 trials, Kolmogorov and Smirnov beyond; Lourie, Cho and He 2023), for one arm and not for all together. "
        f"Dashed: the expected best score. Grey: the other arms. A band rests on {count(fewest, 'trial')} of its arm "
        "or more; where it leaves the frame, they say nothing more. The curve is about other draws of the settings "
        "with this seed, not about other seeds."
    )  # fmt: skip


def _curves(searches: ArmSearches) -> Table:
    frame = searches.curves.curves
    shown = frame[frame["trials"].isin(_SHOWN) | (frame["trials"] == frame["n"])]
    columns: Columns[Record] = {
        "arm": lambda one: str(one["arm"]),
        "trials of a search": lambda one: str(one["trials"]),
        "median best [95 % band]": lambda one: format.score_with_interval(one["median"], one["low"], one["high"]),
        "expected best [95 % band]": lambda one: format.score_with_interval(
            one["mean"], one["mean_low"], one["mean_high"]
        ),
        "n": lambda one: str(one["n"]),
        "failed": lambda one: str(one["failed"]),
    }
    caption = (
        "Both bands follow from one band of the arm's scores, simultaneous over all numbers of trials. The band of the "
        "expected best is wide because a rare trial might reach 1. n: trials of the arm; a failed trial counts as 0. "
        "The CSV file has every number of trials."
    )
    return table("tuning", caption, shown.to_dict("records"), columns, frame)
