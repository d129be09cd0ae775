"""``python -m benchmarks.search_rates``: how often what a search says is wrong, on simulated studies of known truth.

*Interval over patients*: share of 95 % intervals of a test score that hold the true mean, for few patients with as many
images each, with 1 to 6 images, and with one who has ten times the others' images.

*Stands out*: share of studies of 40 evenly drawn trials of six settings in which one or more settings without effect
stand out, and in which those with an effect do: by fANOVA with small forests, and by the regression with Holm. Effects
are slopes that explain these shares of the score's variance. Ranges are 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution
from rich.console import Console
from rich.table import Table

from benchmarks.error_rates import Rate, plain_json
from benchmarks.machine import machine, save
from harness.importance import Fanova
from harness.importance.regression import regression
from harness.importance.resampling import ALPHA
from sam2lora.intervals import mean_interval

Counts = npt.NDArray[np.int64]

PATIENTS = (2, 3, 4, 6, 10, 28)
IMAGES: Mapping[str, Callable[[int], Counts]] = {
    "2 images each": lambda patients: np.full(patients, 2),
    "1 to 6 images": lambda patients: 1 + np.arange(patients) % 6,
    "1 image, one has 10": lambda patients: np.array([10] + [1] * (patients - 1)),
}
SHARED = (0.0, 0.5, 1.0)
"""Share of the variance between images that lies between patients."""
TRIALS, SETTINGS = 40, 6
SIGNALS = ((), (0.5, 0.3))
FOREST = Fanova(trees=8, resample_trees=8, bootstraps=1, shuffles=19)


def covered(images: Counts, shared: float, studies: int, rng: np.random.Generator) -> Rate:
    """How often the interval holds the true mean of normal scores. ``images``: of each patient (patients,)."""
    owner = np.repeat(np.arange(len(images)), images)
    between = rng.normal(size=(studies, len(images)))[:, owner]
    values = np.sqrt(shared) * between + np.sqrt(1.0 - shared) * rng.normal(size=(studies, len(owner)))
    found = [mean_interval(one, owner) for one in values]
    return Rate.of([one.low <= 0.0 <= one.high for one in found])


def standing_out(shares: Sequence[float], studies: int, rng: np.random.Generator) -> dict[str, Rate]:
    """How often settings are said to matter: *falsely*, and the one with each of ``shares`` of the variance."""
    names = [f"param/{place}" for place in range(SETTINGS)]
    spreads: dict[str, BaseDistribution] = dict.fromkeys(names, FloatDistribution(0.0, 1.0))
    called: dict[str, list[list[bool]]] = {"fanova": [], "regression": []}
    for _ in range(studies):
        drawn = rng.random((TRIALS, SETTINGS))
        value = rng.normal(0.0, np.sqrt(1.0 - sum(shares)), TRIALS)
        value += drawn[:, : len(shares)] @ np.sqrt(12.0 * np.asarray(shares, dtype=float))
        keys = [str(number) for number in range(TRIALS)]
        columns = {"number": range(TRIALS), "key": keys, "outcome": "completed", "value": value}
        trials = pd.DataFrame(columns | dict(zip(names, drawn.T, strict=True)))
        forest = FOREST.importance(trials, rng, spreads, "maximize", blind=True).set_index("parameter").loc[names]
        lines = regression(trials, spreads).set_index("parameter").loc[names]
        called["fanova"].append((forest["importance"] > forest["chance"]).tolist())
        called["regression"].append((lines["holm"] <= ALPHA).tolist())
    rates: dict[str, Rate] = {}
    for how, studied in called.items():
        hits = np.array(studied)
        rates[f"{how}, falsely"] = Rate.of(hits[:, len(shares) :].any(axis=1))
        rates |= {f"{how}, {share:.0%}": Rate.of(hits[:, place]) for place, share in enumerate(shares)}
    return rates


def intervals(studies: int, rng: np.random.Generator) -> dict[str, dict[str, dict[str, Rate]]]:
    """By images of the patients, patients and share of variance."""
    return {
        name: {
            str(patients): {str(shared): covered(images(patients), shared, studies, rng) for shared in SHARED}
            for patients in PATIENTS
        }
        for name, images in IMAGES.items()
    }


def rows(results: Mapping[str, Mapping[str, Mapping[str, Rate]]]) -> Iterator[Table]:
    """Coverage by images and patients."""
    table = Table("images", "patients", *(f"{100 * shared:.0f} % between patients" for shared in SHARED))
    for name, by_patients in results.items():
        for patients, by_share in by_patients.items():
            table.add_row(name, patients, *map(str, by_share.values()))
    yield table


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.search_rates", description=first)
    command.add_argument("--studies", type=int, default=2000, metavar="N", help="studies of a scenario")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/search_rates.json"), metavar="FILE")
    arguments = command.parse_args()
    described, begun, console = machine(), time.perf_counter(), Console()
    rng, *others = np.random.default_rng(arguments.seed).spawn(1 + len(SIGNALS))
    covers = intervals(arguments.studies, rng)
    for table in rows(covers):
        console.print(table)
    stands = {
        ", ".join(f"{share:.0%}" for share in shares) or "noise": standing_out(shares, arguments.studies // 4, other)
        for shares, other in zip(SIGNALS, others, strict=True)
    }
    for name, rates in stands.items():
        for what, rate in rates.items():
            console.print(f"{name}: {what} {rate}", highlight=False)
    result = {
        "machine": described, "studies": arguments.studies, "seed": arguments.seed,
        "seconds": round(time.perf_counter() - begun, 1), "intervals": covers, "stands_out": stands,
    }  # fmt: skip
    save(plain_json(result), arguments.out)


if __name__ == "__main__":
    main()
