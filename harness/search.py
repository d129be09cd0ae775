"""``python -m harness.search NAME``: search the settings of SAM 2 + LoRA across fundus data sets."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import declared
from harness.errors import HarnessError, Hopeless, StudyBusy, TrackingError
from sam2lora.errors import Sam2LoraError

INTERRUPTED = 130
"""Exit status after SIGINT, by the shell's convention."""
GO_ON = "Run the same command again to go on from the last epoch of every trial."
RETRIES = 1
"""How often a crashed trial is started again from its last epoch."""


def parser() -> argparse.ArgumentParser:
    """The command line. Whatever changes the question is recorded in the study; devices and folders are not."""
    from harness.samplers import Sampler
    from harness.schedulers import Scheduler
    from sam2lora.choice import kinds

    names = ", ".join(declared.searches())
    command = argparse.ArgumentParser(
        prog="python -m harness.search",
        description="Search the settings of SAM 2 + LoRA: Ray Tune runs the trials, Optuna proposes them, MLflow "
        "shows them. Run the same command again to go on with a study.",
        epilog=f"Searches: {names}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of search_spaces/, without .py")
    question = command.add_argument_group("the question (recorded; a study is not continued under another value)")
    question.add_argument("--sources", metavar="A,B", help="data sets to train and validate on")
    question.add_argument("--targets", metavar="C,D", help="data sets to judge on, never seen in training")
    question.add_argument(
        "--backbone", metavar="B", help="nano, tiny, small, base+ or large; the last four need --checkpoint"
    )
    question.add_argument(
        "--checkpoint", metavar="FILE", help="SAM 2.1 weights as Meta distributes them, or the word 'random'"
    )
    question.add_argument("--epochs", type=positive, metavar="N", help="epochs of a trial that is not stopped")
    question.add_argument(
        "--image-size", type=positive, metavar="N", help="side of the model's square frame, in pixels"
    )
    question.add_argument("--sampler", choices=list(kinds(Sampler)), help="who proposes trials")
    question.add_argument("--scheduler", choices=list(kinds(Scheduler)), help="who stops trials early")
    question.add_argument("--seed", type=int, metavar="N", help="of the sampler and of every trial")
    run = command.add_argument_group("the run (free to change)")
    run.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets, in their owners' layouts")
    run.add_argument("--trials", type=positive, metavar="N", help="trials of the study in all runs together")
    run.add_argument("--study", metavar="STUDY", help="name of the study (default: NAME)")
    run.add_argument(
        "--gpus-per-trial", type=float, metavar="F", help="share of a GPU for each trial (default: 1 if there is one)"
    )
    run.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)")
    run.add_argument("--storage", metavar="URL", help="database of the record (default: sqlite:///DIR/optuna.db)")
    return command


