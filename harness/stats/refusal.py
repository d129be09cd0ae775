"""What cannot be answered is a value: the rule that forbids it, what was found, and what would help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refused:
    """An answer that the data cannot give. Each part is a clause without a full stop."""

    rule: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}, but {self.found}: {self.remedy}."
