"""Trials of an engine, as a search asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.training import Trial
from harness.execution.engine import Engine
from harness.execution.messages import EpochReport, TrialOrder
from sam2lora.choice import to_json


def orders(bench: Bench, trials: Sequence[Trial], folder: Path) -> list[TrialOrder]:
    """An order for each trial, its files under ``folder``."""
    return [
        TrialOrder(str(n), to_json(config), to_json(replicate), bench.runtime(), str(folder / str(n)))
        for n, (config, replicate) in enumerate(trials)
    ]


def epoch(engine: Engine, asked: Sequence[TrialOrder], done: int) -> Mapping[str, EpochReport]:
    """What comes after the first ``done`` epochs of each trial, by its key. Raises what went wrong with any of them."""
    items = engine.advance([(order, done) for order in asked])
    for item in items.values():
        if isinstance(item, Exception):
            raise item
    return {key: item for key, item in items.items() if not isinstance(item, Exception)}
