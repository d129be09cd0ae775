"""A study from its plan to its report: prepare, run what has no ending yet, report."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from harness import declared, execute, record, report, several, study, suggest, table
from harness.ablated.report import AblationReport
from harness.errors import Hopeless, StudyBusy, TrackingError
from harness.execute import Slots
from harness.prepare import Prepared, prepare
from harness.progress import LiveTable
from harness.report import Report
from harness.samplers import Sampler
from harness.schedulers import Scheduler
from harness.study import Overrides, Search
from harness.suggest import Suggest
from harness.track import Mirror
from sam2lora import checkpoints
from sam2lora.backbones import Backbone, Sam2
from sam2lora.choice import kinds
from sam2lora.commands.asked import RANDOM, Asked, datasets
from sam2lora.commands.asked import backbone as backbone_of
from sam2lora.errors import DiskError
from sam2lora.runtime import Runtime, default_cache

RETRIES = 1
"""How often a crashed trial is started again from its last epoch."""


@dataclass(frozen=True)
class Plan:
    """What the command line and the declaration say together: a question, and where and how it is run."""

    name: str
    study: str
    search: Search
    overrides: Overrides
    runtime: Runtime
    gpus_per_trial: float | None
    storage: str
    mlflow: str
    out: Path
    command: str

    @property
    def folder(self) -> Path:
        """Where the study's files lie."""
        return self.out / self.study


def plans(arguments: argparse.Namespace, command: str) -> tuple[Plan, ...]:
    """The plans of a command line, ``command`` as it was typed: one, or one for each model of the protocol.

    Raises before anything is opened or written.
    """
    whole = plan(arguments, command)
    typical = study.draws(whole.search.space, 1)[0][0].protocol
    return tuple(
        replace(
            whole,
            study=study_name(whole.study, asked),
            overrides=replace(whole.overrides, asked=asked),
        )
        for asked in whole.overrides.asked.each(typical)
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
        search=_overridden(declared.search(arguments.name), arguments),
        overrides=overrides,
        runtime=Runtime(
            data=_absolute(arguments.data), checkpoint=_absolute(checkpoint), cache=default_cache().resolve()
        ),
        gpus_per_trial=arguments.gpus_per_trial,
        storage=arguments.storage or f"sqlite:///{out / 'optuna.db'}",
        mlflow=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out / 'mlflow.db'}",
        out=out,
        command=command,
    )


def _absolute(path: Path | str | None) -> Path | None:
    """Workers run in folders of their own, where a relative path means something else."""
    return None if path is None else Path(path).resolve()


def _overridden(search: Search, arguments: argparse.Namespace) -> Search:
    if arguments.sampler is not None and arguments.sampler != search.sampler.kind:
        search = replace(search, sampler=kinds(Sampler)[arguments.sampler]())
    if arguments.scheduler is not None and arguments.scheduler != search.scheduler.kind:
        search = replace(search, scheduler=kinds(Scheduler)[arguments.scheduler]())
    if arguments.trials is not None:
        search = replace(search, trials=arguments.trials)
    if arguments.seed is not None:
        search = replace(search, replicate=replace(search.replicate, seed=arguments.seed))
    return search


def _backbone(name: str | None, checkpoint: str | None) -> Backbone | None:
    return None if name is None and checkpoint is None else backbone_of(name or "nano", checkpoint)


def searches(plans: Sequence[Plan], name: str, console: Console) -> bool:
    """Run the study of every plan in turn; True when all have ended, False after an interruption.

    Several end with one summary, printed and written into the folder of ``name``. Raises as ``search`` does.
    """
    for each in plans:
        if not search(each, console):
            return False
    if len(plans) > 1:
        frame = several.summary(plans[0].storage, [each.study for each in plans], plans[0].out)
        text, _ = several.write(frame, plans[0].out / name)
        Console().print(Markdown(text.read_text()))
        console.print(f"Summary: {text}", highlight=False, soft_wrap=True)
    return True


def search(plan: Plan, console: Console) -> bool:
    """Run the study of a plan; True when all its trials have ended, False after an interruption.

    Raises ``StudyBusy`` while another process runs it, ``Hopeless`` when its trials only crash, ``RecordError`` and
    ``DiskError`` when something cannot be written, and whatever ``prepare`` refuses.
    """
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(plan.folder / ".lock", timeout=0):
            return _search(plan, console)
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


