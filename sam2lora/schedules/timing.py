"""Where a step lies within a run: what the schedules share."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Lt

Share = Annotated[float, Ge(0), Lt(1)]
"""A share of the run's steps."""

Span = Annotated[int, Gt(0)] | Annotated[float, Gt(0), Lt(1)]
"""A length of time: an int counts optimizer steps, a float is a share of the run."""


def check(step: int, total: int) -> None:
    """Raises ``ValueError`` unless ``0 <= step <= total`` and ``total >= 1``."""
    if total < 1 or not 0 <= step <= total:
        raise ValueError(f"A run has at least one step and steps are 0..total, but step is {step} and total {total}.")


def in_steps(span: int | float, total: int) -> int:
    """The length of ``span`` in steps of a run of ``total`` steps, rounded; at least 1."""
    return span if isinstance(span, int) else max(1, round(span * total))


def warm(step: int, total: int, warmup: float) -> tuple[float, float]:
    """The factor of the warm-up, and the progress in [0, 1] of the rest of the run.

    The warm-up is linear over the first ``round(warmup * total)`` steps: the first is not wasted on a rate of 0, the
    last has factor 1. Progress is 0 during the warm-up and on the step after it, and 1 on step ``total``.
    """
    check(step, total)
    rising = round(warmup * total)
    rise = min(1.0, (step + 1) / rising) if rising else 1.0
    return rise, max(0, step - rising) / max(1, total - rising)
