"""A trial that diverges within a pack, and its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.gpu.bench import Bench, lines
from benchmarks.gpu.lines import Law, Line
from benchmarks.gpu.parts.packing import LIMITS
from benchmarks.gpu.training import Trial, alone, farthest, together, trials
from sam2lora.errors import Diverged
from sam2lora.optimizers import SGD


def divergence(bench: Bench) -> Iterator[Line]:
    """The trial says how it diverged, and its neighbours end as they do alone."""
    yield from lines(bench, [("a pack of 3", lambda: _diverged(bench))])


def _diverged(bench: Bench) -> Iterator[Line]:
    first, (config, replicate), last = trials(bench, 3)
    wild = (replace(config, optimizer=SGD(lr=1e30), clip_norm=None), replicate)
    fault, expected = _fault(wild, bench), [alone(first, bench), alone(last, bench)]
    before, found, after = together([first, wild, last], bench)
    same = isinstance(found, Diverged) and str(found) == str(fault)
    yield Law("the one in the middle diverges as it does alone", same, {"alone": str(fault), "in a pack": str(found)})
    apart = farthest([before, after], expected)
    yield Law("its neighbours end as they do alone", apart.within(LIMITS["float32"]), apart.values)


def _fault(trial: Trial, bench: Bench) -> Diverged | None:
    try:
        alone(trial, bench)
    except Diverged as error:
        return error
    return None
