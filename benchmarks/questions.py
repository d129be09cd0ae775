"""``python -m benchmarks.questions``: how long each question of `harness.stats` takes.

Three tables of scores: an ablation (7 arms x 15 replicates x 6 data sets x 40 images), and two shapes of 10,000 trials
x 6 data sets x 33 images, 2 million scores: many replicates of 7 arms, and 5 replicates of many arms. Seconds of the
processor are written beside those of the clock, which on a busy machine are several times as many.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save
from harness.stats.aggregate import aggregates
from harness.stats.missing_data import missing
from harness.stats.mixed_model import mixed
from harness.stats.mixture import fit_mixture, mixture_runs
from harness.stats.ranks import ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair, Target
from harness.stats.shapley import coalitions, interactions, main_effect, shapley_values
from harness.stats.tuning_curves import tuning_curves
from harness.stats.variance_components import variances

SIZES = {"ablation": (7, 15, 6, 40), "replicates": (7, 1428, 6, 33), "arms": (2000, 5, 6, 33)}
CENTROID = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)]
LOSSES = ("bce", "dice", "ft")


def scores(arms: int, replicates: int, sets: int, images: int) -> Cells:
    """Cells of scores with effects of every kind and one trial in a hundred failed."""
    rng = np.random.default_rng(0)
    shared = 0.8 + rng.normal(0, 0.006, (arms, replicates)) + rng.normal(0, 0.006, (1, replicates))
    finished = rng.random((arms, replicates)) > 0.01
    targets = []
    for t in range(sets):
        image = rng.normal(0, 0.04, (1, 1, images))
        values = shared[:, :, None] + image + rng.normal(0, 0.015, (arms, replicates, images))
        values[~finished] = np.nan
        targets.append(Target(f"set{t}", values, np.array([f"p{i}" for i in range(images)])))
    pairs = tuple(Pair(seed, seed % 5) for seed in range(replicates))
    return Cells(tuple(f"arm{a}" for a in range(arms)), pairs, tuple(targets), finished)


def questions(cells: Cells) -> dict[str, Callable[[], object]]:
    """Every question, ready to be asked of ``cells``."""
    rng = np.random.default_rng(0)
    held = {
        name: [arm for arm, on in zip(cells.arms, CENTROID, strict=False) if on[i]] for i, name in enumerate(LOSSES)
    }
    weights = {
        arm: {name: share / sum(on) for name, share in zip(LOSSES, on, strict=True)}
        for arm, on in zip(cells.arms, CENTROID, strict=False)
    }
    searched = pd.DataFrame({"arm": np.repeat(cells.arms[:7], 60), "score": rng.random(420)})
    contrasts = [Contrast(f"{one} - {other}", {one: 1, other: -1}) for one, other in combinations(cells.arms[:7], 2)]

    def factorial() -> object:
        arms = coalitions(held, cells.arms[:7])
        return shapley_values(arms), [main_effect(name, arms) for name in held], interactions(arms)

    return {
        "shapley, main effects, interactions": factorial,
        "missing": lambda: missing(cells, rng),
        "variances": lambda: variances(cells),
        "mixed": lambda: mixed(cells, contrasts),
        "aggregates": lambda: aggregates(cells, cells.arms[0], rng),
        "ranks": lambda: ranks(cells),
        "mixture": lambda: fit_mixture(mixture_runs(cells, weights), LOSSES, "quadratic", rng),
        "tuning (7 arms x 60 trials)": lambda: tuning_curves(searched, rng),
    }


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=first)
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/questions.json"), metavar="FILE")
    out = command.parse_args().out
    described = machine()
    table = Table("question", *SIZES, title="seconds of the clock (of the processor), the first column with imports")
    taken: dict[str, dict[str, tuple[float, float]]] = {}
    told: dict[str, str] = {}
    for size, shape in SIZES.items():
        for name, ask in questions(scores(*shape)).items():
            begun, worked = time.perf_counter(), time.process_time()
            answer = ask()
            spent = (round(time.perf_counter() - begun, 3), round(time.process_time() - worked, 3))
            taken.setdefault(name, {})[size] = spent
            if isinstance(answer, Refused):
                told[f"{name}, {size}"] = str(answer)
    for name, seconds in taken.items():
        cells = (
            f"{wall:.2f} ({cpu:.2f}){' refused' if f'{name}, {size}' in told else ''}"
            for size, (wall, cpu) in seconds.items()
        )
        table.add_row(name, *cells)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print(table, f"peak {peak:.0f} MiB")
    result = {"machine": described, "sizes": SIZES, "seconds": taken, "refused": told, "peak_mib": round(peak)}
    save(result, out)


if __name__ == "__main__":
    main()
