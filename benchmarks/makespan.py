"""``python -m benchmarks.makespan``: how long a search takes, beside the glue that people write today.

Two sides in one run on one machine, one thread on each core: the glue with a trial on each, which is its best
setting, the harness as a search would run the settings (packed or with a process for every trial):

- *harness*: the whole path of a search: record, MLflow, checkpoints, and for each trial the files of its folder;
- *glue*: ``benchmarks.glue``: Ray Tune with OptunaSearch and MLflowLoggerCallback around one function: the same SAM 2
  nano with peft's LoRA, MONAI's loss, scikit-learn's AUC. It computes six metrics where the harness computes all, and
  writes no checkpoint, no adapter and no picture, which flatters it.

Both get the same drawn settings, images and epochs: 3 epochs over 20 images of 256 pixels in batches of 2, validation
on 6 images after each, then a test on 8 images of the source and 10 of each of three targets. Where the settings name
the Linear layers, both adapt the same ones. Initial values and dropout are drawn by either side itself, so final
scores agree within noise, which is checked: the mean difference of the trials' target Dice must be below 0.02, or
below three standard errors. CPU seconds are those of all processes, and suffer less than wall seconds from other load.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import torch
from optuna.samplers import RandomSampler
from rich.console import Console
from rich.table import Table

from benchmarks import glue
from benchmarks.machine import machine, save
from benchmarks.official import official
from harness.execution import ray_cluster, ray_tune
from harness.execution.searcher import Searcher
from harness.execution.slots import Slots, share_machine
from harness.execution.sources import Sampled
from harness.experiments.overrides import Overrides
from harness.experiments.question import search_question
from harness.experiments.search import Search
from harness.record.locations import default_storage
from harness.record.study import open_record
from harness.record.trials import standing_by_key
from harness.samplers import Random
from harness.schedulers import Full
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.mlflow_tracking import local_tracking
from sam2lora.adapters import AllBlocks, Blocks, GlobalBlocks, LastBlocks, LoRA
from sam2lora.augments import Flips
from sam2lora.backbones import Nano, Sam2
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import CachedSet, Synthetic
from sam2lora.losses import BCE, SoftDice
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.parts import test_images, training_images, validation_images
from sam2lora.training.session import open_sets
from sam2lora.weighted_loss import equal

_BLOCKS: dict[str, Blocks] = {"all": AllBlocks(), "global": GlobalBlocks(), "last 2": LastBlocks(count=2)}
_PLACES = ("encoder qkv", "encoder mlp", "encoder all", "decoder", "both qkv", "both all")
_NOISE = 0.02


def base(native: int) -> TrialConfig:
    """The workload, on photographs of ``native`` pixels."""
    targets = tuple(Synthetic(hospital=hospital, images=10, size=native) for hospital in ("alder", "birch", "cedar"))
    return TrialConfig(
        protocol=Transfer(sources=(Synthetic(hospital="dogwood", images=34, size=native),), targets=targets),
        loss=equal(BCE(), SoftDice()),
        augment=Flips(),
        epochs=3,
    )


def lora(trial: optuna.Trial, start: TrialConfig) -> TrialConfig:
    """The space of ``search_spaces/lora.py`` without its places of query and value alone, which peft does not know."""
    place, _, layers = str(trial.suggest_categorical("place", _PLACES)).partition(" ")
    encoder = layers if place in ("encoder", "both") else "none"
    blocks = str(trial.suggest_categorical("blocks", tuple(_BLOCKS))) if encoder != "none" else "all"
    decoder = "attention" if place in ("decoder", "both") else "none"
    return drawn(trial, start, LoRA(encoder=encoder, decoder=decoder, blocks=_BLOCKS[blocks]))  # type: ignore[arg-type]


def decoder(trial: optuna.Trial, start: TrialConfig) -> TrialConfig:
    """The same with LoRA in the mask decoder alone."""
    return drawn(trial, start, LoRA(encoder="none"))


def drawn(trial: optuna.Trial, start: TrialConfig, adapter: LoRA) -> TrialConfig:
    """``start`` with ``adapter``; rank, scale, dropout and learning rate are drawn."""
    rank = trial.suggest_int("rank", 2, 64, log=True)
    alpha = rank * trial.suggest_float("alpha over rank", 0.5, 4.0, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.3)
    # As peft has them: initial values, and dropout in front of the update.
    adapter = replace(adapter, rank=rank, alpha=alpha, dropout=dropout, init="kaiming", dropout_site="input")
    return replace(start, adapters=(adapter,), optimizer=AdamW(lr=trial.suggest_float("lr", 3e-4, 1e-2, log=True)))


SPACES: dict[str, Callable[[optuna.Trial, TrialConfig], TrialConfig]] = {"lora": lora, "decoder": decoder}


@dataclass(frozen=True)
class Measured:
    """One side: wall and CPU seconds of the whole run, peak MiB of a trial's process, target Dice of every trial."""

    wall: float
    cpu: float
    peak_mib: float
    dice: list[float]


