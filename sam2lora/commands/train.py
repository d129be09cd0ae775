"""``python -m sam2lora.train``: train one configuration and score it on its test images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from sam2lora import tuned
from sam2lora.adapters import LoRA
from sam2lora.artifacts import ADAPTER, CHECKPOINT, IMAGES, RESULT, finish
from sam2lora.base import BASE
from sam2lora.choice import digest, from_json, to_json
from sam2lora.commands.options import INTERRUPTED, add_machine, machine, positive, refuse
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.datasets import Dataset, named
from sam2lora.errors import DiskError, OutOfMemory, Sam2LoraError, SettingError
from sam2lora.intervals import mean_interval
from sam2lora.memory import is_out_of_memory
from sam2lora.metrics import METRICS
from sam2lora.presets import PRESETS
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime, default_cache
from sam2lora.settings import changed, read_settings, write_settings
from sam2lora.train import Session, check_parts, epoch, open_sets, resume, save, start, write_atomically

CONFIG = "config.json"
REPLICATE = "replicate.json"
SCORES = "scores.csv"
_SHOWN = ("dice", "iou", "auc")
_ORACLE = "†"  # beside scores that were reached with a prompt from the ground truth
_SIZE = 12  # digits of a default folder's name


def parser() -> argparse.ArgumentParser:
    """The command line of the training."""
    command = argparse.ArgumentParser(
        prog="python -m sam2lora.train",
        description="Train one configuration, without a search, and score it once on the test images of its sources "
        "and on its targets. Run the same command again to go on after an interruption.",
        epilog="Settings are taken from --config, --preset or --like (else: the defaults, --print-config shows them), "
        "then from the named options, then from --set in the order given.",
    )
    settings = command.add_argument_group("the settings")
    begin = settings.add_mutually_exclusive_group()
    begin.add_argument("--config", type=Path, metavar="FILE", help="settings as JSON, as --print-config writes them")
    begin.add_argument(
        "--like", metavar="WHERE", help="settings of a trained adapter: a file, a folder, a study or an MLflow run"
    )
    begin.add_argument("--preset", choices=list(PRESETS), help="published settings; what they assume is printed first")
    settings.add_argument("--sources", metavar="A,B", help="data sets to train and validate on")
    settings.add_argument("--targets", metavar="C,D", help="data sets to judge on, never seen in training")
    settings.add_argument("--rank", type=positive, metavar="N", help="rank of LoRA; alpha becomes twice the rank")
    settings.add_argument("--lr", type=float, metavar="F", help="learning rate")
    settings.add_argument("--epochs", type=positive, metavar="N", help="passes over the training images")
    settings.add_argument(
        "--image-size", type=positive, metavar="N", help="side of the model's square frame, in pixels"
    )
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="any field by its path: adapter.rank=16, schedule=constant, loss.terms.0.weight=1.0",
    )
    settings.add_argument(
        "--seed", type=int, metavar="N", help="of data order, augmentation and initial values (default: 0)"
    )
    settings.add_argument(
        "--fold", type=int, choices=range(5), help="fifth of the development images that validates (default: 0)"
    )
    settings.add_argument("--print-config", action="store_true", help="print the settings as JSON and stop")
    where = command.add_argument_group("the files")
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="results (default: runs/train/, a name made of the settings)"
    )
    where.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets, in their owners' layouts")
    where.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights of a published SAM 2")
    where.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where --like looks up names (default: runs)"
    )
    where.add_argument("--storage", metavar="URL", help="record of --like (default: sqlite:///RUNS/optuna.db)")
    add_machine(command)
    return command


def settings(arguments: argparse.Namespace) -> tuple[TrialConfig, Replicate]:
    """The settings and the replicate that a command line asks for. Raises ``SettingError`` and ``DataError``."""
    config, replicate = _begin(arguments)
    if arguments.sources is not None or arguments.targets is not None:
        sources = config.protocol.sources if arguments.sources is None else _datasets(arguments.sources)
        kept = config.protocol.targets if arguments.sources is None else ()
        targets = kept if arguments.targets is None else _datasets(arguments.targets)
        config = replace(config, protocol=Transfer(sources=sources, targets=targets))
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
        return PRESETS[arguments.preset].config, Replicate()
    if arguments.like is not None:
        found = tuned.find(arguments.like, arguments.runs, arguments.storage)
        return found.config, found.replicate
    return BASE, Replicate()


def _datasets(names: str) -> tuple[Dataset, ...]:
    return tuple(named(name) for name in names.split(",") if name.strip())


def train(config: TrialConfig, replicate: Replicate, runtime: Runtime, folder: Path, console: Console) -> pd.DataFrame:
    """Train in ``folder``, or go on where an earlier call was stopped; one row per test image.

    A folder that holds the same trial, finished, is read. Raises ``SettingError`` when it holds another trial and
    whatever ``sam2lora.train`` raises; in both cases nothing that was there is changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            _claim(folder, config, replicate)
            if (folder / RESULT).is_file():
                (folder / CHECKPOINT).unlink(missing_ok=True)
                console.print(f"{escape(str(folder))} holds this training, finished: these are its scores.")
                return pd.read_parquet(folder / IMAGES)
            return _train(config, replicate, runtime, folder, console)
    except Timeout:
        raise DiskError(
            f"A folder is trained in by one process at a time, but {folder} is in use by another: wait for it, or "
            f"name another folder with --out."
        ) from None


