"""The median stopping rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from sam2lora.choice import choice

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


@choice
class Median:
    """The median stopping rule (Golovin et al., KDD 2017).

    After ``grace`` epochs a trial is stopped when its best score is below the median of the running means of the
    trials that got as far, once there are ``least`` of them.
    """

    kind: Literal["median"] = "median"
    grace: Annotated[int, Ge(1)] = 2
    least: Annotated[int, Ge(1)] = 3

    def build(self, epochs: int) -> TrialScheduler:
        """Ray Tune's scheduler. It never pauses a trial to wait for others: with too few samples it continues."""
        from ray.tune.schedulers import MedianStoppingRule

        return MedianStoppingRule(
            time_attr="epoch",
            metric="score",
            mode="max",
            grace_period=self.grace,
            min_samples_required=self.least,
            min_time_slice=float("inf"),
        )
