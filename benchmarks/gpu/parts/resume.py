"""A trial that is killed in the middle of an epoch and goes on from its checkpoint, against one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks.gpu.bench import Bench, lines
from benchmarks.gpu.engines import epoch, orders
from benchmarks.gpu.lines import Law, Line
from benchmarks.gpu.process import Ended, results
from benchmarks.gpu.training import trials
from harness.execution.engine import Engine
from sam2lora.files import ADAPTER, IMAGES, RESULT

_PATIENCE = 120.0
_EPOCHS = 2
_KILLED_AT = 4
"""The optimizer step that never comes: the second of the second epoch."""


@dataclass(frozen=True)
class Left:
    """What a trial left: its curve, its adapter, the rows of its test images, and the seconds that it took."""

    curve: list[dict[str, float]]
    adapter: dict[str, torch.Tensor]
    rows: pd.DataFrame
    seconds: float
    warned: tuple[str, ...]


def resume(bench: Bench) -> Iterator[Line]:
    """With torch's deterministic algorithms, which the law is about, and with its usual ones."""
    cases = {"deterministic algorithms": True, "usual algorithms": False}
    yield from lines(bench, [(name, partial(_resumed, bench, name, on)) for name, on in cases.items()])


def _resumed(bench: Bench, name: str, deterministic: bool) -> Iterator[Line]:
    folder = bench.folder / f"resume {name}"
    whole, again = (_trained(bench, folder / part, deterministic, None) for part in ("whole", "again"))
    killed = _trained(bench, folder / "killed", deterministic, _KILLED_AT)
    if killed is not None or whole is None or again is None:
        raise RuntimeError("Exactly the trial that is to be killed must end early, but another did, or it did not.")
    resumed = _trained(bench, folder / "killed", deterministic, None)
    if resumed is None:
        raise RuntimeError("A trial must go on from its checkpoint, but its process ended.")
    repeats = _equal(whole, again)
    # Atomic sums in another order make two usual runs differ on a GPU; then nothing can be asked of a resumed one.
    holds = _equal(whole, resumed) or (not deterministic and not repeats)
    yield Law(name, holds, {
        "two runs equal bit for bit": repeats,
        "resumed equal bit for bit": _equal(whole, resumed),
        "adapter, two runs": _apart(whole, again),
        "adapter, resumed": _apart(whole, resumed),
        "seconds": whole.seconds,
        "not deterministic": "; ".join(whole.warned),
    })  # fmt: skip


def _trained(bench: Bench, folder: Path, deterministic: bool, killed_at: int | None) -> Left | None:
    """What the trial left in ``folder``; None if its process was killed."""
    begun = time.monotonic()
    found = list(results(lambda: _train(bench, folder, deterministic, killed_at), _PATIENCE))
    seconds = time.monotonic() - begun
    if isinstance(found[-1], Ended) and found[-1].why is not None:
        if "SIGKILL" in found[-1].why:
            return None
        raise RuntimeError(found[-1].why)
    home = folder / "0"
    curve = [
        {name: value for name, value in entry.items() if name != "seconds"}
        for entry in json.loads((home / RESULT).read_text())["curve"]
    ]
    return Left(curve, load_file(home / ADAPTER), pd.read_parquet(home / IMAGES), seconds, found[0])


def _train(bench: Bench, folder: Path, deterministic: bool, killed_at: int | None) -> Iterator[Any]:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_pre_hook(count)
    engine, asked = Engine(), orders(bench, trials(bench, 1), folder)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for done in range(_EPOCHS):
            epoch(engine, asked, done)
    yield tuple(
        dict.fromkeys(
            str(one.message).partition(" does not have")[0] for one in heard if "determin" in str(one.message)
        )
    )


def _equal(a: Left, b: Left) -> bool:
    same = a.adapter.keys() == b.adapter.keys() and all(torch.equal(t, b.adapter[n]) for n, t in a.adapter.items())
    return same and a.curve == b.curve and a.rows.equals(b.rows)


def _apart(a: Left, b: Left) -> float:
    return float(np.max([float((tensor - b.adapter[name]).abs().max()) for name, tensor in a.adapter.items()]))
