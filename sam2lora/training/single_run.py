"""The work of ``python -m sam2lora.train``: read the settings, train in a folder, report the scores."""

from __future__ import annotations

import argparse
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

from sam2lora import trained
from sam2lora.adapters import LoRA
from sam2lora.choice import digest, from_json, json_differences, to_json, to_plain
from sam2lora.cli.messages import warn
from sam2lora.cli.options import RANDOM, choose_device, given_files
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.datasets import left_out
from sam2lora.defaults import BASE
from sam2lora.errors import DiskError, OutOfMemory, SettingError
from sam2lora.files import ADAPTER, CHECKPOINT, IMAGES, RESULT, write_atomically
from sam2lora.integrity import read_result
from sam2lora.intervals import ORACLE, ORACLE_NOTE, empty_mask_note, mean_interval, with_interval
from sam2lora.metrics import METRICS, reading
from sam2lora.models.weights import files_by_digest, provide
from sam2lora.overrides import ProtocolOptions, parse_backbone, with_backbone
from sam2lora.presets import PRESETS, Preset
from sam2lora.protocols.copies import check_photographs
from sam2lora.runtime import Runtime, default_cache
from sam2lora.settings import differences, read_settings, with_assignments, write_settings
from sam2lora.training.artifacts import finish
from sam2lora.training.checkpoint import open_session, save
from sam2lora.training.loop import epoch
from sam2lora.training.memory import is_out_of_memory
from sam2lora.training.parts import check_parts, check_targets
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import Session, open_sets

CONFIG = "config.json"
REPLICATE = "replicate.json"
SCORES = "scores.csv"
_SHOWN = ("dice", "iou", "auc")
_SIZE = 12  # digits of a default folder's name


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Train as the command line says. Raises ``Sam2LoraError`` and ``ValueError`` for errors that the user can fix."""
    config, replicate = read_arguments(arguments)
    assumptions = _assumptions(_preset(arguments.preset), config) if arguments.preset else {}
    if arguments.print_config:
        _print_assumptions(assumptions, console)
        sys.stdout.write(write_settings(config))
        return
    device, threads = choose_device(arguments)
    weights = files_by_digest(given_files(arguments))
    runtime = Runtime(data=arguments.data, cache=default_cache(), weights=weights, device=device, threads=threads)
    folder = arguments.out or arguments.runs / "train" / digest(config, replicate)[:_SIZE]
    try:
        rows = train(config, replicate, runtime, folder, console, assumptions)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(config, error) from error
    table = scores(rows, oracle=config.test_prompt.oracle)
    _report(table, folder, config.protocol.shots)


def read_arguments(arguments: argparse.Namespace) -> tuple[TrialConfig, Replicate]:
    """The settings and the replicate of a command line. Raises ``SettingError`` and ``DataError``."""
    config, replicate = _base(arguments)
    config = replace(config, protocol=ProtocolOptions.of(arguments).apply(config.protocol))
    if arguments.backbone is not None:
        config = with_backbone(config, parse_backbone(arguments.backbone, arguments.checkpoint))
    elif arguments.checkpoint == RANDOM:
        raise SettingError("--checkpoint random needs a --backbone, but none is named: add it.")
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
        places = [place for place, adapter in enumerate(config.adapters) if adapter.kind == LoRA.kind]
        if not places:
            raise SettingError(f"--rank belongs to LoRA, but the adapters are {config.adaptation}: leave it out.")
        for place in places:
            assignments += [f"adapters.{place}.rank={arguments.rank}", f"adapters.{place}.alpha={2.0 * arguments.rank}"]
    config = with_assignments(config, [*assignments, *arguments.assignments])
    if arguments.seed is not None:
        replicate = replace(replicate, seed=arguments.seed)
    if arguments.fold is not None:
        replicate = replace(replicate, fold=arguments.fold)
    return config, replicate


def _base(arguments: argparse.Namespace) -> tuple[TrialConfig, Replicate]:
    if arguments.config is not None:
        return read_settings(arguments.config), Replicate()
    if arguments.preset is not None:
        return _preset(arguments.preset).config, Replicate()
    if arguments.like is not None:
        adapter = trained.find(arguments.like, arguments.runs, arguments.storage)
        return adapter.config, adapter.replicate
    return BASE, Replicate()


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise SettingError(
            f"--preset must be one of {', '.join(PRESETS)}, but is {name!r}: choose a name from the list."
        )
    return PRESETS[name]


def _assumptions(preset: Preset, config: TrialConfig) -> dict[str, str]:
    """The assumptions of ``preset`` about the fields that ``config`` takes from it."""
    changed = [f"{path}." for path in differences(preset.config, config)]
    return {
        field: why
        for field, why in preset.assumed.items()
        if not any(path.startswith(f"{field}.") or f"{field}.".startswith(path) for path in changed)
    }


def _print_assumptions(assumptions: Mapping[str, str], console: Console) -> None:
    for field, why in assumptions.items():
        console.print(f"assumed {escape(field)}: {escape(why)}", highlight=False, soft_wrap=True)


def train(
    config: TrialConfig,
    replicate: Replicate,
    runtime: Runtime,
    folder: Path,
    console: Console,
    assumptions: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """Train in ``folder``, or continue an interrupted training there; returns one row per test image.

    ``assumptions``: by field, printed once data and weights are opened. A folder with the finished trial is read, not
    trained again. Raises ``SettingError`` if the folder holds another trial, and the errors of a training; neither
    changes existing files.
    """
    with _lock(folder):
        _claim(folder, config, replicate)
        if (folder / RESULT).is_file():
            read_result(folder)
            (folder / CHECKPOINT).unlink(missing_ok=True)
            console.print(f"{escape(str(folder))} holds this training, finished: its scores are below.")
            return pd.read_parquet(folder / IMAGES)
        return _train(config, replicate, runtime, folder, console, assumptions)


def _lock(folder: Path) -> AbstractContextManager[object]:
    """Create ``folder`` and keep other processes from training in it within the context. Raises ``DiskError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise DiskError(
            f"Only one process may train in a folder at a time, but {folder} is in use by another: wait for it, or "
            f"name another folder with --out."
        ) from None
    except OSError as error:
        raise DiskError(
            f"Results must be written into {folder}, but they cannot be: {error}. Fix the folder's permissions, or "
            f"name another with --out."
        ) from error


