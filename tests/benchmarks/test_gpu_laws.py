"""What the laws of the GPU check make of trials that ended badly: a number that is none never holds."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.gpu.parts.capture import _apart
from benchmarks.gpu.parts.packing import LIMITS
from benchmarks.gpu.training import Ended, farthest
from sam2lora.errors import Diverged

FINE = Ended([1.0, 0.5], [0.7], {"A": torch.ones(2), "B": torch.ones(2)})
NAN_IN_ADAPTER = Ended([1.0, 0.5], [0.7], {"A": torch.ones(2), "B": torch.tensor([1.0, math.nan])})
NAN_IN_LOSS = Ended([1.0, math.nan], [0.7], {"A": torch.ones(2), "B": torch.ones(2)})


@pytest.mark.parametrize("wrong", [NAN_IN_ADAPTER, NAN_IN_LOSS, Diverged("the loss is not finite", 1, 2)])
@pytest.mark.parametrize("place", [0, 1])
def test_a_trial_that_ended_in_no_number_or_diverged_is_not_near_its_lone_one(
    wrong: Ended | Diverged, place: int
) -> None:
    found: list[Ended | Diverged] = [FINE, FINE]
    assert farthest(found, [FINE, FINE]).within(LIMITS["float32"])
    found[place] = wrong
    assert not farthest(found, [FINE, FINE]).within(LIMITS["float32"])


def test_the_trials_beside_one_that_diverged_are_compared_with_their_own() -> None:
    other = Ended([2.0, 1.0], [0.1], {"A": torch.zeros(2), "B": torch.zeros(2)})
    apart = farthest([Diverged("the loss is not finite", 1, 2), other], [FINE, other])
    assert apart.loss == math.inf
    assert farthest([other], [other]).none


def test_a_replay_whose_loss_is_no_number_differs() -> None:
    assert math.isnan(_apart([1.0, math.nan], [1.0, 1.0]))
    assert math.isnan(_apart([math.nan, 1.0], [1.0, 1.0]))
    assert _apart([1.0, 1.5], [1.0, 1.0]) == 0.5
