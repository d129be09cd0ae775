"""What an adapter does in a pack, where several trials share one frozen segmenter: its packed form, or why it has none.

A tensor that reaches a site has the images of all trials on its leading axis, trial by trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from sam2lora.adapters.dropout import Draws


class Packed(Protocol):
    """An adapter of K trials. ``modules``: one for each site, which stands for those of all trials."""

    modules: Sequence[nn.Module]

    def gradients(self) -> AbstractContextManager[None]:
        """Room for the gradients of every trial's Parameters, for the time of the block."""

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""


class InTurn:
    """Each trial's own module, called on the images of its trial: the packed form of any adapter.

    The frozen layers are still launched once for all trials, a site's module once for each. It takes modules that map
    one tensor to another image by image, and draw nothing. Stacking their Parameters for ``torch.func.vmap`` would
    launch once at a site, too, but was slower on a CPU for packs of 2, needs equal shapes and settings, and refuses
    what changes a tensor in place.
    """

    def __init__(self, sites: Sequence[Sequence[nn.Module]], draws: Draws | None) -> None:
        """``sites``: each with the module of every trial. ``draws``: unused."""
        self.modules: Sequence[nn.Module] = [_InTurn(modules) for modules in sites]

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Optimizers find no gradient that is left of the block."""
        try:
            yield
        finally:
            self.zero_grad()

    def zero_grad(self) -> None:
        """Drop them, as a trial alone does."""
        for module in self.modules:
            module.zero_grad(set_to_none=True)


class _InTurn(nn.Module):
    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trials = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.trials))
        return torch.cat([module(part) for module, part in zip(self.trials, parts, strict=True)])


@dataclass(frozen=True)
class PackForm:
    """How adapters of several trials stand in a pack: those of equal ``key`` on equal backbones can.

    ``build``: from the sites, each with the module of every trial, and from what they draw in training (None where
    they are evaluated), to the packed form.
    """

    key: str
    build: Callable[[Sequence[Sequence[nn.Module]], Draws | None], Packed] = InTurn


@dataclass(frozen=True)
class NoPackForm:
    """An adapter that trains alone, and the ``reason``: a clause that a plan ends with."""

    reason: str
