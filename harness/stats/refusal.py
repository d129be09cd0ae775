"""A question that the data cannot answer, as a value: the rule, what breaks it, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refused:
    """An answer that the data cannot give. Each part is a clause without a full stop."""

    rule: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}, but {self.value}: {self.remedy}."
