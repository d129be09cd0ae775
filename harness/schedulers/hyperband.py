"""Asynchronous HyperBand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt

from sam2lora.choice import choice, digest

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


@choice
class HyperBand:
    """Asynchronous HyperBand (Li et al., JMLR 2018, run as in ASHA): halving with several grace periods side by side.

    Bracket ``b`` of ``brackets`` starts to stop trials after ``grace * reduction ** b`` epochs. A trial's bracket is
    drawn from its key, with Ray's weights, so a resumed study puts it back where it was.
    """

    kind: Literal["hyperband"] = "hyperband"
    grace: Annotated[int, Ge(1)] = 1
    reduction: Annotated[float, Gt(1)] = 3.0
    brackets: Annotated[int, Ge(1)] = 2

    def build(self, epochs: int) -> TrialScheduler:
        """Ray Tune's scheduler for trials of ``epochs`` epochs."""
        from ray.tune.schedulers import AsyncHyperBandScheduler

        class Keyed(AsyncHyperBandScheduler):
            """Ray draws the bracket from numpy's global generator, which no record could repeat."""

            def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
                sizes = np.array([len(bracket._rungs) for bracket in self._brackets])
                weights = np.exp(sizes - sizes.max())
                rng = np.random.default_rng(int(digest("bracket", trial.config["key"]), 16))
                self._trial_info[trial.trial_id] = self._brackets[rng.choice(len(sizes), p=weights / weights.sum())]

        return Keyed(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=epochs,
            grace_period=min(self.grace, epochs),
            reduction_factor=self.reduction,
            brackets=self.brackets,
        )
