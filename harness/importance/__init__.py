"""Which settings mattered, read off finished trials: one file per way to ask.

Every choice answers its own question, printed with its table (``question``): fANOVA speaks of the whole searched space,
PED-ANOVA of what the best trials have in common. Both see completed trials only. `harness.importance.pairs` asks the
first question of two settings at once.

`harness.importance.regression` asks beside the trees which slopes, hills and presences there are.

A sampler's trace is not a probe: TPE visits good regions more often, so settings that it left early are hardly
sampled, and importance read off its trials is wrong more often than right. No level of chance holds for it either: a
third of studies of pure noise had a setting above that of shuffled scores. Random or quasi-random trials, or a designed
ablation, answer the question; `is_probe` tells the two apart.
"""

from __future__ import annotations

from harness.importance.fanova import Fanova
from harness.importance.ped_anova import PedAnova

Importance = Fanova | PedAnova

PROBES = frozenset({"random", "qmc", "sobol", "halton", "grid", "brute_force"})
"""Samplers whose trials cover the space without looking at the scores."""


def is_probe(sampler: str) -> bool:
    """Whether trials of the sampler of this kind are a probe of the space and not the trace of an optimiser."""
    return sampler.lower() in PROBES


__all__ = ["PROBES", "Fanova", "Importance", "PedAnova", "is_probe"]
