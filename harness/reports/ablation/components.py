"""The effects of components: forest plot, Shapley values, interactions, mixture surface."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from harness.record.metric_names import metric_name
from harness.reports.ablation import format
from harness.reports.ablation.design import untrained
from harness.reports.ablation.findings import Findings
from harness.reports.document import Block, Columns, Figure, Record, Refusal, Section, Table, Text, Tone, table
from harness.reports.figures import forest_plot, interactions, surface, values
from harness.reports.figures.forest_plot import Line
from harness.reports.figures.values import Value
from harness.stats.effects import Effect
from harness.stats.mixture import LackOfFit, Mixture, Region
from harness.stats.multiplicity import CORRECTION
from harness.stats.refusal import Refused
from harness.text import count, listed


def forest(findings: Findings) -> Section:
    """Effects overall and per target."""
    title = "Effects, overall and on each target"
    if not findings.judged:
        return Section(title, (Refusal("no trial has test scores."),))
    caption = (
        "Each comparison over all targets (bold, with its verdict) and on each target (thin, without a verdict). n: "
        "replicates x images. A filled diamond matters: its effect is beyond the grey band. A hollow diamond differs "
        "from 0, perhaps too little to matter. A hollow circle with a dashed line is undecided: nothing was shown, "
        "which is not the same as shown to be small (square)."
    )
    everything = [*(one.effect for one in findings.judged), *findings.effects]
    metric = metric_name(findings.ablation.primary)
    figure = Figure("forest", caption, lambda: forest_plot.draw(groups(findings), findings.ablation.smallest, metric))
    return Section(title, (figure, effects_table("effects", everything, findings)))


def groups(findings: Findings) -> list[tuple[Line, list[Line]]]:
    """The lines of the forest plot: each comparison on all targets together, and on each target."""
    on_targets: dict[str, list[Line]] = {}
    for one in findings.effects:
        on_targets.setdefault(one.contrast, []).append(_line(one, f"on {one.target}", None))
    return [
        (_line(one.effect, one.effect.contrast, format.tone(one.verdict)), on_targets.get(one.effect.contrast, []))
        for one in findings.judged
    ]


def _line(one: Effect, label: str, tone: Tone | None) -> Line:
    n = f"{one.replicates} x {one.images}{f', {format.NO_INTERVAL}' if one.why else ''}"
    return Line(label, one.estimate, one.low, one.high, n, tone)


def effects_table(name: str, effects: Sequence[Effect], findings: Findings) -> Table:
    """Effects with intervals, p and counts, in the order of contrasts."""
    order = {contrast.name: place for place, contrast in enumerate(findings.ablation.contrasts)}
    ordered = sorted(effects, key=lambda one: (order.get(one.contrast, 0), one.target is not None))
    caption = (
        f"Effects on {metric_name(findings.ablation.primary)}. Each p is for one comparison on one target and is not "
        "corrected for the number of comparisons; the verdicts are. More replicates shrink the replicates' share of "
        "the variance; the rest comes from images and from folds that replicates share."
    )
    return table(name, caption, ordered, EFFECT_COLUMNS, pd.DataFrame([one.row() for one in ordered]))


EFFECT_COLUMNS: Columns[Effect] = {
    "comparison": lambda one: one.contrast,
    "target": lambda one: one.target or "all, equal weights",
    "effect [95 % interval]": format.estimate,
    "p": lambda one: format.probability(one.p),
    "replicates": format.replicates,
    "images": format.images,
    "patients": lambda one: str(one.patients),
    "replicates' share of variance": lambda one: format.percent(one.share_of_replicates),
    "remark": lambda one: one.why or "none",
}
"""The columns of the table of effects."""


def shapley(findings: Findings) -> Section:
    """Shapley values and interactions."""
    title = "What each component is worth"
    blocks: list[Block] = []
    if isinstance(findings.shapley, Refused):
        blocks.append(Refusal(f"Shapley values. {findings.shapley}"))
    else:
        given = untrained(findings.ablation) is not None or not _empty(findings)
        caption = (
            f"What a component adds to {metric_name(findings.ablation.primary)}, averaged over all orders of adding "
            "them"
            + (
                ", from the second place on: its worth given that the model is trained (Shapley values without the "
                "first place, where any component would be credited with training itself). The values do not add up to "
                "a gain. A component that adds nothing to any trained arm is worth 0. "
                if given
                else " to the model without any (Shapley values); the values add up to the gain of all components. "
            )
            + "With 95 % intervals; a bar is hatched where its interval holds 0 or it has none."
        )
        bars = list(map(_value, findings.shapley))
        axis = f"worth in {metric_name(findings.ablation.primary)}, with its 95 % interval"
        blocks += [
            Figure("shapley", caption, lambda: values.draw(bars, axis)),
            _values(
                "shapley",
                "component",
                findings.shapley,
                "The values of the figure; no p is corrected for the number of components.",
            ),
        ]
    if findings.training is not None:
        blocks.append(Text(_training(findings.training)))
    if isinstance(findings.interactions, Refused):
        blocks.append(Refusal(f"Interactions. {findings.interactions}"))
    else:
        caption = (
            "Pairwise interactions: above 0 two components help each other, below 0 one does part of the other's "
            f"work. {_without_empty(findings)}With uncorrected 95 % intervals; a cell is hatched where its interval "
            "holds 0 or it has none, so that its sign is not known."
        )
        names = list(findings.ablation.components)
        pairs = {frozenset(one.contrast.split(" x ")): _value(one) for one in findings.interactions}
        blocks += [
            Figure("interactions", caption, lambda: interactions.draw(names, pairs)),
            _values("interactions", "pair", findings.interactions, "The values of the figure."),
        ]
    return Section(title, tuple(blocks))


def _value(effect: Effect) -> Value:
    return Value(effect.contrast, effect.estimate, effect.low, effect.high)


def _empty(findings: Findings) -> bool:
    """Whether an arm without any component is trained."""
    return not all(map(any, zip(*findings.ablation.components.values(), strict=True)))


def _training(training: Effect) -> str:
    """The gain of training itself, which is credited to no component."""
    return (
        f"Training itself gains {format.estimate(training)}: the "
        "mean over all trained arms minus the untrained model. None of it is credited to a "
        "component." + (f" No interval: {training.why}." if training.why else "")
    )


def _without_empty(findings: Findings) -> str:
    if untrained(findings.ablation) is None:
        return ""
    return "The untrained arm is left out: compared with it, any component would seem to replace any other. "


def _values(name: str, whose: str, effects: Sequence[Effect], caption: str) -> Table:
    columns: Columns[Effect] = {
        whose: lambda one: one.contrast,
        "value [95 % interval]": format.estimate,
        "p": lambda one: format.probability(one.p),
        "replicates": format.replicates,
        "images": lambda one: str(one.images),
    }
    return table(name, caption, effects, columns, pd.DataFrame([one.row() for one in effects]))


def mixture(findings: Findings) -> list[Section]:
    """The surface of a mixture design; no section for another design."""
    if findings.ablation.kind != "mixture":
        return []
    title = "The surface over the mixtures"
    if isinstance(findings.mixture, Refused):
        return [Section(title, (Refusal(str(findings.mixture)),))]
    fitted, points = findings.mixture
    if not fitted.fits:
        return [Section(title, (Refusal(_misfit(fitted)),))]
    blocks: list[Block] = [Text(_optimum(fitted))]
    if len(fitted.components) == 3:
        dots = ", small dots are mixtures that may be the best, given the spread over replicates and patients"
        caption = (
            "Fitted mean score over the simplex of weights; white-rimmed dots are measured points, the star is the "
            f"predicted best{dots if isinstance(fitted.region, Region) else ''}."
        )
        inside = fitted.surface["in_region"] & isinstance(fitted.region, Region)
        plane = fitted.surface.assign(in_region=inside)
        metric = metric_name(findings.ablation.primary)
        draw = partial(surface.draw, plane, fitted.components, points, fitted.best, metric)
        blocks.append(Figure("mixture", caption, draw))
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
        f"{format.probability(fitted.lack_of_fit.p)}), so neither its highest point nor its coefficients mean "
        "anything: read the measured points in the ablation table."
    )


def _optimum(fitted: Mixture) -> str:
    best = listed(tuple(f"{format.percent(weight)} {name}" for name, weight in fitted.best.items()))
    text = (
        f"{_fitted(fitted)} Its highest point is {best}, with a predicted score of "
        f"{format.score_with_interval(fitted.predicted, fitted.low, fitted.high)}, too high by selection as the "
        "highest of the surface; the interval is for this mixture only."
    )
    if isinstance(fitted.region, Refused):
        text += f" No region can be given: {fitted.region}"
    else:
        spans = "; ".join(
            f"{name} {format.percent(low)} to {format.percent(high)}"
            for name, (low, high) in fitted.region.within.items()
        )
        text += f" Mixtures that may be the best: {spans} ({format.percent(fitted.region.share)} of the simplex)."
    fit = fitted.lack_of_fit
    if isinstance(fit, Refused):
        return f"{text} Whether the polynomial fits cannot be tested: {fit}"
    return f"{text} Lack of fit: p = {format.probability(fit.p)}; nothing speaks against the fit."


def _terms(fitted: Mixture) -> Table:
    columns: Columns[Record] = {
        "term": lambda one: str(one["term"]),
        "coefficient [95 % interval]": lambda one: format.effect_with_interval(
            one["estimate"], one["low"], one["high"]
        ),
        "p": lambda one: format.probability(one["p"]),
    }
    caption = (
        f"Coefficients of the Scheffe polynomial with 95 % intervals, from {fitted.runs} runs. The coefficient of a "
        "component is its score; that of a product is 4 times the gain of an even blend over the mean of its two "
        "components. Each interval, over replicates and patients, is for one coefficient; p against 0 is "
        f"{CORRECTION}-adjusted over the products."
    )
    return table("mixture", caption, fitted.terms.to_dict("records"), columns, fitted.terms)
