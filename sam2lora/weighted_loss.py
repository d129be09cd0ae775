"""The loss of a trial: a convex combination of losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Annotated, Self

from annotated_types import Gt, Le, MinLen
from pydantic import model_validator
from torch import Tensor

from sam2lora.choice import choice
from sam2lora.losses import Loss

_TOLERANCE = 1e-6


@choice
class Term:
    """One loss and its weight. The weight is positive: what is absent is not a term, and costs nothing."""

    loss: Loss
    weight: Annotated[float, Gt(0), Le(1 + _TOLERANCE)]


@choice
class WeightedLoss:
    """``sum_i w_i L_i`` with weights that sum to 1 (to 1e-6).

    Free weights would hold one dimension too many: optimizers of the Adam type do not see a common factor of the loss.
    Terms with equal settings are refused, as only the sum of their weights would matter.
    """

    terms: Annotated[tuple[Term, ...], MinLen(1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        losses = [term.loss for term in self.terms]
        twice = [loss for i, loss in enumerate(losses) if loss in losses[:i]]
        if twice:
            raise ValueError(f"Every term must differ from the others, but {twice[0]} stands twice: add its weights.")
        total = fsum(term.weight for term in self.terms)
        if abs(total - 1) > _TOLERANCE:
            raise ValueError(f"Weights must sum to 1, but sum to {total:.9g}: divide each of them by the sum.")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each term: the kind of its loss; a second loss of the same kind is ``<kind>_2``, and so on."""
        return numbered([term.loss.kind for term in self.terms])

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term by its name. A loss that is absent has no entry."""
        return dict(zip(self.names, (term.weight for term in self.terms), strict=True))

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The loss of each term."""
        return tuple(term.loss for term in self.terms)

    def __call__(self, logits: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(N, 1, H, W) logits and mask -> the weighted sum (N,) and the unweighted losses (N,) by the name of the term.

        The parts are detached: only the sum is meant to be differentiated.
        """
        values = {name: loss(logits, target) for name, loss in zip(self.names, self.losses, strict=True)}
        first, *others = (self.weights[name] * value for name, value in values.items())
        return sum(others, start=first), {name: value.detach() for name, value in values.items()}


def numbered(kinds: Sequence[str]) -> tuple[str, ...]:
    """``kinds``, the second of a kind as ``<kind>_2``, and so on."""
    nth = [kinds[: i + 1].count(kind) for i, kind in enumerate(kinds)]
    return tuple(kind if n == 1 else f"{kind}_{n}" for kind, n in zip(kinds, nth, strict=True))


def weighted(weights: Mapping[Loss, float] | Iterable[tuple[Loss, float]]) -> WeightedLoss:
    """The weighted loss of ``{BCE(): 0.3, SoftDice(): 0.7}``, or of such pairs, without those of weight exactly 0.

    Raises ``pydantic.ValidationError`` if a weight is negative or if the weights do not sum to 1.
    """
    pairs = weights.items() if isinstance(weights, Mapping) else weights
    return WeightedLoss(terms=tuple(Term(loss=loss, weight=weight) for loss, weight in pairs if weight != 0))


def equal(*losses: Loss) -> WeightedLoss:
    """The mean of the given losses."""
    return weighted((loss, 1 / len(losses)) for loss in losses)
