"""The law of packing on the device: a trial is the same alone as in any company, up to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu.bench import PRECISIONS, Bench, Precision, lines
from benchmarks.gpu.lines import Law, Line, Measured
from benchmarks.gpu.training import Distance, alone, distance, farthest, together, trials
from sam2lora.errors import Diverged

LIMITS: dict[Precision, Distance] = {
    "float32": Distance(loss=1e-4, score=1e-3, adapter=1e-3),
    "bfloat16": Distance(loss=1e-2, score=1e-2, adapter=float("inf")),
}
"""What `sam2lora.training.packing` promises. Adam divides by the size of a
gradient: where that is all rounding, so is its step."""


def packing(bench: Bench) -> Iterator[Line]:
    """For each precision: how far two runs of one trial lie apart, then packs of several sizes from lone trials."""
    yield from lines(bench, [(name, partial(_packed, bench, name)) for name in PRECISIONS])


def _packed(bench: Bench, precision: Precision) -> Iterator[Line]:
    company = trials(bench, max(bench.form.companies), precision)
    expected = [alone(trial, bench) for trial in company]
    yield Measured(f"{precision}, alone, twice", distance(alone(company[0], bench), expected[0]).values)
    for count in bench.form.companies:
        found = together(company[:count], bench)
        apart = farthest(found, expected[:count])
        faults = [str(one) for one in found if isinstance(one, Diverged)]
        holds = not faults and apart.within(LIMITS[precision])
        yield Law(f"{precision}, pack of {count}", holds, {**apart.values, "diverged": "; ".join(faults)})
