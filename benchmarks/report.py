"""``python -m benchmarks.report``: what the report of a large ablation costs.

Writes simulated records of some sizes (8 arms, 6 test sets of 33 images each: 2 million image rows at 10,000 trials),
reports each in a process of its own, and measures wall time, processor time and peak memory. Growth is the exponent of
the time between the two largest sizes: 1 is linear. The small report is what one waits for after ``make demo``. All
modules are compiled beforehand, as for anybody who starts Python a second time.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save
from harness.record.locations import default_storage
from harness.simulation.examples import loss_components
from harness.simulation.study import write

ARMS = 8
IMAGES = 33
TARGETS = ("cedar", "willow", "rowan", "hazel", "maple", "aspen")
_PROGRAM = """
import resource, sys, time
begun = time.perf_counter()
from harness.cli import fast_exit
from harness.report import main
status = fast_exit.run(lambda: main(sys.argv[1:]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(status, time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
"""


@dataclass(frozen=True)
class Measured:
    """One report: trials, rows of images, seconds of wall and processor time, peak MiB, seconds to write the record."""

    trials: int
    rows: int
    wall: float
    processor: float
    peak_mib: float
    written: float


def measure(trials: int, images: int, folder: Path) -> Measured:
    """Write a record of about ``trials`` and report it."""
    begun = time.perf_counter()
    study = loss_components(trials // ARMS, 0, dict.fromkeys(TARGETS, images))
    write(study, default_storage(folder), folder)
    written = time.perf_counter() - begun
    command = [sys.executable, "-c", _PROGRAM, study.name, "--out", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=_compiled(folder.parent))
    status, wall, processor, peak = ran.stderr.split()[-4:]
    if status != "0":
        raise RuntimeError(f"the report must end with status 0, but ended with {status}: {ran.stderr}")
    count = int(study.cells.finished.sum())
    rows = count * sum(len(target.patients) for target in study.cells.targets)
    return Measured(study.cells.finished.size, rows, float(wall), float(processor), float(peak), written)


def _compiled(folder: Path) -> dict[str, str]:
    """An environment in which compiled modules are kept in ``folder``, whatever this process was told about them."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return own | {"OMP_NUM_THREADS": "2", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.report", description=first)
    command.add_argument("--trials", type=int, nargs="+", default=[40, 1_000, 3_000, 10_000], metavar="N")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/report.json"), metavar="FILE")
    given = command.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    described = machine()
    table = Table("trials", "image rows", "wall s", "processor s", "peak MiB", "record written in s")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        compiling = Path(folder) / "first"
        compiling.mkdir()
        measure(ARMS * 3, IMAGES, compiling)
        for trials in given.trials:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                runs.append(measure(trials, IMAGES, Path(own)))
    for one in runs:
        table.add_row(
            f"{one.trials:,}", f"{one.rows:,}", f"{one.wall:.1f}", f"{one.processor:.1f}", f"{one.peak_mib:.0f}",
            f"{one.written:.1f}",
        )  # fmt: skip
    Console().print(table)
    growth = math.nan
    if len(runs) > 1:
        growth = math.log(runs[-1].processor / runs[-2].processor) / math.log(runs[-1].trials / runs[-2].trials)
        Console().print(f"growth between the two largest: processor time ~ trials^{growth:.2f}")
    result = {"machine": described, "growth": growth, "runs": [asdict(run) for run in runs]}
    save(result, given.out)


if __name__ == "__main__":
    main()
