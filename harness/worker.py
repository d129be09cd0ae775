"""What a worker does for one trial: a generator that yields one dict per epoch, and knows nothing of Ray."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sam2lora.artifacts import CHECKPOINT, finish
from sam2lora.choice import from_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import Diverged
from sam2lora.memory import is_out_of_memory
from sam2lora.runtime import Runtime
from sam2lora.train import Session, check_parts, epoch, resume, save, start

Ending = Literal["completed", "diverged", "out_of_memory"]


@dataclass(frozen=True)
class Order:
    """One trial to run: its key, its settings and replicate as JSON, where to run, and where its files go."""

    key: str
    config: str
    replicate: str
    runtime: Runtime
    folder: str


def work(order: Order) -> Iterator[dict[str, Any]]:
    """Run a trial; yield ``{"epoch", "score", "entry", "cost", "ending", "why"}`` after every epoch.

    ``ending`` is None until the last item. A trial that an earlier worker left goes on from its last epoch; the epochs
    that are already done are yielded again first, so that a scheduler sees the whole curve. Test scores are not
    yielded: they are written to the trial's folder, where neither a sampler nor a scheduler looks.
    """
    folder = Path(order.folder)
    done = 0
    try:
        session = _open(order, folder)
        for entry in list(session.curve):
            done = int(entry["epoch"])
            if done < session.config.epochs:
                yield _progress(session, entry)
        while not session.finished:
            entry = epoch(session)
            done = int(entry["epoch"])
            save(session, folder / CHECKPOINT)
            if not session.finished:
                yield _progress(session, entry)
        finish(session, order.key, folder)
        yield _progress(session, session.curve[-1]) | {"ending": "completed", "why": "all epochs ran"}
    except Diverged as error:
        yield _ended("diverged", done + 1, str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield _ended("out_of_memory", done + 1, str(error).partition("\n")[0])


def _open(order: Order, folder: Path) -> Session:
    session = start(from_json(TrialConfig, order.config), from_json(Replicate, order.replicate), order.runtime)
    check_parts(session.sources, session.replicate.fold)
    if (folder / CHECKPOINT).exists():
        resume(session, folder / CHECKPOINT)
    return session


def _progress(session: Session, entry: dict[str, float]) -> dict[str, Any]:
    return {
        "epoch": int(entry["epoch"]),
        "score": entry["score"],
        "entry": entry,
        "cost": asdict(session.cost),
        "ending": None,
        "why": "",
    }


def _ended(ending: Ending, epoch: int, why: str) -> dict[str, Any]:
    return {"epoch": epoch, "entry": None, "cost": {}, "ending": ending, "why": why}