def positive(text: str) -> int:
    """An integer of 1 or more, or argparse's error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, but is {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a search from the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    _hush()
    try:
        declared.check(arguments.name)
        with console.status("loading torch, Ray, Optuna and MLflow"):
            _load()
        return search(arguments, console)
    except (HarnessError, Sam2LoraError, ValueError) as error:
        console.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print(f"Interrupted. {GO_ON}")
        return INTERRUPTED


def _hush() -> None:
    """One voice on the terminal: what libraries log about their own work is left to their log levels."""
    import logging

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _load() -> None:
    """Import what takes seconds while something says so; an unknown name is refused before that."""
    for module in ("execute", "prepare", "suggest", "track"):
        importlib.import_module(f"harness.{module}")


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))


@dataclass(frozen=True)
class Plan:
    """What the command line and the declaration say together."""

    name: str
    study: str
    search: Any
    overrides: Any
    runtime: Any
    storage: str
    mlflow: str
    folder: Path


def plan(arguments: argparse.Namespace) -> Plan:
    """The plan of a command line. Raises before anything is opened or written."""
    from harness.study import Overrides
    from sam2lora.runtime import Runtime, default_cache

    search = declared.search(arguments.name)
    search = _overridden(search, arguments)
    overrides = Overrides(
        sources=_datasets(arguments.sources),
        targets=_datasets(arguments.targets),
        backbone=_backbone(arguments.backbone, arguments.checkpoint),
        epochs=arguments.epochs,
        image_size=arguments.image_size,
    )
    checkpoint = _absolute(arguments.checkpoint if arguments.checkpoint != "random" else None)
    out, study = arguments.out.resolve(), arguments.study or arguments.name
    return Plan(
        name=arguments.name,
        study=study,
        search=search,
        overrides=overrides,
        runtime=Runtime(data=_absolute(arguments.data), checkpoint=checkpoint, cache=default_cache().resolve()),
        storage=arguments.storage or f"sqlite:///{out / 'optuna.db'}",
        mlflow=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out / 'mlflow.db'}",
        folder=out / study,
    )


def _absolute(path: Path | str | None) -> Path | None:
    """Workers run in folders of their own, where a relative path means something else."""
    return None if path is None else Path(path).resolve()


def _overridden(search: Any, arguments: argparse.Namespace) -> Any:
    from harness.samplers import Sampler
    from harness.schedulers import Scheduler
    from sam2lora.choice import kinds

    if arguments.sampler is not None and arguments.sampler != search.sampler.kind:
        search = replace(search, sampler=kinds(Sampler)[arguments.sampler]())
    if arguments.scheduler is not None and arguments.scheduler != search.scheduler.kind:
        search = replace(search, scheduler=kinds(Scheduler)[arguments.scheduler]())
    if arguments.trials is not None:
        search = replace(search, trials=arguments.trials)
    if arguments.seed is not None:
        search = replace(search, replicate=replace(search.replicate, seed=arguments.seed))
    return search


def _datasets(names: str | None) -> tuple[Any, ...] | None:
    from sam2lora.datasets import named

    return None if names is None else tuple(named(name) for name in names.split(",") if name.strip())


def _backbone(size: str | None, checkpoint: str | None) -> Any:
    from sam2lora.backbones import Nano, Sam2
    from sam2lora.errors import CheckpointError
    from sam2lora.model import sha256

    sizes = ("tiny", "small", "base+", "large")
    if size is None and checkpoint is None:
        return None
    if size in (None, "nano"):
        if checkpoint is None:
            return Nano()
        if checkpoint == "random":
            return Nano(weights="random")
        raise CheckpointError(
            f"nano comes with weights of its own, but --checkpoint {checkpoint} was given: leave it out, or name the "
            f"size that the file belongs to with --backbone ({', '.join(sizes)})."
        )
    if size not in sizes:
        raise CheckpointError(
            f"--backbone must be one of nano, {', '.join(sizes)}, but is {size!r}: choose one of them."
        )
    if checkpoint is None:
        raise CheckpointError(
            f"--backbone {size} needs weights, but no --checkpoint was given: name Meta's file of SAM 2.1 {size}, or "
            f"say --checkpoint random to train on random weights on purpose."
        )
    if checkpoint == "random":
        return Sam2(size=size)  # type: ignore[arg-type]
    if not Path(checkpoint).is_file():
        raise CheckpointError(f"--checkpoint must be a file, but {checkpoint} is not: check the path.")
    return Sam2(size=size, checkpoint=sha256(Path(checkpoint)))  # type: ignore[arg-type]


def search(arguments: argparse.Namespace, console: Console) -> int:
    """Prepare, run and report a study. Returns 0 when all its trials have ended, 130 after an interruption."""
    todo = plan(arguments)
    begun = time.monotonic()
    from filelock import FileLock, Timeout

    todo.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(todo.folder / ".lock", timeout=0):
            return _locked(todo, arguments, console, begun)
    except Timeout:
        raise StudyBusy(
            f"A study is run by one process at a time, but {todo.folder} is in use by another: wait for it, or name "
            f"another study with --study."
        ) from None


def _locked(todo: Plan, arguments: argparse.Namespace, console: Console, begun: float) -> int:
    from harness import execute, record, study, suggest
    from harness.prepare import prepare
    from harness.progress import LiveTable
    from harness.track import Mirror

    room = execute.slots(arguments.gpus_per_trial)
    device = "cuda" if room.gpus else "cpu"
    runtime = replace(todo.runtime, device=device, threads=max(1, int(room.cpus)))
    prepared = prepare(todo.search, todo.overrides, runtime, room.concurrent, console)
    room = replace(room, concurrent=prepared.fitting)
    question = study.question(todo.name, todo.search, todo.overrides, prepared.digests)
    space = study.distributions(todo.search.space)
    book = record.open_record(todo.storage, todo.study, todo.folder, question, _sampler(todo, space))
    total = min(todo.search.trials, todo.search.sampler.limit(space) or todo.search.trials)
    _head(console, todo, question, prepared, room, book, total)
    mirror = Mirror(todo.mlflow, book, question, prepared.materials)
    live = LiveTable(console, total, question["epochs"], len(record.finished(book.trials())))
    ask = suggest.Suggest(
        book,
        lambda trial: todo.overrides.apply(todo.search.space(trial)),
        todo.search.replicate,
        prepared.digests,
        runtime,
        total,
        listeners=(mirror, live),
    )
    hopeless = _run(todo, question["epochs"], room, ask, mirror, live)
    if hopeless is not None:
        _close(mirror, console, {}, "", None, finished=False)
        raise hopeless
    if ask.wanted:
        _close(mirror, console, {}, "", None, finished=False)
        console.print(f"Interrupted with {ask.ended} of {total} trials done. {GO_ON}")
        return INTERRUPTED
    _report(todo, mirror, console)
    console.print(f"{time.monotonic() - begun:.0f} s.", highlight=False)
    return 0


def _run(todo: Plan, epochs: int, room: Any, ask: Any, mirror: Any, live: Any) -> Hopeless | None:
    """Run what has no ending yet; None after the last trial and after an interruption."""
    from harness import execute, suggest

    if not ask.wanted:
        mirror.wait()
        return None
    scheduler = todo.search.scheduler.build(epochs)
    suggest.rebuild(scheduler, ask.record.trials())
    with execute.cluster(room):  # MLflow migrates its database meanwhile
        mirror.wait()
        with live:
            try:
                execute.run(ask, scheduler, room, RETRIES)
            except Hopeless as error:
                return error
    return None


def _sampler(todo: Plan, space: Any) -> Any:
    """Seeded by the study's seed and by how far the study has come: a resumed sampler must not repeat its draws."""
    from harness.record import count

    so_far = count(todo.storage, todo.study)
    return todo.search.sampler.build(todo.search.replicate.seed + 1_000_003 * so_far, space)


