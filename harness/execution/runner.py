"""A study from its plan to its report: prepare, run what has no ending yet, report.

What a search and an ablation share lies here, and the search itself; ``harness.execution.ablations`` is the other.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from harness.errors import Hopeless, StudyBusy, TrackingError
from harness.execution import probe as probing
from harness.execution import ray_tune, references, searcher
from harness.execution.preparation import Prepared, prepare
from harness.execution.progress import LiveTable
from harness.execution.ray_tune import Slots
from harness.execution.searcher import Suggest
from harness.experiments import declarations
from harness.experiments import search as study
from harness.experiments.search import Overrides, Search
from harness.record import study as record
from harness.record import table
from harness.reports import build
from harness.reports.build import Report
from harness.reports.rendering.console import markdown
from harness.reports.search import across_models
from harness.samplers import Sampler
from harness.schedulers import Full, Scheduler
from harness.text import count
from harness.tracking.mlflow_tracker import Mirror
from sam2lora import checkpoints
from sam2lora.backbones import Backbone, Sam2
from sam2lora.choice import kinds
from sam2lora.commands.asked import RANDOM, Asked, datasets
from sam2lora.commands.asked import backbone as backbone_of
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import DiskError
from sam2lora.pack import pays
from sam2lora.protocols import Protocol
from sam2lora.runtime import Runtime, default_cache

Shown = Callable[[Report, Console], None]
RETRIES = 1
"""How often a crashed trial is started again from its last epoch."""


@dataclass(frozen=True)
class Plan:
    """What the command line says: of which declaration, with what in its place, and where and how it is run."""

    name: str
    study: str
    overrides: Overrides
    runtime: Runtime
    gpus_per_trial: float | None
    pack: bool | None
    storage: str
    mlflow: str
    out: Path
    command: str

    @property
    def folder(self) -> Path:
        """Where the study's files lie."""
        return self.out / self.study


def plans(arguments: argparse.Namespace, command: str, protocol: Protocol) -> tuple[Plan, ...]:
    """The plans of a command line, ``command`` as it was typed: one, or one for each model of the protocol.

    ``protocol``: the declared one, whose data sets stand where the command line names none. Raises before anything is
    opened or written.
    """
    whole = plan(arguments, command)
    return tuple(
        replace(
            whole,
            study=study_name(whole.study, asked),
            overrides=replace(whole.overrides, asked=asked),
        )
        for asked in whole.overrides.asked.each(protocol)
    )


def study_name(study: str, asked: Asked) -> str:
    """The study of one model: ``study`` itself, or with what tells it from the protocol's others behind a slash."""
    if asked.held_out is not None:
        return f"{study}/held_out={asked.held_out}"
    return study if asked.dataset is None else f"{study}/dataset={asked.dataset}"


def plan(arguments: argparse.Namespace, command: str) -> Plan:
    """The plan of a command line as if its protocol had one model: the study that ``plans`` divides."""
    backbone = _backbone(arguments.backbone, arguments.checkpoint)
    asked = Asked(
        kind=arguments.protocol,
        datasets=datasets(arguments.datasets),
        sources=datasets(arguments.sources),
        targets=datasets(arguments.targets),
        shots=arguments.shots,
        structure=arguments.structure,
    )
    overrides = Overrides(
        asked=asked,
        backbone=backbone,
        epochs=arguments.epochs,
        image_size=arguments.image_size,
    )
    checkpoint = None if arguments.checkpoint == RANDOM else arguments.checkpoint
    if isinstance(backbone, Sam2) and checkpoint is None and backbone.checkpoint is not None:
        checkpoint = checkpoints.place(backbone)  # prepare downloads what is not there yet
    out = arguments.out.resolve()
    return Plan(
        name=arguments.name,
        study=arguments.study or arguments.name,
        overrides=overrides,
        runtime=Runtime(
            data=_absolute(arguments.data), checkpoint=_absolute(checkpoint), cache=default_cache().resolve()
        ),
        gpus_per_trial=arguments.gpus_per_trial,
        pack=arguments.pack,
        storage=arguments.storage or f"sqlite:///{out / 'optuna.db'}",
        mlflow=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out / 'mlflow.db'}",
        out=out,
        command=command,
    )


def _absolute(path: Path | str | None) -> Path | None:
    """Workers run in folders of their own, where a relative path means something else."""
    return None if path is None else Path(path).resolve()


def searched(arguments: argparse.Namespace) -> Search:
    """The declared search with what the command line says in place of its sampler, scheduler, trials and seed."""
    search = declarations.search(arguments.name)
    if arguments.sampler is not None and arguments.sampler != search.sampler.kind:
        search = replace(search, sampler=kinds(Sampler)[arguments.sampler]())
    if arguments.scheduler is not None and arguments.scheduler != search.scheduler.kind:
        search = replace(search, scheduler=kinds(Scheduler)[arguments.scheduler]())
    if arguments.trials is not None:
        search = replace(search, trials=arguments.trials)
    if arguments.probe is not None:
        search = replace(search, probe=arguments.probe)
    if arguments.no_references:
        search = replace(search, references=False)
    if arguments.seed is not None:
        search = replace(search, replicate=replace(search.replicate, seed=arguments.seed))
    return search


