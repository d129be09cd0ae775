"""``python -m benchmarks.packs``: how many training steps a second packs of several trials take together.

Packs of 1, 2, 4 and 8 trials of equal replicate, whose ranks and rates differ, on SAM 2 nano in batches of 2 images,
with LoRA everywhere or in the mask decoder alone; and a lone trial without a pack. A step of one trial is one
trial-step. CPU seconds are those of the process, which other load disturbs less than wall seconds. Each pack is
measured in a process of its own, since peak memory is that of a process. *Computed*: a decoder-only pack that computes
its features; *known*: one that finds them in files (``sam2lora.models.feature_cache``).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save
from sam2lora.adapters import LoRA
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training import loop, packing
from sam2lora.training.loop import lockstep
from sam2lora.training.session import Session, peak_mib, start

Kind = Literal["everywhere", "decoder, computed", "decoder, known"]
KINDS: tuple[Kind, ...] = ("everywhere", "decoder, computed", "decoder, known")


@dataclass(frozen=True)
class Measured:
    """A pack of ``trials`` (0: a lone trial without a pack): trial-steps, their wall and CPU seconds, peak MiB."""

    kind: Kind
    trials: int
    steps: int
    wall: float
    cpu: float
    peak_mib: float


def configs(kind: Kind, trials: int, size: int) -> list[TrialConfig]:
    """Settings of one signature."""
    encoder: Literal["qkv", "none"] = "qkv" if kind == "everywhere" else "none"
    source = Synthetic(hospital="dogwood", images=18, size=size)
    start = TrialConfig(protocol=Transfer(sources=(source,)), image_size=size, epochs=2)
    return [
        replace(start, adapters=(LoRA(encoder=encoder, rank=rank, alpha=2.0 * rank),), optimizer=AdamW(lr=1e-3 / rank))
        for rank in (4 + 2 * number for number in range(trials))
    ]


def measure(kind: Kind, trials: int, size: int, cache: Path) -> Measured:
    """One epoch of training without validation, after the same one has warmed everything up."""
    runtime = Runtime(cache=cache, features_mib=0) if kind == "decoder, computed" else Runtime(cache=cache)
    sessions = [start(config, Replicate(), runtime) for config in configs(kind, max(trials, 1), size)]
    _pass(sessions, trials > 0)
    wall, cpu = time.perf_counter(), time.process_time()
    steps = _pass(sessions, trials > 0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Measured(kind, trials, steps, wall, cpu, peak_mib(runtime))


def _pass(sessions: list[Session], packed: bool) -> int:
    """The first epoch's training; neither the curve nor the epoch moves on. Trial-steps."""
    if packed:
        lanes = packing.advance(sessions)
    else:
        sessions[0].segmenter.train()
        lanes = lockstep(sessions, loop.SingleForward(sessions[0]))
    return sum(lane.step for lane in lanes)


def table(runs: list[Measured]) -> Table:
    """A row for each pack, beside a pack of one of its kind."""
    shown = Table("LoRA", "trials", "trial-steps a second", "wall s a trial-step", "CPU s a trial-step",
                  "CPU of one / this", "peak MiB")  # fmt: skip
    one = {run.kind: run.cpu / run.steps for run in runs if run.trials == 1}
    for run in runs:
        shown.add_row(
            run.kind, str(run.trials or "alone"), f"{run.steps / run.wall:.2f}", f"{run.wall / run.steps:.3f}",
            f"{run.cpu / run.steps:.3f}", f"{one[run.kind] * run.steps / run.cpu:.2f}", f"{run.peak_mib:.0f}",
        )  # fmt: skip
    return shown


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.packs", description=first)
    command.add_argument("--packs", type=int, nargs="+", default=(1, 2, 4, 8), metavar="N", help="trials of a pack")
    command.add_argument("--size", type=int, default=256, metavar="PIXELS", help="side of the images")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/packs.json"), metavar="FILE")
    arguments = command.parse_args()
    described, runs = machine(), []
    with tempfile.TemporaryDirectory() as cache:
        for kind in KINDS:
            for trials in (0, *sorted({1, *arguments.packs})):
                with get_context("fork").Pool(1) as process:  # nothing has run in the parent but imports
                    runs.append(process.apply(measure, (kind, trials, arguments.size, Path(cache))))
    Console().print(table(runs))
    result: dict[str, Any] = {"machine": described, "size": arguments.size, "runs": [vars(run) for run in runs]}
    save(result, arguments.out)


if __name__ == "__main__":
    main()
