"""``python -m benchmarks.search_rates``: how often what a search says is wrong, on simulated studies of known truth.

*Interval over patients*: share of 95 % intervals of a test score that hold the true mean, for few patients with as many
images each, with 1 to 6 images, and with one who has ten times the others' images. Ranges are 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.error_rates import Rate, plain_json
from benchmarks.machine import machine, save
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


def covered(images: Counts, shared: float, studies: int, rng: np.random.Generator) -> Rate:
    """How often the interval holds the true mean of normal scores. ``images``: of each patient (patients,)."""
    owner = np.repeat(np.arange(len(images)), images)
    between = rng.normal(size=(studies, len(images)))[:, owner]
    values = np.sqrt(shared) * between + np.sqrt(1.0 - shared) * rng.normal(size=(studies, len(owner)))
    found = [mean_interval(one, owner) for one in values]
    return Rate.of([one.low <= 0.0 <= one.high for one in found])


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
    (rng,) = np.random.default_rng(arguments.seed).spawn(1)
    covers = intervals(arguments.studies, rng)
    for table in rows(covers):
        console.print(table)
    result = {
        "machine": described, "studies": arguments.studies, "seed": arguments.seed,
        "seconds": round(time.perf_counter() - begun, 1), "intervals": covers,
    }  # fmt: skip
    save(plain_json(result), arguments.out)


if __name__ == "__main__":
    main()
