"""Common random numbers: at equal replicate all arms have equal batches, augmentations, prompts and first adapters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.designs import Factorial, LeaveOneOut, setting
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from sam2lora.config import Replicate, TrialConfig
from sam2lora.losses import BCE, SoftDice
from sam2lora.optimizers import SGD
from sam2lora.prompts import Points
from sam2lora.runtime import Runtime
from sam2lora.schedules import Constant
from sam2lora.training.batches import batches
from sam2lora.training.session import Session, start


@pytest.fixture(params=["losses", "changes"])
def arms(request: pytest.FixtureRequest, tiny: TrialConfig) -> list[TrialConfig]:
    base = replace(tiny, train_prompt=Points(positive=3), prompt_dropout=0.3, test_prompt=Points(positive=1))
    changes = {"sgd": setting(optimizer=SGD()), "constant": setting(schedule=Constant(), clip_norm=None)}
    deep = {"decoder": setting(adapters=(replace(tiny.adapters[0], encoder="none"),)), **changes}
    design = Factorial({"bce": BCE(), "dice": SoftDice()}) if request.param == "losses" else LeaveOneOut(deep)
    return list(Ablation(base, design, replicates(3), primary="dice", smallest_of_interest=0.01).settings.values())


def drawn(session: Session) -> list[list[torch.Tensor]]:
    """Everything that two epochs draw."""
    found = []
    for number in (1, 2):
        for images, masks, points in batches(session, number):
            found.append([images, masks] if points is None else [images, masks, *points])
    return found


def equal(one: list[list[torch.Tensor]], other: list[list[torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def first(session: Session) -> dict[str, torch.Tensor]:
    return session.attachment.state()


def test_arms_of_one_replicate_differ_in_nothing_but_their_settings(arms: list[TrialConfig], runtime: Runtime) -> None:
    replicate = Replicate(seed=3, fold=1)
    sessions = ((drawn(session), first(session)) for config in arms for session in [start(config, replicate, runtime)])
    seen, adapter = next(sessions)
    for others, state in sessions:
        assert equal(seen, others)
        shared = state.keys() & adapter.keys()
        assert shared
        assert all(torch.equal(state[name], adapter[name]) for name in shared)


def test_another_replicate_draws_otherwise(arms: list[TrialConfig], runtime: Runtime) -> None:
    one, other = (start(arms[0], Replicate(seed=seed), runtime) for seed in (0, 1))
    assert not equal(drawn(one), drawn(other))
