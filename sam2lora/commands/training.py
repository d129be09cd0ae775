"""What ``python -m sam2lora.train`` does: settings from a command line, a training in its folder, its scores."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sam2lora import checkpoints, tuned
from sam2lora.adapters import LoRA
from sam2lora.artifacts import ADAPTER, CHECKPOINT, IMAGES, RESULT, finish
from sam2lora.backbones import Sam2
from sam2lora.base import BASE
from sam2lora.choice import digest, from_json, to_json
from sam2lora.commands.asked import RANDOM, Asked, backbone, datasets, on
from sam2lora.commands.options import machine
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.datasets import left_out
from sam2lora.errors import DiskError, OutOfMemory, SettingError
from sam2lora.intervals import mean_interval, nothing_to_find, possible
from sam2lora.memory import is_out_of_memory
from sam2lora.metrics import METRICS
from sam2lora.presets import PRESETS, Preset
from sam2lora.protocols.copies import check_photographs
from sam2lora.runtime import Runtime, default_cache
from sam2lora.settings import changed, differences, read_settings, write_settings
from sam2lora.train import (
    Session,
    check_parts,
    check_targets,
    epoch,
    judge,
    open_sets,
    resume,
    save,
    start,
    write_atomically,
)

CONFIG = "config.json"
REPLICATE = "replicate.json"
SCORES = "scores.csv"
_SHOWN = ("dice", "iou", "auc")
_ORACLE = "†"  # beside scores that were reached with a prompt from the ground truth
_SIZE = 12  # digits of a default folder's name


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Do what the command line asks for. Raises ``Sam2LoraError`` and ``ValueError`` with what a person can mend."""
    config, replicate = settings(arguments)
    assumed = _assumed(_preset(arguments.preset), config) if arguments.preset else {}
    if arguments.print_config:
        _assume(assumed, console)
        sys.stdout.write(write_settings(config))
        return
    device, threads = machine(arguments)
    checkpoint = None if arguments.checkpoint in (None, RANDOM) else Path(arguments.checkpoint)
    runtime = Runtime(data=arguments.data, cache=default_cache(), checkpoint=checkpoint, device=device, threads=threads)
    folder = arguments.out or arguments.runs / "train" / digest(config, replicate)[:_SIZE]
    try:
        rows = train(config, replicate, runtime, folder, console, assumed)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _no_room(config, error) from error
    table = scores(rows, oracle=config.test_prompt.oracle)
    _report(table, folder, config.protocol.shots)


def settings(arguments: argparse.Namespace) -> tuple[TrialConfig, Replicate]:
    """The settings and the replicate that a command line asks for. Raises ``SettingError`` and ``DataError``."""
    config, replicate = _begin(arguments)
    asked = Asked(
        kind=arguments.protocol,
        datasets=datasets(arguments.datasets),
        sources=datasets(arguments.sources),
        targets=datasets(arguments.targets),
        shots=arguments.shots,
        dataset=arguments.dataset,
        held_out=arguments.held_out,
        structure=arguments.structure,
    )
    config = replace(config, protocol=asked.model(config.protocol))
    if arguments.backbone is not None:
        config = on(config, backbone(arguments.backbone, arguments.checkpoint))
    elif arguments.checkpoint == RANDOM:
        raise SettingError("--checkpoint random belongs to a --backbone, but none is named: name it.")
    assignments = [
        f"{field}={value}"
        for field, value in (
            ("epochs", arguments.epochs),
            ("image_size", arguments.image_size),
            ("optimizer.lr", arguments.lr),
        )
        if value is not None
    ]
    if arguments.rank is not None:
        if not isinstance(config.adapter, LoRA):
            raise SettingError(f"--rank belongs to LoRA, but the adapter is {config.adapter.kind}: leave it out.")
        assignments += [f"adapter.rank={arguments.rank}", f"adapter.alpha={2.0 * arguments.rank}"]
    config = changed(config, [*assignments, *arguments.assignments])
    if arguments.seed is not None:
        replicate = replace(replicate, seed=arguments.seed)
    if arguments.fold is not None:
        replicate = replace(replicate, fold=arguments.fold)
    return config, replicate


def _begin(arguments: argparse.Namespace) -> tuple[TrialConfig, Replicate]:
    if arguments.config is not None:
        return read_settings(arguments.config), Replicate()
    if arguments.preset is not None:
        return _preset(arguments.preset).config, Replicate()
    if arguments.like is not None:
        found = tuned.find(arguments.like, arguments.runs, arguments.storage)
        return found.config, found.replicate
    return BASE, Replicate()


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise SettingError(f"--preset must be one of {', '.join(PRESETS)}, but is {name!r}: choose one of them.")
    return PRESETS[name]


def _assumed(preset: Preset, config: TrialConfig) -> dict[str, str]:
    """What ``preset`` assumes of the fields that ``config`` has from it."""
    own = [f"{path}." for path in differences(preset.config, config)]
    return {
        field: why
        for field, why in preset.assumed.items()
        if not any(path.startswith(f"{field}.") or f"{field}.".startswith(path) for path in own)
    }


