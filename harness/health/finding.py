"""What an examination finds: a thing that is as it should be, or a problem."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sound:
    """``subject`` is as it should be; ``value`` says how it is."""

    subject: str
    value: str

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Problem:
    """``subject`` breaks a ``rule``, as its ``value`` shows; ``remedy``: what a person does about it. All clauses."""

    subject: str
    rule: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}, but {self.value}: {self.remedy}."


Finding = Sound | Problem
