"""Asynchronous successive halving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt

from sam2lora.choice import choice

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


@choice
class ASHA:
    """Asynchronous successive halving (Li et al., MLSys 2020): the default.

    At ``grace``, ``grace * reduction``, ... epochs a trial continues only if its score is among the best
    ``1 / reduction`` of those that got as far. A ``grace`` beyond the last epoch stops nobody.
    """

    kind: Literal["asha"] = "asha"
    grace: Annotated[int, Ge(1)] = 2
    reduction: Annotated[float, Gt(1)] = 3.0

    def build(self, epochs: int) -> TrialScheduler:
        """Ray Tune's scheduler for trials of ``epochs`` epochs."""
        from ray.tune.schedulers import ASHAScheduler

        return ASHAScheduler(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=epochs,
            grace_period=min(self.grace, epochs),
            reduction_factor=self.reduction,
        )
