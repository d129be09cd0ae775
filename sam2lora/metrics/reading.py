"""How the numbers of a metric are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """How a metric is read: its ``name`` in the literature, its ``unit`` (none for a share) and which way is better.

    ``low``, ``high``: its smallest and its largest value, to which an interval is cut.
    """

    name: str
    unit: str = ""
    smaller: bool = False
    low: float = 0.0
    high: float = 1.0

    @property
    def range(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high