def _backbone(name: str | None, checkpoint: str | None) -> Backbone | None:
    return None if name is None and checkpoint is None else backbone_of(name or "nano", checkpoint)


def searches(plans: Sequence[Plan], asked: Search, name: str, console: Console) -> bool:
    """Run a search by every plan in turn; True when all have ended, False after an interruption.

    Several end with one summary, printed and written into the folder of ``name``. Raises as ``search`` does.
    """
    with ray_tune.started() if len(plans) > 1 else nullcontext():
        for each in plans:
            if not search(each, asked, declarations.question_of(each.name, "search_spaces"), console):
                return False
    if len(plans) > 1:
        frame = across_models.summary(plans[0].storage, [each.study for each in plans], plans[0].out)
        conclude(frame, across_models.markdown(frame), plans[0].out / name, console)
    return True


def conclude(frame: pd.DataFrame, lines: Sequence[str], folder: Path, console: Console) -> None:
    """Write the summary of several studies into ``folder``, and print its ``lines``."""
    text, _ = across_models.write(frame, lines, folder)
    Console().print(markdown(text.read_text()))
    console.print(f"Summary: {text}", highlight=False, soft_wrap=True)


def search(plan: Plan, search: Search, title: str, console: Console, shown: Shown = build.show) -> bool:
    """Run a search, which ``title`` puts in words; True when all its trials have ended, False after an interruption.

    ``shown`` prints its report. Raises ``StudyBusy`` while another process runs it, ``Hopeless`` when its trials only
    crash, ``RecordError`` and ``DiskError`` when something cannot be written, and whatever ``prepare`` refuses.
    """
    return alone(plan, lambda: _search(plan, search, title, console, shown))


def alone(plan: Plan, work: Callable[[], bool]) -> bool:
    """Do ``work`` on the study of a plan while no other process does.

    Raises ``StudyBusy`` if one does; turns what a storage or a disk raises into ``RecordError`` and ``DiskError``.
    """
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(plan.folder / ".lock", timeout=0):
            return work()
    except Timeout:
        raise StudyBusy(
            f"A study is run by one process at a time, but {plan.folder} is in use by another: wait for it, or name "
            f"another study with --study."
        ) from None
    except record.FAULTS as error:
        raise record.unusable(plan.storage, error) from error
    except OSError as error:
        raise DiskError(
            f"Results must be written into {plan.folder}, but they cannot be: {error}. Free some space or mend the "
            f"folder's rights, then run the same command again; what was finished is kept."
        ) from error


def ready(
    plan: Plan, configs: Sequence[TrialConfig], replicates: Sequence[Replicate], console: Console
) -> tuple[Prepared, Slots, Runtime]:
    """What was prepared for such trials, how they share the machine, and where each computes."""
    packed = ray_tune.packs(configs, plan.gpus_per_trial) if plan.pack is None else plan.pack
    room = ray_tune.slots(plan.gpus_per_trial, packed=packed)
    runtime = replace(plan.runtime, device="cuda" if room.gpus else "cpu", threads=max(1, int(room.cpus)))
    if room.residents > 1 and (apart := sum(not pays(config, runtime.device) for config in configs)):
        console.print(
            f"{apart} of {len(configs)} settings (of those looked at) are no faster in a pack: trials of their kind "
            f"take turns in their engine.",
            highlight=False,
            soft_wrap=True,
        )
    prepared = prepare(configs, replicates, runtime, room.concurrent, console, room.residents)
    return prepared, replace(room, concurrent=prepared.fitting), runtime


def _search(plan: Plan, search: Search, title: str, console: Console, shown: Shown) -> bool:
    begun = time.monotonic()
    configs = [plan.overrides.apply(config) for config, _ in study.draws(search.space)]
    beside = references.references(search, plan.overrides, configs[0])
    prepared, room, runtime = ready(plan, [*configs, *beside.values()], (search.replicate,), console)
    question = {**study.question(plan.name, search, plan.overrides, prepared.digests), **prepared.told}
    space = study.distributions(search.space)
    so_far = record.count(plan.storage, plan.study)
    sampler = probing.Unaware(search.sampler.build(search.replicate.seed, space, so_far))
    book = record.open_record(plan.storage, plan.study, plan.folder, question, sampler, plan.command, search.objectives)
    book.study.set_user_attr("validation", {"n": prepared.validation, "clusters": prepared.validating})
    limit = search.sampler.limit(space)

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        if (name := trial.user_attrs.get("reference")) is not None:
            return beside[name], search.replicate
        return plan.overrides.apply(search.space(trial)), search.replicate

    ask = Suggest(
        book,
        propose,
        prepared.digests,
        runtime,
        min(search.trials, limit or search.trials),
        constraints=search.constraints,
        limit=limit,
    )
    wanted = probing.points(space, search.replicate.seed, search.probe)
    probe = Suggest(
        probing.book(book, search.replicate.seed + so_far),
        propose,
        prepared.digests,
        runtime,
        search.probe + len(beside),
        constraints=search.constraints,
        points=probing.missing(book, wanted),
        references=references.missing(book, beside),
    )
    probe.endings = ask.endings  # what the search trains before its probe begins is not trained again
    oracle = [config.test_prompt.oracle for config in configs]
    extra = [f"{search.probe} of a probe"] * bool(search.probe)
    extra += [count(len(beside), "reference")] * bool(beside)
    told = f"; beside them {' and '.join(extra)}, {probe.ended} done" if extra else ""
    head(console, plan, title, question, prepared, room, ask, oracle, told)
    finished = carry_out(plan, console, ask, question, prepared, room, search.scheduler, probe, shown)
    if finished:
        console.print(f"{time.monotonic() - begun:.0f} s.", highlight=False)
    return finished


