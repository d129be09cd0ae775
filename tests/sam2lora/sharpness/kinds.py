"""Kinds of sharpness for tests: what a step may ask for, in the least code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from sam2lora.choice import choice
from sam2lora.config import TrialConfig
from sam2lora.optimizers import Group
from sam2lora.sharpness import Ask, Memory, Off, Passes, Plan


def climb(groups: Sequence[Group], rho: float) -> list[tuple[nn.Parameter, Tensor]]:
    """Go ``rho`` along the gradient; the weights as they were."""
    moved = [p for group in groups for p in group.parameters.values() if p.grad is not None]
    kept = [(p, p.clone()) for p in moved]
    scale = rho / (torch.stack([p.grad.norm() for p in moved if p.grad is not None]).norm() + 1e-12)
    for p in moved:
        assert p.grad is not None
        p.add_(p.grad * scale)
    return kept


def restore(kept: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    for p, before in kept:
        p.copy_(before)


@choice
class TwoPass:
    """SAM (Foret et al. 2021)."""

    perturbs: ClassVar[bool] = True
    selects_images: ClassVar[bool] = False
    kind: Literal["two_pass"] = "two_pass"
    rho: float = 0.05

    @property
    def passes(self) -> Passes:
        return Passes(2, 2)

    @property
    def copies(self) -> int:
        return 1

    def step(self, groups: Sequence[Group], memory: Memory, rng: np.random.Generator) -> Plan:
        yield Ask()
        kept = climb(groups, self.rho)
        yield Ask()
        restore(kept)


@choice
class Selecting:
    """SAM on the images whose loss rises most, as ESAM does (Du et al. 2022)."""

    perturbs: ClassVar[bool] = True
    selects_images: ClassVar[bool] = True
    kind: Literal["selecting"] = "selecting"
    rho: float = 0.05
    share: float = 0.5

    @property
    def passes(self) -> Passes:
        return Passes(3, 2)

    @property
    def copies(self) -> int:
        return 1

    def step(self, groups: Sequence[Group], memory: Memory, rng: np.random.Generator) -> Plan:
        before = yield Ask()
        kept = climb(groups, self.rho)
        after = yield Ask(backward=False)
        yield Ask(images=(after - before).topk(math.ceil(self.share * len(after))).indices)
        restore(kept)


@choice
class Rhythmic:
    """SAM in every third step, whose gradient helps in the two between, as LookSAM does (Liu et al. 2022)."""

    perturbs: ClassVar[bool] = True
    selects_images: ClassVar[bool] = False
    kind: Literal["rhythmic"] = "rhythmic"
    rho: float = 0.05

    @property
    def passes(self) -> Passes:
        return Passes(2, 2)

    @property
    def copies(self) -> int:
        return 2

    def step(self, groups: Sequence[Group], memory: Memory, rng: np.random.Generator) -> Plan:
        yield Ask()
        number = int(memory.get("steps", 0))
        memory["steps"] = number + 1
        named = {name: p for group in groups for name, p in group.parameters.items()}
        if number % 3 == 0:
            kept = climb(groups, self.rho)
            yield Ask()
            restore(kept)
            memory.update({f"gradient {name}": p.grad.clone() for name, p in named.items() if p.grad is not None})
            return
        for name, p in named.items():
            if p.grad is not None:
                p.grad.add_(memory[f"gradient {name}"], alpha=0.5)


@choice
class Sparse:
    """A random half of the tensors takes part in a step, as in SL-SAM (Cheng et al. 2026); or it is a plain step."""

    perturbs: ClassVar[bool] = True
    selects_images: ClassVar[bool] = False
    kind: Literal["sparse"] = "sparse"
    rho: float = 0.05

    @property
    def passes(self) -> Passes:
        return Passes(2, 2)

    @property
    def copies(self) -> int:
        return 1

    def step(self, groups: Sequence[Group], memory: Memory, rng: np.random.Generator) -> Plan:
        yield Ask()
        if rng.random() < 0.5:
            kept = climb(groups, self.rho)
            yield Ask()
            restore(kept)
        for group in groups:
            for place, p in enumerate(group.parameters.values()):
                if (place // 2 + int(rng.integers(2))) % 2:
                    p.grad = None


KINDS = (TwoPass, Selecting, Rhythmic, Sparse)


@choice
class Sharp(TrialConfig):
    """The settings of a trial that has one of these."""

    sharpness: Annotated[Off | TwoPass | Selecting | Rhythmic | Sparse, Field(discriminator="kind")]  # type: ignore[assignment]


def sharp(config: TrialConfig, sharpness: Any, **changes: Any) -> Sharp:
    """``config`` with one of these."""
    same = {each.name: getattr(config, each.name) for each in fields(config)}
    return Sharp(**{**same, **changes, "sharpness": sharpness})
