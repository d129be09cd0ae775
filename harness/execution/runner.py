"""A study from its plan to its report: prepare, run what has no outcome yet, report.

What ``harness.execution.searches`` and ``harness.execution.ablations`` share. The report is handed in.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from harness.constraints import Constraint
from harness.errors import ClusterError, StudyBusy, TooManyFailures, TrackingError
from harness.execution import ray_cluster, ray_tune
from harness.execution.past_trials import rebuild
from harness.execution.plan import Plan
from harness.execution.preparation import Prepared, prepare
from harness.execution.progress import LiveTable
from harness.execution.reuse import OtherStudies
from harness.execution.searcher import Propose, Searcher
from harness.execution.slots import Slots, share_machine, worth_packing
from harness.execution.sources import TrialSource
from harness.record import table
from harness.record.completeness import check_complete
from harness.record.locations import LOCK
from harness.record.storage import usable
from harness.record.study import Record
from harness.record.table import StudyTable
from harness.record.trials import standing_by_key
from harness.schedulers import Scheduler
from harness.text import count
from harness.tracking.tracker import Conclusion, Tracker
from sam2lora.cli.messages import say, warn
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import DiskError
from sam2lora.files import remove_leavings, room
from sam2lora.runtime import Runtime
from sam2lora.training.packing import why_alone

Report = Callable[[StudyTable, Console], Conclusion]
"""Writes the report of a finished study, prints its result on a console, and says what a tracker shows of it."""

RETRIES = 1
"""How often a crashed trial is started again from its last epoch."""


@contextmanager
def exclusive(plan: Plan) -> Iterator[None]:
    """Keep every other process away from the study of a plan.

    Raises ``StudyBusy`` if one is at it, and ``RecordError`` if the record has lost what the folder holds; turns what a
    storage or a disk raises into ``RecordError`` and ``DiskError``.
    """
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(plan.folder / LOCK, timeout=0), usable(plan.storage):
            check_complete(plan.storage, plan.study, plan.folder)
            yield
    except Timeout:
        raise StudyBusy(
            f"A study is run by one process at a time, but {plan.folder} is in use by another: wait for it, or name "
            f"another study with --study."
        ) from None
    except OSError as error:  # which seldom says where
        scratch = Path(tempfile.gettempdir())
        raise DiskError(
            f"Results must be written into {plan.folder} ({room(plan.folder)}) and temporary files into {scratch} "
            f"({room(scratch)}), but a file cannot be: {error}. Free some space or correct the permissions, then run "
            f"the same command again; what was finished is kept."
        ) from error


def ready(
    plan: Plan, configs: Sequence[TrialConfig], replicates: Sequence[Replicate], console: Console
) -> tuple[Prepared, Slots, Runtime]:
    """What was prepared for such trials, how they share the machine, and where each computes."""
    ray_cluster.check_sockets()
    slots, runtime = assign_machine(plan, configs, console)
    prepared = prepare(configs, replicates, runtime, slots.concurrent, console, slots.residents)
    return prepared, replace(slots, concurrent=prepared.fitting), runtime


def assign_machine(plan: Plan, configs: Sequence[TrialConfig], console: Console) -> tuple[Slots, Runtime]:
    """How trials of such settings share the machine, and where each computes; prints why packs leave some out."""
    packed = worth_packing(configs, plan.gpus_per_trial) if plan.pack is None else plan.pack
    slots = share_machine(plan.gpus_per_trial, packed=packed)
    runtime = replace(plan.runtime, device="cuda" if slots.gpus else "cpu", threads=max(1, int(slots.cpus)))
    if slots.residents > 1:
        reasons = Counter(why_alone(config, runtime.device) for config in configs)
        for reason, number in reasons.items():
            if reason is not None:
                say(console, f"{number} of the {len(configs)} settings examined train alone, not in a pack: {reason}.")
    return slots, runtime


@dataclass(frozen=True)
class Study:
    """What all trials of a study share: its record and question, data, machine, and how they get their settings."""

    record: Record
    question: Mapping[str, Any]
    prepared: Prepared
    slots: Slots
    runtime: Runtime
    propose: Propose
    constraints: tuple[Constraint, ...] = ()
    others: OtherStudies | None = None


def carry_out(
    plan: Plan, study: Study, passes: Sequence[tuple[TrialSource, Scheduler]], report: Report, console: Console
) -> bool:
    """Run what the sources have left, one after the other, and report.

    True when nothing is left, False after an interruption. Raises ``TooManyFailures``, and ``ClusterError`` where
    Ray died, once the tracker is up to date.
    """
    record = study.record
    record.write(materials=[asdict(material) for material in study.prepared.materials])
    tracker = plan.tracking.open(record, study.question, study.prepared.materials)
    sources = [source for source, _ in passes]
    live = LiveTable(
        console,
        lambda: sum(source.trials for source in sources),
        study.question["epochs"],
        record.objectives,
        before=sum(source.ended for source in sources),
        past=record.trials(),
    )
    known = standing_by_key(record.trials())
    searchers = [
        (
            Searcher(
                source,
                study.propose,
                known,
                study.prepared.digests,
                study.runtime,
                study.constraints,
                study.others,
                (tracker, live),
            ),
            scheduler,
        )
        for source, scheduler in passes
    ]
    failure = _run(searchers, study, tracker, live, console)
    left = any(searcher.wanted for searcher, _ in searchers)
    if failure is not None or left:
        _close(tracker, console, None)
    if failure is not None:
        raise failure
    if left:
        return False
    remove_leavings(plan.folder)
    try:
        conclusion = report(table.read(plan.storage, plan.study, plan.out), Console())
    except BaseException:
        _close(tracker, console, None)
        raise
    _close(tracker, console, conclusion)
    return True


def _run(
    searchers: Sequence[tuple[Searcher, Scheduler]], study: Study, tracker: Tracker, live: LiveTable, console: Console
) -> TooManyFailures | None:
    """Run what has no result yet, one searcher after the other; None after the last trial and after an interruption."""
    if not any(searcher.wanted for searcher, _ in searchers):
        _wait(tracker, console)
        return None
    with ray_cluster.cluster(study.slots) as cluster:  # a tracker may migrate its database meanwhile
        _wait(tracker, console)
        with live:
            try:
                for searcher, scheduler in searchers:
                    if searcher.wanted:
                        built = scheduler.build(study.question["epochs"])
                        rebuild(built, study.record.trials())
                        ray_tune.run(searcher, built, cluster, RETRIES)
                    if searcher.wanted:
                        return None
            except TooManyFailures as error:
                return error
            except ClusterError:  # closed here: a dead Ray may take this process with it
                _close(tracker, console, None)
                raise
    return None


def _wait(tracker: Tracker, console: Console) -> None:
    if warning := tracker.wait():
        warn(console, warning)


def announce(
    plan: Plan, title: str, study: Study, source: TrialSource, oracle: Sequence[bool], console: Console, apart: str = ""
) -> None:
    """Say what is about to run.

    ``oracle``: of each of the settings that may come, whether their scores are prompted from the ground truth.
    ``apart``: which trials there are apart from those of ``source``.
    """
    question, prepared, slots = study.question, study.prepared, study.slots
    prompted = "" if not any(oracle) else f"; {'all' if all(oracle) else 'some'} scores prompted from the ground truth"
    share = f"{slots.gpus:g} GPU" if slots.gpus else "one CPU core"
    where = f"{share} each" if slots.residents == 1 else f"{share} and one engine for every {slots.residents}"
    say(console, title, plan.study)
    say(
        console,
        f"sources {', '.join(question['sources'])}; targets {', '.join(question['targets']) or 'none'}; "
        f"{prepared.training} training and {prepared.validation} validation images; {question['backbone']['kind']}; "
        f"{count(source.trials, 'trial')} of {count(question['epochs'], 'epoch')}, {source.ended} done{apart}; "
        f"{slots.concurrent} at once, {where}{prompted}",
    )


def _close(tracker: Tracker, console: Console, conclusion: Conclusion | None) -> None:
    """Bring the tracker up to date, with the conclusion of a finished study; without one the study was interrupted.

    A tracker that cannot be reached is a warning: the record has everything.
    """
    try:
        tracker.close(conclusion)
    except TrackingError as error:
        warn(console, str(error))