def _train(
    config: TrialConfig,
    replicate: Replicate,
    runtime: Runtime,
    folder: Path,
    console: Console,
    assumptions: Mapping[str, str],
) -> pd.DataFrame:
    provide(config.weights, runtime, console)
    with console.status("opening the data and the model"):
        protocol = config.protocol
        sets = open_sets((*protocol.sources, *protocol.targets), config.image_size, runtime)
        warnings = check_photographs(protocol, sets)
        session, damaged = open_session(config, replicate, runtime, folder / CHECKPOINT)
        check_parts(session.sources, replicate.fold)
        check_targets(sets[len(protocol.sources) :], protocol.target_images)
    _print_assumptions(assumptions, console)
    _print_header(session, console)
    for line in (*left_out(sets), *map(str, warnings), *filter(None, [damaged])):
        warn(console, line)
    with _progress(console) as bar:
        task = bar.add_task("training", total=config.epochs, completed=session.epoch)
        while not session.finished:
            entry = epoch(session)
            save(session, folder / CHECKPOINT)
            bar.advance(task)
            console.print(_epoch_line(entry, config), highlight=False)
        bar.update(task, description="scoring the test images")
        digests = {f"data/{opened.dataset.name}": opened.digest for opened in sets}
        rows = finish(session, final_scores(session), trial_key(config, replicate, digests), folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return rows


def _claim(folder: Path, config: TrialConfig, replicate: Replicate) -> None:
    """Write the settings of the training into ``folder``, unless it holds another training.

    Settings without a training are replaced: a command that was refused for its data left them.
    """
    trained = next((name for name in (RESULT, ADAPTER, CHECKPOINT) if (folder / name).exists()), None)
    if trained is None:
        write_atomically(folder / REPLICATE, lambda path: path.write_text(to_json(replicate) + "\n"))
        write_atomically(folder / CONFIG, lambda path: path.write_text(write_settings(config)))
        return
    if not (folder / CONFIG).exists():
        raise SettingError(
            f"A training needs a separate folder, but {folder} holds {trained} without settings: name another folder "
            f"with --out."
        )
    before = read_settings(folder / CONFIG), from_json(Replicate, (folder / REPLICATE).read_text())
    if before != (config, replicate):
        lines = [*_differences(before[0], config), *_differences(before[1], replicate)]
        raise SettingError(
            f"A folder holds one training, but {folder} holds another:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nName another folder with --out, or use the settings of the folder."
        )


def _differences(before: object, now: object) -> list[str]:
    differing = json_differences(to_plain(before), to_plain(now))
    return [f"{field}: {old} in the folder, {new} now" for field, old, new in differing]


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _print_header(session: Session, console: Console) -> None:
    config, cost = session.config, session.cost
    share = cost.trainable_parameters / cost.total_parameters
    targets = ", ".join(target.name for target in config.protocol.targets)
    console.print(
        f"sources {', '.join(source.name for source in config.protocol.sources)}; targets {targets or 'none'}; "
        f"{len(session.training)} training images of {config.image_size} pixels; {config.backbone.kind}, "
        f"{config.adaptation}: {cost.trainable_parameters:,} of {cost.total_parameters:,} parameters trained "
        f"({share:.2%}); {session.runtime.device}",
        highlight=False,
        soft_wrap=True,
    )
    if session.epoch:
        console.print(f"continuing after epoch {session.epoch}", highlight=False)


def _epoch_line(entry: Mapping[str, float], config: TrialConfig) -> str:
    mark = f" {ORACLE}" if config.test_prompt.oracle else ""
    return (
        f"epoch {entry['epoch']:.0f}/{config.epochs}: validation Dice {entry['score']:.4f}{mark}, "
        f"loss {entry['loss/total']:.4f}, {entry['seconds']:.1f} s"
    )


def scores(rows: pd.DataFrame, *, oracle: bool) -> pd.DataFrame:
    """Mean and 95 % interval of every metric on every data set: one row each, in the order of ``rows``.

    Columns: ``dataset``, ``role``, ``metric``, the fields of ``sam2lora.intervals.MeanInterval`` and
    ``oracle_prompt``, which is ``oracle``: whether the test prompt was drawn from the ground truth. Without rows the
    table is empty.
    """
    table = [
        {"dataset": dataset, "role": part["role"].iloc[0], "metric": metric}
        | asdict(mean_interval(part[metric], part["patient"], reading(metric).range))
        | {"oracle_prompt": oracle}
        for dataset, part in (rows.groupby("dataset", sort=False) if len(rows) else ())
        for metric in METRICS
        if metric in part
    ]
    return pd.DataFrame(table)


def show(table: pd.DataFrame, console: Console, target: str = "unseen") -> None:
    """Print the scores that most papers report, one row per data set; marked if prompted from the ground truth.

    ``target``: the word for the role of a target.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    chosen = [metric for metric in _SHOWN if metric in set(table["metric"])]
    shown.add_column("data set", overflow="fold")  # cut, two long names could be one
    for title in ("role", "images", "patients", *chosen):
        shown.add_column(title)
    roles = {"target": target, "source": "in domain"}
    for dataset, part in table.groupby("dataset", sort=False):
        first = part.iloc[0]
        by_metric = {row["metric"]: _interval(row) for row in part.to_dict("records")}
        cells = [by_metric.get(metric, "not measured") for metric in chosen]
        counts = (str(int(first["n"] + first["undefined"])), str(int(part["clusters"].max())))
        name = f"{dataset} {ORACLE}" if first["oracle_prompt"] else str(dataset)
        shown.add_row(name, roles[str(first["role"])], *counts, *map(escape, cells))
    console.print(shown)
    for row in table[(table["metric"] == "sensitivity") & (table["undefined"] > 0)].to_dict("records"):
        note = empty_mask_note(str(row["dataset"]), int(row["undefined"]), int(row["n"] + row["undefined"]))
        console.print(escape(note), highlight=False, soft_wrap=True)
    if table["oracle_prompt"].any():
        console.print(ORACLE_NOTE, highlight=False, soft_wrap=True)


def _interval(row: Mapping[Any, Any]) -> str:
    if not np.isfinite(row["mean"]):
        return f"undefined on all {int(row['undefined'])}"
    undefined = f" ({int(row['undefined'])} undefined)" if row["undefined"] else ""
    if not np.isfinite(row["low"]):
        return f"{row['mean']:.3f} (no interval: 1 patient){undefined}"
    return with_interval("{:.3f}".format, row["mean"], row["low"], row["high"]) + undefined


def _report(table: pd.DataFrame, folder: Path, shots: int) -> None:
    console = Console()
    if len(table):
        write_atomically(folder / SCORES, lambda path: table.to_csv(path, index=False))
        console.print("Test scores with 95 % intervals over patients", style="bold", highlight=False)
        show(table, console, f"after {shots} patient{'s' * (shots > 1)}" if shots else "unseen")
    else:
        console.print("No data set has test images, so there are no test scores.")
    console.print(f"Adapter: {escape(str(folder / ADAPTER))}", highlight=False, soft_wrap=True)


def _out_of_memory(config: TrialConfig, error: BaseException) -> OutOfMemory:
    why = str(error).partition("\n")[0] or type(error).__name__
    return OutOfMemory(
        f"A training step must fit into memory, but {config.batch_size} images of {config.image_size} pixels do not "
        f"({why}): lower batch_size or image_size, or choose a smaller backbone."
    )
