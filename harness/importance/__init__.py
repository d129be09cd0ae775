"""Hyper-parameter importance, from finished trials: a file for each evaluator.

Every choice answers its own question, printed with its table (``question``): fANOVA speaks of the whole searched space,
PED-ANOVA of what the best trials have in common. Both see completed trials only. `harness.importance.pairs` asks the
first question of two settings at once.

`harness.importance.regression` estimates slopes, curvatures and presences next to the trees.

A sampler's trace is not a probe: TPE visits good regions more often, so settings that it left early are hardly
sampled, and importance read off its trials is wrong more often than right. No level of chance holds for it either: a
third of studies of pure noise had a setting above that of shuffled scores. Random or quasi-random trials, or a designed
ablation, answer the question; `is_probe` distinguishes the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.importance.fanova import Fanova
from harness.importance.ped_anova import PedAnova

Importance = Fanova | PedAnova

PROBES = frozenset({"random", "qmc", "sobol", "halton", "grid", "brute_force"})
"""Samplers whose trials cover the space without looking at the scores."""


def is_probe(sampler: str) -> bool:
    """Whether trials of the sampler of this kind are a probe of the space and not the trace of an optimiser."""
    return sampler.lower() in PROBES


def of_pairs(evaluators: Iterable[Importance]) -> Fanova | None:
    """The first of ``evaluators`` that explains pairs of settings, too; None if none does."""
    return next((how for how in evaluators if isinstance(how, Fanova)), None)


__all__ = ["PROBES", "Fanova", "Importance", "PedAnova", "is_probe", "of_pairs"]
