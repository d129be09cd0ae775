"""A trial that diverges: what it says, when it stops, and what its neighbours notice of it, which is nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from sam2lora.adapters import LoRA
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.optimizers import AdamW
from sam2lora.runtime import Runtime
from sam2lora.training import loop, packing
from sam2lora.training.loop import Forward, Lane, Output, Seen, SingleForward, lockstep
from sam2lora.training.session import Session, start

BATCHES = 5
Part = Literal["loss", "gradient"]


class Broken(torch.autograd.Function):
    """The identity, with a gradient that is not a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.nan


class Poisoned:
    """A forward pass that breaks one trial's logits, or their gradient, in one batch."""

    def __init__(self, forward: Forward, part: Part, batch: int, trial: int = 0) -> None:
        self.forward, self.part, self.batch, self.trial = forward, part, batch, trial
        self.calls = 0

    def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
        self.calls += 1
        outputs = list(self.forward(given, places))
        if self.calls == self.batch:
            prediction, features = outputs[self.trial]
            logits = prediction.logits
            broken = logits * math.nan if self.part == "loss" else Broken.apply(logits)
            outputs[self.trial] = Output(prediction._replace(logits=broken), features)
        return outputs

    def zero_grad(self) -> None:
        self.forward.zero_grad()

    @property
    def generators(self) -> Sequence[torch.Generator]:
        return self.forward.generators


def words(part: Part, step: int) -> str:
    return f"the {part} is not finite in epoch 1, step {step}"


@pytest.mark.parametrize("part", ["loss", "gradient"])
@pytest.mark.parametrize("batch", range(1, BATCHES + 1))
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_trial_says_in_which_step_it_diverged_and_stops_a_step_later(
    tiny: TrialConfig, runtime: Runtime, part: Part, batch: int, accumulate: int
) -> None:
    session = start(replace(tiny, accumulate=accumulate, optimizer=AdamW()), Replicate(), runtime)
    poisoned = Poisoned(SingleForward(session), part, batch)
    (lane,) = lockstep([session], poisoned)
    assert isinstance(lane.fault, Diverged)
    assert words(part, math.ceil(batch / accumulate)) in str(lane.fault)
    assert poisoned.calls == min((math.ceil(batch / accumulate) + 1) * accumulate, BATCHES)


def test_a_weight_that_the_last_step_broke_is_seen_at_the_end(tiny: TrialConfig, runtime: Runtime) -> None:
    session = start(tiny, Replicate(), runtime)
    steps = count(1)

    def spoil(optimizer: torch.optim.Optimizer, *_: object) -> None:
        if next(steps) == BATCHES:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(math.inf)

    session.optimizer.register_step_post_hook(spoil)
    (lane,) = lockstep([session], SingleForward(session))
    assert "a weight is not finite in epoch 1, step 5" in str(lane.fault)


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_nothing_of_a_trial_that_diverged_reaches_its_curve(
    tiny: TrialConfig, runtime: Runtime, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(tiny, Replicate(), runtime)
    monkeypatch.setattr(loop, "SingleForward", lambda session: Poisoned(SingleForward(session), part, BATCHES))
    with pytest.raises(Diverged, match=words(part, BATCHES)):
        loop.epoch(session)
    assert session.curve == []


def lanes(
    config: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, poison: Callable[[Forward], Forward]
) -> list[Lane]:
    """An epoch of three trials in one pack."""
    trials = [
        replace(config, adapters=(LoRA(rank=rank, alpha=4.0, dropout=0.1),), optimizer=AdamW()) for rank in (2, 3, 4)
    ]
    residents = [start(trial, Replicate(), runtime) for trial in trials]
    with monkeypatch.context() as patch:
        patch.setattr(packing, "lockstep", lambda sessions, forward: lockstep(sessions, poison(forward)))
        return packing.advance(residents)


def tensors(session: Session) -> list[Tensor]:
    return [parameter for group in session.optimizer.param_groups for parameter in group["params"]]


@pytest.mark.parametrize("part", ["loss", "gradient"])
@pytest.mark.parametrize("batch", [1, 3, BATCHES])
def test_in_a_pack_it_says_the_same_and_its_neighbours_are_bit_by_bit_as_they_would_be(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, part: Part, batch: int
) -> None:
    healthy = lanes(tiny, runtime, monkeypatch, lambda forward: forward)
    found = lanes(tiny, runtime, monkeypatch, lambda forward: Poisoned(forward, part, batch, trial=1))
    assert words(part, batch) in str(found[1].fault)
    states = found[1].session.optimizer.state.values()
    assert {int(state["step"]) for state in states} == {min(batch + 1, BATCHES)}, "and no further once it is known"
    for place in (0, 2):
        assert found[place].fault is None
        assert found[place].losses() == healthy[place].losses()
        pairs = zip(tensors(found[place].session), tensors(healthy[place].session), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
