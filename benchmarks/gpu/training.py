"""Trials as the laws compare them: how each ended, and how far two endings lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Precision, config
from sam2lora.adapters import LoRA
from sam2lora.auxiliary import IoUError
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.losses import BCE, FocalTversky, SoftDice
from sam2lora.optimizers import SGD, AdamW
from sam2lora.training import loop, packing
from sam2lora.training.session import Session, start
from sam2lora.weighted_loss import weighted

Trial = tuple[TrialConfig, Replicate]


@dataclass(frozen=True)
class Ended:
    """The losses and the validation score of every epoch, and the adapter after the last one."""

    losses: list[float]
    scores: list[float]
    adapter: dict[str, Tensor]


@dataclass(frozen=True)
class Distance:
    """The largest relative difference of a loss, the largest of a score, and the largest of an adapter's element."""

    loss: float
    score: float
    adapter: float

    @property
    def none(self) -> bool:
        """Whether both are equal bit for bit."""
        return self == Distance(0.0, 0.0, 0.0)

    @property
    def values(self) -> dict[str, float]:
        """All three, named for a table."""
        return {"loss, relative": self.loss, "score": self.score, "adapter": self.adapter}

    def within(self, limit: Distance) -> bool:
        """Whether none is larger than that of ``limit``; NaN is not."""
        return self.loss <= limit.loss and self.score <= limit.score and self.adapter <= limit.adapter


def trials(bench: Bench, count: int, precision: Precision = "float32") -> list[Trial]:
    """Up to eight trials of one signature, whose ranks, losses, optimizers and replicates differ."""
    start = config(bench.form.checked, bench.form.checked_size, precision=precision)
    ranks = (8, 2, 16, 5, 1, 32, 3, 12)
    losses = (start.loss, weighted([(BCE(), 0.2), (SoftDice(), 0.8)]), weighted([(FocalTversky(), 1.0)]))
    optimizers = (AdamW(), AdamW(lr=3e-4, weight_decay=0.1), SGD(lr=0.01))
    return [
        (
            _changed(start, ranks[n], losses[n % 3], optimizers[n // 2 % 3], (IoUError(weight=0.2),) if n == 3 else ()),
            Replicate(seed=n // 3),
        )
        for n in range(count)
    ]


def _changed(start: TrialConfig, rank: int, loss: object, optimizer: object, auxiliary: object) -> TrialConfig:
    changes = {"adapters": (LoRA(rank=rank, alpha=2.0 * rank, dropout=0.1),), "loss": loss, "optimizer": optimizer}
    return TrialConfig(**{**vars(start), **changes, "auxiliary": auxiliary})


def alone(trial: Trial, bench: Bench, features_mib: int = 0) -> Ended:
    """How a trial ends by itself. Raises ``Diverged``."""
    session = start(*trial, bench.runtime(features_mib))
    for _ in range(trial[0].epochs):
        loop.epoch(session)
    return ended(session)


def together(company: Sequence[Trial], bench: Bench) -> list[Ended | Diverged]:
    """How each of the trials of one pack ends; one that diverges leaves it."""
    sessions = [start(*trial, bench.runtime()) for trial in company]
    faults: dict[int, Diverged] = {}
    for _ in range(company[0][0].epochs):
        staying = [place for place in range(len(sessions)) if place not in faults]
        entries = packing.epoch([sessions[place] for place in staying])
        faults |= {place: entry for place, entry in zip(staying, entries, strict=True) if isinstance(entry, Diverged)}
    return [faults[place] if place in faults else ended(session) for place, session in enumerate(sessions)]


def ended(session: Session) -> Ended:
    """Where a session stands."""
    losses = [value for entry in session.curve for name, value in entry.items() if name.startswith("loss/")]
    scores = [entry["score"] for entry in session.curve]
    return Ended(losses, scores, session.attachment.state())


def distance(found: Ended, expected: Ended) -> Distance:
    """How far two endings of one trial lie apart."""
    a, b = torch.tensor([found.losses, expected.losses], dtype=torch.float64)
    c, d = torch.tensor([found.scores, expected.scores], dtype=torch.float64)
    apart = [float((found.adapter[name] - tensor).abs().max()) for name, tensor in expected.adapter.items()]
    return Distance(float(((a - b).abs() / b.abs()).max()), float((c - d).abs().max()), float(np.max(apart)))


def farthest(found: Sequence[Ended | Diverged], expected: Sequence[Ended]) -> Distance:
    """The largest of each difference, NaN where there is one; infinite where a trial has diverged."""
    none = Distance(*3 * (float("inf"),))
    apart = [distance(one, lone) if isinstance(one, Ended) else none for one, lone in zip(found, expected, strict=True)]
    # Not Python's maximum, which passes over NaN.
    return Distance(*(float(np.max([getattr(one, part) for one in apart])) for part in ("loss", "score", "adapter")))