class Watch:
    """CPU seconds of this process and all that it starts, looked up every half second: the last look of each counts."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, float], float] = {}

    def look(self) -> None:
        """Look once."""
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            try:
                times = process.cpu_times()
                self.seconds[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:  # it ended between the list and the look
                continue

    def total(self) -> float:
        """Seconds so far."""
        return sum(self.seconds.values())


@contextmanager
def watched() -> Iterator[Watch]:
    """A `Watch` for the time of the block, from 0."""
    watch, over = Watch(), threading.Event()
    watch.look()
    before = {which: -seconds for which, seconds in watch.seconds.items()}

    def follow() -> None:
        while not over.wait(0.5):
            watch.look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.look()
        watch.seconds = {which: seconds + before.get(which, 0.0) for which, seconds in watch.seconds.items()}


def harness(configs: list[TrialConfig], room: Slots, cache: Path, folder: Path) -> Measured:
    """The whole path of a search, from an empty folder."""
    runtime = Runtime(cache=cache, device=_device(room), threads=_threads(room))
    begun = time.perf_counter()
    with watched() as watch:
        search = Search(lambda trial: configs[0], len(configs), sampler=Random(), scheduler=Full())
        question = search_question("makespan", search, Overrides(), {})
        record = open_record(default_storage(folder), "makespan", folder, question, Random().build(0, {}))
        tracker = MlflowTracker(local_tracking(folder), record, question, ())
        searcher = Searcher(
            Sampled(record, len(configs)),
            lambda trial: (configs[trial.number], Replicate()),
            standing_by_key(record.trials()),
            {},
            runtime,
            listeners=[tracker],
        )
        with ray_cluster.cluster(room) as cluster:
            tracker.wait()
            ray_tune.run(searcher, Full().build(1), cluster, retries=0)
        tracker.close(None)
        wall = time.perf_counter() - begun
    trials = record.trials()
    if short := [trial.number for trial in trials if not trial.completed]:
        raise ValueError(f"Every trial must be completed, but {short} are not: draw other settings with --seed.")
    dice = [_mean_dice(trial.scores, configs[0]) for trial in trials]
    return Measured(wall, watch.total(), max(trial.cost["peak_mib"] for trial in trials), dice)


def plain(configs: list[TrialConfig], room: Slots, cache: Path, folder: Path) -> Measured:
    """The glue, from an empty folder; its model and images lie ready."""
    task = replace(_written(configs[0], cache, folder), device=_device(room), threads=_threads(room))
    settings = [_settings(config) for config in configs]
    begun = time.perf_counter()
    with watched() as watch:
        with ray_cluster.cluster(room):
            reports = glue.search(settings, task, room.concurrent, folder, room.cpus, room.gpus)
        wall = time.perf_counter() - begun
    dice = [_mean_dice(report, configs[0]) for report in reports]
    return Measured(wall, watch.total(), max(report["peak_mib"] for report in reports), dice)


def _device(room: Slots) -> str:
    return "cuda" if room.gpus else "cpu"


def _threads(room: Slots) -> int:
    return max(1, int(room.cpus))


def _mean_dice(scores: Mapping[str, float], config: TrialConfig) -> float:
    return float(np.mean([scores[f"{target.name}/dice"] for target in config.protocol.targets]))


def _settings(config: TrialConfig) -> glue.Settings:
    assert isinstance(config.adapters[0], LoRA)
    assert isinstance(config.optimizer, AdamW)
    adapter = config.adapters[0]
    targets = tuple(target.name for target in adapter.targets(config.backbone))
    return glue.Settings(targets, adapter.rank, adapter.alpha, adapter.dropout, config.optimizer.lr)


def _written(config: TrialConfig, cache: Path, folder: Path) -> glue.Task:
    """The model and the images as files that need nothing of sam2lora to be read."""
    runtime = Runtime(cache=cache)
    assert isinstance(config.backbone, Nano | Sam2)
    torch.save(official(config.backbone, config.image_size, runtime), folder / "sam.pt")
    (source,), targets = (open_sets(sets, config.image_size, runtime) for sets in _sets(config))
    development = [image for _, image in training_images((source,), 0)]
    np.savez(folder / "train.npz", images=source.images[development], masks=source.masks[development])
    tests = {opened.dataset.name: _folder(opened, range(len(opened)), folder / "tests") for opened in targets}
    tests[source.dataset.name] = _folder(source, test_images(source, "test"), folder / "tests")
    val = _folder(source, validation_images(source, 0), folder / "val")
    task = glue.Task(folder / "sam.pt", folder / "train.npz", val, tests, config.epochs, config.batch_size)
    return replace(task, bfloat16=config.precision == "bfloat16")


def _sets(config: TrialConfig) -> tuple[Any, Any]:
    return config.protocol.sources, config.protocol.targets


def _folder(opened: CachedSet, images: Any, under: Path) -> Path:
    home = under / opened.dataset.name
    home.mkdir(parents=True)
    for i in images:
        native = opened.native(i)
        np.savez(
            home / f"{opened.ids[i]}.npz", image=opened.images[i], mask=native.mask, fov=native.fov,
            box=native.box, content=native.content,
        )  # fmt: skip
    return home


def check(ours: Measured, theirs: Measured) -> tuple[float, float]:
    """The mean difference of target Dice, ours less theirs, and its standard error. ``ValueError`` beyond noise."""
    difference = np.subtract(ours.dice, theirs.dice)
    mean = float(difference.mean())
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
    if abs(mean) > max(_NOISE, 3 * error):
        raise ValueError(
            f"Both sides must reach the same target Dice, but ours is {mean:+.3f} (standard error {error:.3f}) from "
            f"the glue's over {len(difference)} trials: they do not train the same."
        )
    return mean, error


def compare(space: str, trials: int, native: int, seed: int, pack: bool) -> dict[str, Any]:
    """Both sides on the same settings: their figures and the ratios of glue to harness."""
    drawn = optuna.create_study(sampler=RandomSampler(seed=seed))
    configs = [SPACES[space](drawn.ask(), base(native)) for _ in range(trials)]
    rooms = {"harness": share_machine(0.0, packed=pack), "glue": share_machine(0.0)}
    sides = {}
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch, "cache")
        for sets in _sets(configs[0]):
            open_sets(sets, configs[0].image_size, Runtime(cache=cache))
        for side, run in (("harness", harness), ("glue", plain)):
            folder = Path(scratch, side)
            folder.mkdir()
            sides[side] = run(configs, rooms[side], cache, folder)
    mean, error = check(sides["harness"], sides["glue"])
    return {
        "space": space,
        "trials": trials,
        "native": native,
        "at_once": {side: room.concurrent for side, room in rooms.items()},
        **{side: vars(measured) for side, measured in sides.items()},
        "wall_ratio": sides["glue"].wall / sides["harness"].wall,
        "cpu_ratio": sides["glue"].cpu / sides["harness"].cpu,
        "dice_difference": mean,
        "dice_difference_error": error,
    }


def table(runs: list[dict[str, Any]]) -> Table:
    """A row for each side of each run."""
    shown = Table("space", "trials", "side", "wall s", "CPU s", "wall s a trial", "glue / harness: wall", "CPU",
                  "peak MiB of a trial", "target Dice")  # fmt: skip
    for run in runs:
        for side in ("harness", "glue"):
            found = run[side]
            ratios = [f"{run['wall_ratio']:.1f}", f"{run['cpu_ratio']:.1f}"] if side == "harness" else ["", ""]
            shown.add_row(
                run["space"], str(run["trials"]), side, f"{found['wall']:.1f}", f"{found['cpu']:.1f}",
                f"{found['wall'] / run['trials']:.2f}", *ratios, f"{found['peak_mib']:.0f}",
                f"{np.mean(found['dice']):.3f}",
            )  # fmt: skip
    return shown


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.makespan", description=first)
    command.add_argument("--trials", type=int, default=32, metavar="N", help="trials of each space (default 32)")
    command.add_argument("--spaces", nargs="+", choices=tuple(SPACES), default=tuple(SPACES))
    command.add_argument("--native", type=int, default=576, metavar="PIXELS", help="side of the photographs")
    command.add_argument("--pack", action="store_true", help="trials of one core share an engine of the harness")
    command.add_argument("--seed", type=int, default=0, help="draws the settings")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/makespan.json"), metavar="FILE")
    arguments = command.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    described = machine()
    runs = [
        compare(space, arguments.trials, arguments.native, arguments.seed, arguments.pack) for space in arguments.spaces
    ]
    Console().print(table(runs))
    save({"machine": described, "runs": runs}, arguments.out)


if __name__ == "__main__":
    main()
