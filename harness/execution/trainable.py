"""Ray Tune's end of a trial: an actor that asks an engine for one epoch after another.

This module imports neither torch nor sam2: where an engine has a process of its own, a trial's actor stays small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune

from harness.execution.messages import EpochReport, TrialOrder
from harness.record.outcome import WORST


class Trial(tune.Trainable):
    """One actor, reused from trial to trial: imports are paid once.

    Its engine lives in the actor that ``config["engine"]`` names, or else in this very process.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first order."""
        self._leave: Callable[[], object] = lambda: None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Let go of the last order, and take the next."""
        self._leave()
        order: TrialOrder = new_config["order"]
        name: str | None = new_config["engine"]
        self._reported = 0
        if name is None:
            from harness.execution.engine import Engine  # a process that only forwards does without torch

            engine = Engine()
            self._advance: Callable[[int], EpochReport] = lambda reported: engine.advance_one(order, reported)
            self._leave = lambda: engine.leave(order.key)
        else:
            shared = ray.get_actor(name)
            self._advance = lambda reported: ray.get(shared.advance.remote(order, reported))
            self._leave = lambda: ray.get(shared.leave.remote(order.key))
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch."""
        item = self._advance(self._reported)
        self._reported = item["epoch"]
        return result_of(item)

    def cleanup(self) -> None:
        """Let go of the order."""
        self._leave()


def result_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """What Ray gets to know of an epoch; a trial with an outcome is ``done``.

    A diverged trial has the worst score; one that ran out of memory has NaN, which schedulers pass over.
    """
    scores = {"diverged": WORST, "out_of_memory": math.nan}
    score = scores.get(item["outcome"] or "", item.get("score"))
    return {**item, "score": score, "done": item["outcome"] is not None}