def _search(plan: Plan, console: Console) -> bool:
    begun = time.monotonic()
    room = execute.slots(plan.gpus_per_trial)
    runtime = replace(plan.runtime, device="cuda" if room.gpus else "cpu", threads=max(1, int(room.cpus)))
    prepared = prepare(plan.search, plan.overrides, runtime, room.concurrent, console)
    room = replace(room, concurrent=prepared.fitting)
    question = study.question(plan.name, plan.search, plan.overrides, prepared.digests)
    if prepared.left_out:  # told by the report; the digests of the data change with it
        question["left_out"] = {name: list(why) for name, why in prepared.left_out.items()}
    space = study.distributions(plan.search.space)
    so_far = record.count(plan.storage, plan.study)
    sampler = plan.search.sampler.build(plan.search.replicate.seed, space, so_far)
    objectives = plan.search.objectives
    book = record.open_record(plan.storage, plan.study, plan.folder, question, sampler, plan.command, objectives)
    limit = plan.search.sampler.limit(space)
    total = min(plan.search.trials, limit or plan.search.trials)
    mirror = Mirror(plan.mlflow, book, question, prepared.materials)
    ask = Suggest(
        book,
        lambda trial: plan.overrides.apply(plan.search.space(trial)),
        plan.search.replicate,
        prepared.digests,
        runtime,
        total,
        listeners=(mirror, live := LiveTable(console, total, question["epochs"], objectives)),
        constraints=plan.search.constraints,
        limit=limit,
    )
    live.before = ask.ended
    _head(console, plan, question, prepared, room, ask)
    hopeless = _run(plan, question["epochs"], room, ask, mirror, live)
    if hopeless is not None or ask.wanted:
        _close(mirror, console, None)
    if hopeless is not None:
        raise hopeless
    if ask.wanted:
        return False
    written = report.write(table.read(plan.storage, plan.study, plan.out), plan.out, plan.mlflow)
    report.show(written, Console())
    _close(mirror, console, written)
    console.print(f"{time.monotonic() - begun:.0f} s.", highlight=False)
    return True


def _run(plan: Plan, epochs: int, room: Slots, ask: Suggest, mirror: Mirror, live: LiveTable) -> Hopeless | None:
    """Run what has no ending yet; None after the last trial and after an interruption."""
    if not ask.wanted:
        mirror.wait()
        return None
    scheduler = plan.search.scheduler.build(epochs)
    suggest.rebuild(scheduler, ask.record.trials())
    with execute.cluster(room):  # MLflow migrates its database meanwhile
        mirror.wait()
        with live:
            try:
                execute.run(ask, scheduler, room, RETRIES)
            except Hopeless as error:
                return error
    return None


def _head(
    console: Console, plan: Plan, question: Mapping[str, Any], prepared: Prepared, room: Slots, ask: Suggest
) -> None:
    told = [config.test_prompt.oracle for config, _ in study.draws(plan.search.space)]
    oracle = "" if not any(told) else f"; {'all' if all(told) else 'some'} scores prompted from the ground truth"
    where = f"{room.gpus:g} GPU each" if room.gpus else "one CPU core each"
    console.print(f"[bold]{escape(plan.study)}[/]: {declared.question_of(plan.name)}", highlight=False, soft_wrap=True)
    console.print(
        f"sources {', '.join(question['sources'])}; targets {', '.join(question['targets']) or 'none'}; "
        f"{prepared.training} training and {prepared.validation} validation images; {question['backbone']['kind']}; "
        f"{ask.trials} trials of {question['epochs']} epochs, {ask.ended} done; {room.concurrent} at once, {where}"
        f"{oracle}",
        highlight=False,
        soft_wrap=True,
    )


def _close(mirror: Mirror, console: Console, written: Report | AblationReport | None) -> None:
    """Bring MLflow up to date, with the report of a finished study; without one the study was interrupted.

    A server that has gone away is a warning: the record has everything.
    """
    try:
        if written is None:
            mirror.close({}, "", None, finished=False)
        else:
            mirror.close(written.summary, written.note, written.folder, written.front, finished=True)
    except TrackingError as error:
        console.print(f"[bold yellow]warning:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
