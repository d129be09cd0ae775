"""The report of an ablation as a document, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.record.table import metric_name
from harness.reports.ablation import components, cost, cross_checks, format, pictures, provenance, scores, verdicts
from harness.reports.ablation import tuning as tuned
from harness.reports.ablation.arm_searches import Tuned
from harness.reports.ablation.findings import Answers, untrained
from harness.reports.document import Block, Document, Text, Tone
from harness.stats.effects import Effect
from harness.stats.refusal import Refused

if TYPE_CHECKING:  # matplotlib takes a second to load
    from matplotlib.figure import Figure

    from harness.reports.figures.forest import Line
    from harness.reports.figures.values import Value


def document(found: Answers, mlflow: str, folder: Path) -> Document:
    """Everything the report says, in the order of reading.

    ``mlflow``: the tracking address that it names; ``folder``: the study's, with its trials' files.
    """
    lead: list[Block] = [Text(verdicts.plainly(found.verdicts))]
    if told := scores.best(found):
        lead.append(Text(told))
    if provenance.simulated(found.table.provenance):
        lead.insert(0, Text("**Simulated scores**: nothing was trained, and nothing here is about SAM 2."))
    name = found.table.question.get("search", found.table.name)
    return Document(
        title=f"What mattered: the ablation `{name}`{', each arm tuned' if found.ablation.tuned else ''}",
        lead=tuple(lead),
        sections=(
            verdicts.verdicts(found),
            verdicts.compared(found),
            scores.scores(found),
            *tuned.sections(found),
            components.forest(found),
            components.shapley(found),
            *components.mixture(found),
            scores.transfer(found),
            cost.curves(found),
            *scores.by_rank(found),
            cross_checks.variances(found),
            cross_checks.checks(found),
            cross_checks.aggregates(found),
            pictures.panels(found, folder),
            cost.costs(found),
            cross_checks.failures(found),
            provenance.provenance(found, mlflow),
            provenance.base(found),
        ),
    )


def figures(found: Answers) -> Iterator[tuple[str, Figure]]:
    """Every figure that the answers allow, by name."""
    from harness.reports.figures import arm_curves, forest, interactions, shares, surface, transfer, tuning, values

    metric = metric_name(found.ablation.primary)
    if found.judged:
        yield "forest", forest.draw(groups(found), found.ablation.smallest, metric)
    if not isinstance(found.shapley, Refused):
        bars = [values.Value(one.contrast, one.estimate, one.low, one.high) for one in found.shapley]
        yield "shapley", values.draw(bars, f"worth in {metric}, with its 95 % interval")
    if not isinstance(found.interactions, Refused):
        yield "interactions", interactions.draw(list(found.ablation.components), _pairs(found.interactions))
    if not isinstance(found.mixture, Refused) and found.mixture[0].fits and len(found.mixture[0].components) == 3:
        fitted, points = found.mixture
        inside = fitted.surface["in_region"] & (not isinstance(fitted.region, Refused))
        lattice = fitted.surface.assign(in_region=inside)
        yield "mixture", surface.draw(lattice, fitted.components, points, fitted.best, metric)
    empty = untrained(found.ablation)
    if rows := {arm: own for arm, own in scores.transfer_rows(found).items() if arm != empty}:
        sets = scores.all_sets(found)
        grid = [[own[name].mean if name in own else np.nan for name, _ in sets] for own in rows.values()]
        seen = [what != "unseen" for _, what in sets]
        yield "transfer", transfer.draw(list(rows), [name for name, _ in sets], seen, np.array(grid), metric)
    if (found.curves["arm"] != empty).any():
        yield "curves", arm_curves.draw(found.curves[found.curves["arm"] != empty], metric_name("dice"))
    if isinstance(found.tuned, Tuned) and len(found.tuned.curves.curves):
        yield "tuning", tuning.draw(found.tuned.curves.curves, metric_name("dice"))
    if not isinstance(found.variances, Refused):
        split = found.variances.parts
        yield "variance", shares.draw([part.source for part in split], [part.share for part in split])


def groups(found: Answers) -> list[tuple[Line, list[Line]]]:
    """The forest's lines: each comparison on all targets together, and those of each target."""
    on_targets: dict[str, list[Line]] = {}
    for one in found.effects:
        on_targets.setdefault(one.contrast, []).append(_line(one, f"on {one.target}", None))
    return [
        (_line(one.effect, one.effect.contrast, format.tone(one.verdict)), on_targets.get(one.effect.contrast, []))
        for one in found.judged
    ]


def _line(one: Effect, label: str, tone: Tone | None) -> Line:
    from harness.reports.figures.forest import Line

    n = f"{one.replicates} x {one.images}{f', {format.ALONE}' if one.why else ''}"
    return Line(label, one.estimate, one.low, one.high, n, tone)


def _pairs(effects: tuple[Effect, ...]) -> dict[frozenset[str], Value]:
    from harness.reports.figures.values import Value

    return {
        frozenset(one.contrast.split(" x ")): Value(one.contrast, one.estimate, one.low, one.high) for one in effects
    }