def carry_out(
    plan: Plan,
    console: Console,
    ask: Suggest,
    question: Mapping[str, Any],
    prepared: Prepared,
    room: Slots,
    scheduler: Scheduler,
    probe: Suggest | None = None,
    shown: Shown = build.show,
) -> bool:
    """Run what ``ask`` has left and report; True when nothing is left, False after an interruption.

    After it comes what a search's ``probe``, with its references, has left, which no scheduler stops. Raises
    ``Hopeless``, once MLflow is up to date.
    """
    book = ask.record
    mirror = Mirror(plan.mlflow, book, question, prepared.materials)
    passes = [(ask, scheduler), *([(probe, Full())] if probe is not None else [])]
    trials, ended = sum(one.trials for one, _ in passes), sum(one.ended for one, _ in passes)
    live = LiveTable(console, trials, question["epochs"], book.objectives, before=ended, past=book.trials())
    for one, _ in passes:
        one.listeners = (mirror, live)
    ask.on_more = live.grow
    hopeless = _run(passes, question["epochs"], room, mirror, live)
    left = any(one.wanted for one, _ in passes)
    if hopeless is not None or left:
        _close(mirror, console, None)
    if hopeless is not None:
        raise hopeless
    if left:
        return False
    written = build.write(table.read(plan.storage, plan.study, plan.out), plan.out, plan.mlflow)
    shown(written, Console())
    _close(mirror, console, written)
    return True


def _run(
    passes: Sequence[tuple[Suggest, Scheduler]], epochs: int, room: Slots, mirror: Mirror, live: LiveTable
) -> Hopeless | None:
    """Run what has no ending yet, one pass after the other; None after the last trial and after an interruption."""
    if not any(ask.wanted for ask, _ in passes):
        mirror.wait()
        return None
    with ray_tune.cluster(room) as room:  # MLflow migrates its database meanwhile
        mirror.wait()
        with live:
            try:
                for ask, scheduler in passes:
                    if ask.wanted:
                        built = scheduler.build(epochs)
                        searcher.rebuild(built, ask.record.trials())
                        ray_tune.run(ask, built, room, RETRIES)
                    if ask.wanted:
                        return None
            except Hopeless as error:
                return error
    return None


def head(
    console: Console,
    plan: Plan,
    title: str,
    question: Mapping[str, Any],
    prepared: Prepared,
    room: Slots,
    ask: Suggest,
    oracle: Sequence[bool],
    beside: str = "",
) -> None:
    """Say what is about to run. ``oracle``: of each of the settings that may come, whether its scores are oracle's.

    ``beside``: what there is beside the trials that are asked for.
    """
    told = "" if not any(oracle) else f"; {'all' if all(oracle) else 'some'} scores prompted from the ground truth"
    share = f"{room.gpus:g} GPU" if room.gpus else "one CPU core"
    where = f"{share} each" if room.residents == 1 else f"{share} and one engine for every {room.residents}"
    console.print(f"[bold]{escape(plan.study)}[/]: {title}", highlight=False, soft_wrap=True)
    console.print(
        f"sources {', '.join(question['sources'])}; targets {', '.join(question['targets']) or 'none'}; "
        f"{prepared.training} training and {prepared.validation} validation images; {question['backbone']['kind']}; "
        f"{count(ask.trials, 'trial')} of {count(question['epochs'], 'epoch')}, {ask.ended} done{beside}; "
        f"{room.concurrent} at once, {where}{told}",
        highlight=False,
        soft_wrap=True,
    )


def _close(mirror: Mirror, console: Console, written: Report | None) -> None:
    """Bring MLflow up to date, with the report of a finished study; without one the study was interrupted.

    A server that has gone away is a warning: the record has everything.
    """
    try:
        if written is None:
            mirror.close({}, "", None, finished=False)
        else:
            mirror.close(written.summary, written.note, written.folder, written.front, written.tags, finished=True)
    except TrackingError as error:
        console.print(f"[bold yellow]warning:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
