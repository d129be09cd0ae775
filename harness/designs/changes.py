"""Differences of an arm from the base: named changes, and components of the loss."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import combinations
from typing import Any, cast

from sam2lora.choice import kinds
from sam2lora.config import TrialConfig
from sam2lora.losses import Loss
from sam2lora.settings import differences
from sam2lora.weighted_loss import equal

Change = Callable[[TrialConfig], TrialConfig]
"""Settings -> settings. It must set the same fields to the same values whatever changed before."""
Factor = Loss | Change
"""Something that is in an arm or not: a component of the loss, or a change."""

_LOSSES = tuple(kinds(Loss).values())
BASE = "base"
"""The name of the arm that is the base itself."""


def setting(**values: Any) -> Change:
    """The change that gives fields of the settings other values: ``setting(clip_norm=None)``.

    Raises ``ValueError`` for a field that ``TrialConfig`` does not have; a value is checked when it is put in.
    """
    known = [field.name for field in fields(TrialConfig)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}."
            raise ValueError(f"A change must name fields of TrialConfig, but there is no {name!r}: {hint}")
    return lambda config: replace(config, **values)


def losses_of(factors: Mapping[str, Factor]) -> dict[str, Loss]:
    """The components of the loss among some factors."""
    return {name: cast("Loss", factor) for name, factor in factors.items() if isinstance(factor, _LOSSES)}


def changes_of(factors: Mapping[str, Factor]) -> dict[str, Change]:
    """The changes among some factors."""
    return {name: cast("Change", factor) for name, factor in factors.items() if not isinstance(factor, _LOSSES)}


def present(base: TrialConfig, factors: Mapping[str, Factor]) -> TrialConfig:
    """The base with its loss replaced by the mean of the losses among ``factors``, if any, and every change made."""
    config, losses = base, losses_of(factors)
    for change in changes_of(factors).values():
        config = change(config)
    return replace(config, loss=equal(*losses.values())) if losses else config


def check_apart(base: TrialConfig, factors: Mapping[str, Factor]) -> None:
    """Raise ``ValueError`` when two changes touch one setting: which of the two an arm has would depend on order."""
    touched = {name: set(differences(base, change(base))) for name, change in changes_of(factors).items()}
    touched |= {name: {"loss"} for name in list(losses_of(factors))[:1]}
    for one, other in combinations(touched, 2):
        both = sorted(a for a in touched[one] for b in touched[other] if within(a, b) or within(b, a))
        if both:
            raise ValueError(
                f"Factors must change different settings, so that their order does not matter, but {one!r} and "
                f"{other!r} both change {', '.join(both)}: make them levels of one factor."
            )


def within(path: str, other: str) -> bool:
    """Whether ``path`` is ``other`` or lies inside it."""
    return path == other or path.startswith(f"{other}.")


def check_joint(base: TrialConfig, arms: Mapping[str, TrialConfig], factor: tuple[str, ...]) -> None:
    """Raise ``ValueError`` when an arm changes more than ``factor``, the paths that a one-factor design declares."""
    for name, config in arms.items():
        stray = sorted(path for path in differences(base, config) if not any(within(path, own) for own in factor))
        if stray:
            raise ValueError(
                f"An arm must change nothing but {', '.join(factor)}, which its design declares, but {name!r} changes "
                f"{', '.join(stray)}, too: leave that alone, or declare that they change jointly."
            )


def named(factors: Mapping[str, Factor], least: int, most: int, design: str) -> None:
    """Raise ``ValueError`` unless there are ``least`` to ``most`` factors, no two of them an equal loss."""
    if not least <= len(factors) <= most:
        raise ValueError(
            f"{design} must have {least} to {most} factors, but has {len(factors)}: "
            f"{'add some' if len(factors) < least else 'split it, or leave some out'}."
        )
    losses = list(losses_of(factors).values())
    for place, loss in enumerate(losses):
        if loss in losses[:place]:
            raise ValueError(f"Factors must differ, but the loss {loss} is there twice: leave one out.")