def _assume(assumed: Mapping[str, str], console: Console) -> None:
    for field, why in assumed.items():
        console.print(f"assumed {escape(field)}: {escape(why)}", highlight=False, soft_wrap=True)


def train(
    config: TrialConfig,
    replicate: Replicate,
    runtime: Runtime,
    folder: Path,
    console: Console,
    assumed: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """Train in ``folder``, or go on where an earlier call was stopped; one row per test image.

    ``assumed``: what to tell of the settings, by field, once data and weights are there.
    A folder that holds the same trial, finished, is read. Raises ``SettingError`` when it holds another trial and
    whatever ``sam2lora.train`` raises; in both cases nothing that was there is changed.
    """
    with _held(folder):
        _claim(folder, config, replicate)
        if (folder / RESULT).is_file():
            (folder / CHECKPOINT).unlink(missing_ok=True)
            console.print(f"{escape(str(folder))} holds this training, finished: these are its scores.")
            return pd.read_parquet(folder / IMAGES)
        return _train(config, replicate, runtime, folder, console, assumed)


def _held(folder: Path) -> AbstractContextManager[object]:
    """Make ``folder``, which no other process trains in until the context ends. Raises ``DiskError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise DiskError(
            f"A folder is trained in by one process at a time, but {folder} is in use by another: wait for it, or "
            f"name another folder with --out."
        ) from None
    except OSError as error:
        raise DiskError(
            f"Results must be written into {folder}, but they cannot be: {error}. Mend the folder's rights, or name "
            f"another with --out."
        ) from error


def _train(
    config: TrialConfig,
    replicate: Replicate,
    runtime: Runtime,
    folder: Path,
    console: Console,
    assumed: Mapping[str, str],
) -> pd.DataFrame:
    model = config.backbone
    if isinstance(model, Sam2) and runtime.checkpoint is None and model.checkpoint == checkpoints.file_of(model).sha256:
        checkpoints.fetch(model, console)
    with console.status("opening the data and the model"):
        protocol = config.protocol
        sets = open_sets((*protocol.sources, *protocol.targets), config.image_size, runtime)
        doubts = check_photographs(protocol, sets)
        session = start(config, replicate, runtime)
        check_parts(session.sources, replicate.fold)
        check_targets(sets[len(protocol.sources) :], protocol.target_images)
        if (folder / CHECKPOINT).exists():
            resume(session, folder / CHECKPOINT)
    _assume(assumed, console)
    _head(session, console)
    for line in (*left_out(sets), *map(str, doubts)):
        console.print(f"[bold yellow]warning:[/] {escape(line)}", highlight=False, soft_wrap=True)
    with _bar(console) as bar:
        task = bar.add_task("training", total=config.epochs, completed=session.epoch)
        while not session.finished:
            entry = epoch(session)
            save(session, folder / CHECKPOINT)
            bar.advance(task)
            console.print(_line(entry, config), highlight=False)
        bar.update(task, description="scoring the test images")
        digests = {f"data/{opened.dataset.name}": opened.digest for opened in sets}
        rows = finish(session, judge(session), trial_key(config, replicate, digests), folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return rows


def _claim(folder: Path, config: TrialConfig, replicate: Replicate) -> None:
    """Write what is trained in ``folder``; refuse one that holds another training.

    Settings alone are no training: a command that was refused for its data left them, and may be corrected.
    """
    trained = next((name for name in (RESULT, ADAPTER, CHECKPOINT) if (folder / name).exists()), None)
    if trained is None:
        write_atomically(folder / REPLICATE, lambda path: path.write_text(to_json(replicate) + "\n"))
        write_atomically(folder / CONFIG, lambda path: path.write_text(write_settings(config)))
        return
    if not (folder / CONFIG).exists():
        raise SettingError(
            f"A training needs a folder of its own, but {folder} holds the {trained} of something else: name another "
            f"with --out."
        )
    before = read_settings(folder / CONFIG), from_json(Replicate, (folder / REPLICATE).read_text())
    if before != (config, replicate):
        lines = [*_differences(before[0], config), *_differences(before[1], replicate)]
        raise SettingError(
            f"A folder holds one training, but {folder} holds another:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nName another folder with --out, or give the settings that are there."
        )


def _differences(before: object, now: object) -> list[str]:
    there, asked = _flat(json.loads(to_json(before))), _flat(json.loads(to_json(now)))
    return [
        f"{field}: there {there.get(field, 'nothing')}, asked for {asked.get(field, 'nothing')}"
        for field in sorted(there.keys() | asked.keys())
        if there.get(field) != asked.get(field)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    inner: Mapping[Any, Any] = dict(enumerate(value)) if isinstance(value, list) else value
    if isinstance(value, dict | list) and value:
        return {field: plain for key, part in inner.items() for field, plain in _flat(part, f"{prefix}{key}.").items()}
    return {prefix.removesuffix("."): value}


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _head(session: Session, console: Console) -> None:
    config, cost = session.config, session.cost
    share = cost.trainable_parameters / cost.total_parameters
    targets = ", ".join(target.name for target in config.protocol.targets)
    console.print(
        f"sources {', '.join(source.name for source in config.protocol.sources)}; targets {targets or 'none'}; "
        f"{len(session.training)} training images of {config.image_size} pixels; {config.backbone.kind}, "
        f"{config.adapter.kind}: {cost.trainable_parameters:,} of {cost.total_parameters:,} parameters trained "
        f"({share:.2%}); {session.runtime.device}",
        highlight=False,
        soft_wrap=True,
    )
    if session.epoch:
        console.print(f"going on after epoch {session.epoch}", highlight=False)


def _line(entry: Mapping[str, float], config: TrialConfig) -> str:
    mark = f" {_ORACLE}" if config.test_prompt.oracle else ""
    return (
        f"epoch {entry['epoch']:.0f}/{config.epochs}: validation Dice {entry['score']:.4f}{mark}, "
        f"loss {entry['loss/total']:.4f}, {entry['seconds']:.1f} s"
    )


def scores(rows: pd.DataFrame, *, oracle: bool) -> pd.DataFrame:
    """Mean and 95 % interval of every metric on every data set: one row each, in the order of ``rows``.

    Columns: ``dataset``, ``role``, ``metric``, the fields of ``sam2lora.intervals.MeanInterval`` and
    ``oracle_prompt``, which is ``oracle``: whether the test prompt was drawn from the ground truth. No rows, no
    scores.
    """
    table = [
        {"dataset": dataset, "role": part["role"].iloc[0], "metric": metric}
        | asdict(mean_interval(part[metric], part["patient"], possible(metric)))
        | {"oracle_prompt": oracle}
        for dataset, part in (rows.groupby("dataset", sort=False) if len(rows) else ())
        for metric in METRICS
        if metric in part
    ]
    return pd.DataFrame(table)


def show(table: pd.DataFrame, console: Console, judged: str = "unseen") -> None:
    """Print the scores that most papers give, one row per data set; marked if prompted from the ground truth.

    ``judged``: what a target is called.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    chosen = [metric for metric in _SHOWN if metric in set(table["metric"])]
    shown.add_column("data set", overflow="fold")  # cut, two long names could be one
    for title in ("role", "images", "patients", *chosen):
        shown.add_column(title)
    roles = {"target": judged, "source": "in domain"}
    for dataset, part in table.groupby("dataset", sort=False):
        first = part.iloc[0]
        by_metric = {row["metric"]: _interval(row) for row in part.to_dict("records")}
        cells = [by_metric.get(metric, "not measured") for metric in chosen]
        counts = (str(int(first["n"] + first["undefined"])), str(int(part["clusters"].max())))
        name = f"{dataset} {_ORACLE}" if first["oracle_prompt"] else str(dataset)
        shown.add_row(name, roles[str(first["role"])], *counts, *map(escape, cells))
    console.print(shown)
    for row in table[(table["metric"] == "sensitivity") & (table["undefined"] > 0)].to_dict("records"):
        told = nothing_to_find(str(row["dataset"]), int(row["undefined"]), int(row["n"] + row["undefined"]))
        console.print(escape(told), highlight=False, soft_wrap=True)
    if table["oracle_prompt"].any():
        console.print(
            f"{_ORACLE} Prompted from ground truth: upper bounds, not what an unlabelled image would get.",
            highlight=False,
            soft_wrap=True,
        )


def _interval(row: Mapping[Any, Any]) -> str:
    if not np.isfinite(row["mean"]):
        return f"undefined on all {int(row['undefined'])}"
    undefined = f" ({int(row['undefined'])} undefined)" if row["undefined"] else ""
    limits = f" [{row['low']:.3f}, {row['high']:.3f}]" if np.isfinite(row["low"]) else " (no interval: 1 patient)"
    return f"{row['mean']:.3f}{limits}{undefined}"


def _report(table: pd.DataFrame, folder: Path, shots: int) -> None:
    console = Console()
    if len(table):
        write_atomically(folder / SCORES, lambda path: table.to_csv(path, index=False))
        console.print("Test scores with 95 % intervals over patients", style="bold", highlight=False)
        show(table, console, f"after {shots} patient{'s' * (shots > 1)}" if shots else "unseen")
    else:
        console.print("No data set has images that judge, so there are no test scores.")
    console.print(f"Adapter: {escape(str(folder / ADAPTER))}", highlight=False, soft_wrap=True)


def _no_room(config: TrialConfig, error: BaseException) -> OutOfMemory:
    why = str(error).partition("\n")[0] or type(error).__name__
    return OutOfMemory(
        f"A training step must fit into memory, but {config.batch_size} images of {config.image_size} pixels do not "
        f"({why}): lower batch_size or image_size, or choose a smaller backbone."
    )