def _train(config: TrialConfig, replicate: Replicate, runtime: Runtime, folder: Path, console: Console) -> pd.DataFrame:
    with console.status("opening the data and the model"):
        session = start(config, replicate, runtime)
        check_parts(session.sources, replicate.fold)
        if (folder / CHECKPOINT).exists():
            resume(session, folder / CHECKPOINT)
    _head(session, console)
    with _bar(console) as bar:
        task = bar.add_task("training", total=config.epochs, completed=session.epoch)
        while not session.finished:
            entry = epoch(session)
            save(session, folder / CHECKPOINT)
            bar.advance(task)
            console.print(_line(entry, config), highlight=False)
        bar.update(task, description="scoring the test images")
        rows = finish(session, _key(session), folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return rows


def _key(session: Session) -> str:
    protocol = session.config.protocol
    sets = (*session.sources, *open_sets(protocol.targets, session.config.image_size, session.runtime))
    return trial_key(
        session.config, session.replicate, {f"data/{opened.dataset.name}": opened.digest for opened in sets}
    )


def _claim(folder: Path, config: TrialConfig, replicate: Replicate) -> None:
    """Write what is trained in ``folder``; refuse one that holds another training."""
    if not (folder / CONFIG).exists():
        if taken := next((name for name in (RESULT, ADAPTER, CHECKPOINT) if (folder / name).exists()), None):
            raise SettingError(
                f"A training needs a folder of its own, but {folder} holds the {taken} of something else: name another "
                f"with --out."
            )
        write_atomically(folder / REPLICATE, lambda path: path.write_text(to_json(replicate) + "\n"))
        write_atomically(folder / CONFIG, lambda path: path.write_text(write_settings(config)))
        return
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


def scores(rows: pd.DataFrame, seed: int, *, oracle: bool) -> pd.DataFrame:
    """Mean and 95 % interval of every metric on every data set: one row each, in the order of ``rows``.

    Columns: ``dataset``, ``role``, ``metric``, the fields of ``sam2lora.intervals.MeanInterval`` and
    ``oracle_prompt``, which is ``oracle``: whether the test prompt was drawn from the ground truth. Patients are
    resampled, by a generator seeded with ``seed``. No rows, no scores.
    """
    rng = np.random.default_rng(seed)
    table = [
        {"dataset": dataset, "role": part["role"].iloc[0], "metric": metric}
        | asdict(mean_interval(part[metric], part["patient"], rng))
        | {"oracle_prompt": oracle}
        for dataset, part in (rows.groupby("dataset", sort=False) if len(rows) else ())
        for metric in METRICS
        if metric in part
    ]
    return pd.DataFrame(table)


def show(table: pd.DataFrame, console: Console) -> None:
    """Print the scores that most papers give, one row per data set; marked if prompted from the ground truth."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    chosen = [metric for metric in _SHOWN if metric in set(table["metric"])]
    for title in ("data set", "role", "images", "patients", *chosen):
        shown.add_column(title)
    roles = {"target": "unseen", "source": "in domain"}
    for dataset, part in table.groupby("dataset", sort=False):
        first = part.iloc[0]
        by_metric = {row["metric"]: _interval(row) for row in part.to_dict("records")}
        cells = [by_metric.get(metric, "not measured") for metric in chosen]
        counts = (str(int(first["n"] + first["undefined"])), str(int(first["clusters"])))
        name = f"{dataset} {_ORACLE}" if first["oracle_prompt"] else str(dataset)
        shown.add_row(name, roles[str(first["role"])], *counts, *map(escape, cells))
    console.print(shown)
    if table["oracle_prompt"].any():
        console.print(
            f"{_ORACLE} Prompted from ground truth: upper bounds, not what an unlabelled image would get.",
            highlight=False,
            soft_wrap=True,
        )


def _interval(row: Mapping[Any, Any]) -> str:
    if not np.isfinite(row["mean"]):
        return "undefined"
    left_out = f" ({int(row['undefined'])} undefined)" if row["undefined"] else ""
    limits = f" [{row['low']:.3f}, {row['high']:.3f}]" if np.isfinite(row["low"]) else ""
    return f"{row['mean']:.3f}{limits}{left_out}"


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        config, replicate = settings(arguments)
        for field, why in (PRESETS[arguments.preset].assumed if arguments.preset else {}).items():
            console.print(f"assumed {escape(field)}: {escape(why)}", highlight=False, soft_wrap=True)
        if arguments.print_config:
            sys.stdout.write(write_settings(config))
            return 0
        device, threads = machine(arguments)
        runtime = Runtime(
            data=arguments.data, cache=default_cache(), checkpoint=arguments.checkpoint, device=device, threads=threads
        )
        folder = arguments.out or arguments.runs / "train" / digest(config, replicate)[:_SIZE]
        rows = train(config, replicate, runtime, folder, console)
    except (Sam2LoraError, ValueError) as error:
        return refuse(console, error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return refuse(console, _no_room(config, error))
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to go on from the last epoch.")
        return INTERRUPTED
    _report(scores(rows, replicate.seed, oracle=config.test_prompt.oracle), folder)
    return 0


def _report(table: pd.DataFrame, folder: Path) -> None:
    console = Console()
    if len(table):
        write_atomically(folder / SCORES, lambda path: table.to_csv(path, index=False))
        console.print("Test scores with 95 % intervals over patients", style="bold", highlight=False)
        show(table, console)
    else:
        console.print("No data set has images that judge, so there are no test scores.")
    console.print(f"Adapter: {escape(str(folder / ADAPTER))}", highlight=False, soft_wrap=True)


def _no_room(config: TrialConfig, error: BaseException) -> OutOfMemory:
    why = str(error).partition("\n")[0] or type(error).__name__
    return OutOfMemory(
        f"A training step must fit into memory, but {config.batch_size} images of {config.image_size} pixels do not "
        f"({why}): lower batch_size or image_size, or choose a smaller backbone."
    )
