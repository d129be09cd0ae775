"""The verdicts of an ablation, at the looks that its record holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.record.ablation_scores import AblationScores, RecordedAblation, ablation_scores, recorded_ablation
from harness.record.table import StudyTable
from harness.reports.ablation.design import pairings
from harness.stats import interplay
from harness.stats.interplay import Interplay
from harness.stats.scores import Cells
from harness.stats.sequential import ALPHA, Looks, judge_looks
from harness.stats.verdicts import Judged


@dataclass(frozen=True)
class Judgement:
    """The part of the findings that takes the least time and is printed first: scores, looks and verdicts.

    ``judged``: the verdict of every comparison. ``interplays``: the pairs of contrasts that depend on each other
    (`harness.stats.interplay`).
    """

    table: StudyTable
    ablation: RecordedAblation
    scores: AblationScores
    looks: Looks
    judged: tuple[Judged, ...]
    interplays: tuple[Interplay, ...]

    @property
    def cells(self) -> Cells:
        """The scores on the test sets of the verdicts."""
        return self.scores.cells


def judge(table: StudyTable, seed: int) -> Judgement:
    """The verdicts of an ablation; bootstraps and permutations are drawn from ``seed``.

    Raises ``RecordError`` when the study's declaration cannot be read or its scores lack the primary metric.
    """
    ablation = recorded_ablation(table)
    scores = ablation_scores(table, ablation)
    looks = looks_of(table, scores)
    earlier = [look.get("tests") for look in table.looks.get("done", ())]
    judged: tuple[Judged, ...] = ()
    if scores.cells.targets:
        rng = np.random.default_rng([seed, 1])
        judged = judge_looks(scores.cells, ablation.contrasts, ablation.smallest, looks, rng, ALPHA, earlier)
    interplays = _interplays(ablation, scores.cells, looks, judged, np.random.default_rng([seed, 11]))
    return Judgement(table, ablation, scores, looks, judged, interplays)


def _interplays(
    ablation: RecordedAblation, cells: Cells, looks: Looks, judged: tuple[Judged, ...], rng: np.random.Generator
) -> tuple[Interplay, ...]:
    """The pairs that depend on each other, at the error rate of the last look; none before the first look."""
    if not looks.done:
        return ()
    mains = {one.effect.contrast: one.effect.estimate for one in judged}
    among = [pair for pair in pairings(ablation) if pair.one in mains and pair.other in mains]
    return interplay.interplays(cells, among, mains, rng, looks.errors[looks.done - 1])


def looks_of(table: StudyTable, scores: AblationScores) -> Looks:
    """The recorded looks of a study; without a record of looks, one look at its end."""
    if table.looks:
        return Looks.of(table.looks)
    end = Looks().planned((len(scores.cells.replicates),))
    return end.looked() if scores.ended else end
