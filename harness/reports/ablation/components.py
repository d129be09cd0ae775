"""What each component is worth, and on which targets: forest, Shapley values, interactions, mixture surface."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.record.table import metric_name
from harness.reports.ablation import format
from harness.reports.ablation.findings import Answers, untrained
from harness.reports.document import Block, Figure, Refusal, Section, Table, Text, row
from harness.stats.effects import Effect
from harness.stats.mixture import LackOfFit, Mixture, Region
from harness.stats.refusal import Refused
from harness.text import count, listed


def forest(found: Answers) -> Section:
    """Effects overall and per target."""
    title = "Effects, overall and on each target"
    if not found.judged:
        return Section(title, (Refusal("no trial has scores on a set that judges."),))
    caption = (
        "Each comparison on all targets together (bold, with its verdict) and on each target (thin, without one: the "
        "verdicts are about all targets). n: replicates x images. A full diamond matters: it lies beyond the grey "
        "band. A hollow one differs from 0, perhaps too little to matter. Dashed and hollow is undecided: not shown, "
        "which is not the same as shown to be small (square)."
    )
    everything = [*(one.effect for one in found.judged), *found.effects]
    return Section(title, (Figure("forest", caption), effects_table("effects", everything, found)))


def effects_table(name: str, effects: Sequence[Effect], found: Answers) -> Table:
    """Effects with intervals, p and counts, in the order of contrasts."""
    order = {contrast.name: place for place, contrast in enumerate(found.ablation.contrasts)}
    ordered = sorted(effects, key=lambda one: (order.get(one.contrast, 0), one.target is not None))
    rows = tuple(
        row(
            one.contrast,
            one.target or "all, equal weights",
            format.effected(one.estimate, one.low, one.high),
            format.probability(one.p),
            format.replicates(one),
            format.share(one.images, one.images + one.undefined),
            str(one.patients),
            format.percent(one.share_of_replicates),
            one.why or "none",
        )
        for one in ordered
    )
    header = ("comparison", "target", "effect [95 % interval]", "p", "replicates", "images", "patients",
              "replicates' share of variance", "remark")  # fmt: skip
    caption = (
        f"Effects on {metric_name(found.ablation.primary)}. p is of the one comparison on the one target and is not "
        "corrected for how many there are: the verdicts are. The share of the variance that comes from replicates is "
        "what more replicates can shrink; the rest is the images', and that of the folds which replicates share."
    )
    return Table(name, caption, header, rows, pd.DataFrame([one.row() for one in ordered]))


def shapley(found: Answers) -> Section:
    """Shapley values and interactions."""
    title = "What each component is worth"
    blocks: list[Block] = []
    if isinstance(found.shapley, Refused):
        blocks.append(Refusal(f"Shapley values. {found.shapley}"))
    else:
        given = untrained(found.ablation) is not None or not _empty(found)
        caption = (
            f"What a component adds to {metric_name(found.ablation.primary)}, averaged over all orders of adding them"
            + (
                ", from the second on: its worth given training (Shapley values without the first place, at which "
                "whichever component comes brings training as such). They do not add up to a gain. A component that "
                "adds nothing to any trained arm is worth 0. "
                if given
                else " to the model without any (Shapley values); they add up to the gain of all components together. "
            )
            + "With 95 % intervals; a hatched bar's interval holds 0, or it has none."
        )
        blocks += [
            Figure("shapley", caption),
            _values("shapley", "component", found.shapley, "The same in numbers, with p of each value alone."),
        ]
    if found.training is not None:
        blocks.append(Text(_training(found.training)))
    if isinstance(found.interactions, Refused):
        blocks.append(Refusal(f"Interactions. {found.interactions}"))
    else:
        caption = (
            "Pairwise interactions: above 0 two components help each other, below 0 one does part of the other's work. "
            f"{_without_empty(found)}With 95 % intervals, uncorrected; a hatched cell's interval holds 0, or it has "
            "none, so its sign is not known."
        )
        blocks += [
            Figure("interactions", caption),
            _values("interactions", "pair", found.interactions, "The same in numbers."),
        ]
    return Section(title, tuple(blocks))


def _empty(found: Answers) -> bool:
    """Whether an arm without any component is trained."""
    return not all(map(any, zip(*found.ablation.components.values(), strict=True)))


def _training(training: Effect) -> str:
    """What training brings, which is the worth of no component."""
    return (
        f"Training as such brings {format.effected(training.estimate, training.low, training.high)}: the mean over all "
        "arms that are trained, less the model without any training. None of it is credited to a component."
        + (f" No interval: {training.why}." if training.why else "")
    )


def _without_empty(found: Answers) -> str:
    if untrained(found.ablation) is None:
        return ""
    return "Means over what trains: against the untrained arm any component would seem to replace any other. "


def _values(name: str, whose: str, effects: Sequence[Effect], caption: str) -> Table:
    rows = tuple(
        row(
            one.contrast,
            format.effected(one.estimate, one.low, one.high),
            format.probability(one.p),
            format.replicates(one),
            str(one.images),
        )
        for one in effects
    )
    header = (whose, "value [95 % interval]", "p", "replicates", "images")
    return Table(name, caption, header, rows, pd.DataFrame([one.row() for one in effects]))


def mixture(found: Answers) -> list[Section]:
    """The surface of a mixture design; no section for another design."""
    if found.ablation.kind != "mixture":
        return []
    title = "The surface over the mixtures"
    if isinstance(found.mixture, Refused):
        return [Section(title, (Refusal(str(found.mixture)),))]
    fitted, _ = found.mixture
    if not fitted.fits:
        return [Section(title, (Refusal(_misfit(fitted)),))]
    blocks: list[Block] = [Text(_optimum(fitted))]
    if len(fitted.components) == 3:
        dots = ", small dots are mixtures that may be the best as far as replicates and patients tell"
        caption = (
            "Fitted mean score over the simplex of weights; white-rimmed dots are what was measured, the star is the "
            f"predicted best{dots if isinstance(fitted.region, Region) else ''}."
        )
        blocks.append(Figure("mixture", caption))
    return [Section(title, (*blocks, _terms(fitted)))]


def _fitted(fitted: Mixture) -> str:
    return (
        f"A {fitted.model.replace('_', ' ')} polynomial was fitted to {fitted.runs} of {fitted.declared} runs at "
        f"{fitted.points} points over {count(fitted.replicates, 'replicate')}."
    )


def _misfit(fitted: Mixture) -> str:
    assert isinstance(fitted.lack_of_fit, LackOfFit)
    return (
        f"the surface. {_fitted(fitted)} It does not fit (lack of fit: p = "
        f"{format.probability(fitted.lack_of_fit.p)}), so that neither its highest point nor its coefficients are to "
        "be read: read the points that were measured, in the ablation table."
    )


def _optimum(fitted: Mixture) -> str:
    best = listed(tuple(f"{format.percent(weight)} {name}" for name, weight in fitted.best.items()))
    told = (
        f"{_fitted(fitted)} Its highest point is {best}, with a predicted score of "
        f"{format.scored(fitted.predicted, fitted.low, fitted.high)}, too high by selection as the highest of the "
        "surface; the interval is that of the one mixture."
    )
    if isinstance(fitted.region, Refused):
        told += f" No region can be given: {fitted.region}"
    else:
        spans = "; ".join(
            f"{name} {format.percent(low)} to {format.percent(high)}"
            for name, (low, high) in fitted.region.within.items()
        )
        told += f" Mixtures that may be the best: {spans} ({format.percent(fitted.region.share)} of the simplex)."
    fit = fitted.lack_of_fit
    if isinstance(fit, Refused):
        return f"{told} Whether the polynomial fits cannot be tested: {fit}"
    return f"{told} Lack of fit: p = {format.probability(fit.p)}; nothing speaks against the fit."


def _terms(fitted: Mixture) -> Table:
    rows = tuple(
        row(str(one["term"]), format.effected(one["estimate"], one["low"], one["high"]), format.probability(one["p"]))
        for one in fitted.terms.to_dict("records")
    )
    caption = (
        f"Coefficients of the Scheffe polynomial with 95 % intervals, from {fitted.runs} runs. A single component's is "
        "its own score; a product's is 4 times what an even blend gains over the line between the two. Intervals are "
        "over replicates and patients, each of the one coefficient; p against 0 is Holm-adjusted over the products."
    )
    return Table("mixture", caption, ("term", "coefficient [95 % interval]", "p"), rows, fitted.terms)