def _head(console: Console, todo: Plan, question: Any, prepared: Any, room: Any, book: Any, total: int) -> None:
    from harness.record import finished

    done = len(finished(book.trials()))
    where = f"{room.gpus:g} GPU each" if room.gpus else "one CPU core each"
    console.print(f"[bold]{todo.study}[/]: {declared.question_of(todo.name)}", highlight=False)
    console.print(
        f"sources {', '.join(question['sources'])}; targets {', '.join(question['targets']) or 'none'}; "
        f"{prepared.training} training and {prepared.validation} validation images; {question['backbone']['kind']}; "
        f"{total} trials of {question['epochs']} epochs, {done} done; {room.concurrent} at once, {where}",
        highlight=False,
        soft_wrap=True,
    )


def _report(todo: Plan, mirror: Any, console: Console) -> None:
    from harness import report, table

    read = table.read(todo.storage, todo.study, todo.folder.parent)
    written = report.write(read, todo.folder.parent, todo.mlflow)
    report.show(written, Console())
    _close(mirror, console, written.summary, written.note, written.folder, finished=True)


def _close(mirror: Any, console: Console, *summary: Any, finished: bool) -> None:
    """Bring MLflow up to date. A server that has gone away is a warning: the record has everything."""
    try:
        mirror.close(*summary, finished=finished)
    except TrackingError as error:
        console.print(f"[bold yellow]warning:[/] {_plain(error)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
