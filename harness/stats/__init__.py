"""Inference: what an ablation's scores say, as pure functions of `Cells`. Whoever draws at random is given a generator.

`cells`: the scores, arms by replicates by images, and contrasts of arms. `effects`: estimates with intervals and
p-values. `verdicts`: from matters to does not matter, or undecided. The other modules answer one further question each.
"""
