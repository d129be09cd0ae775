"""Weights that sum to one, as parameters of a search.

An optimizer of Adam's type does not see a common factor of its loss, so k free weights would search k - 1 useful
dimensions and one useless one. On the simplex there are k - 1 parameters, and a corner or an edge (a component that is
exactly absent) can be drawn with positive probability.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna

from harness.experiments.stick_breaking import ABSENT, ends, share
from sam2lora.losses import Loss
from sam2lora.weighted_loss import WeightedLoss, weighted


def suggest_simplex(trial: optuna.Trial, losses: Mapping[str, Loss], absent: float = ABSENT) -> WeightedLoss:
    """A weighted sum of ``losses`` with non-negative weights that sum to one.

    Stick breaking: the first component takes a share of the whole, the next a share of what is left, and so on; for k
    components the k - 1 shares are the parameters ``simplex/<name>``. Each is drawn from an interval that is wider than
    [0, 1] and then cut to it, so that both ends are reached exactly: under uniform draws a component's own share is
    0 with probability ``absent``, and 1, leaving nothing to the rest, with probability ``absent / k``. Between the ends
    the share is transformed such that the weights are uniform on the simplex. Nothing is asked once nothing is left.

    Raises ``ValueError`` unless there are two or more losses and ``0 <= absent < 0.5``.
    """
    if len(losses) < 2:
        raise ValueError(f"A simplex needs two or more losses, but got {sorted(losses)}: name the loss itself.")
    if not 0 <= absent < 0.5:
        raise ValueError(f"absent must be a probability below 0.5, but is {absent}: the inner points need room too.")
    names = list(losses)
    weights: dict[str, float] = {}
    rest = 1.0
    for position, name in enumerate(names[:-1]):
        if rest == 0.0:
            weights[name] = 0.0
            continue
        behind = len(names) - 1 - position
        drawn = trial.suggest_float(f"simplex/{name}", *ends(len(names), absent))
        part = float(share(np.asarray(drawn), behind))
        weights[name] = rest * part
        rest = 0.0 if part == 1.0 else rest - weights[name]
    weights[names[-1]] = rest
    return weighted({losses[name]: weight for name, weight in weights.items()})
