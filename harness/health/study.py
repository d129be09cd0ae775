"""Whether a study's record, journal and files agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.health.finding import Finding, Problem, Sound
from harness.record import journal
from harness.record.completeness import frozen_trials, missing
from harness.record.journal import JOURNAL
from harness.record.locations import LOCK, study_folder, trial_folder
from harness.record.outcome import TEST_RESULTS
from harness.record.trials import RecordedTrial
from harness.text import abridged, count, listed
from sam2lora.errors import DamagedFile
from sam2lora.files import CHECKPOINT, RESULT
from sam2lora.integrity import check_archive, read_checked, read_result

_REPAIR = "--repair writes it again"


def examine(storage_url: str, out: Path, name: str) -> Iterator[Finding]:
    """Findings on the study ``name`` whose results lie in ``out``."""
    folder = study_folder(out, name)
    frozen = frozen_trials(storage_url, name)
    trials = [RecordedTrial.of(trial) for trial in frozen]
    if lost := missing(frozen, folder):
        yield Problem(
            "record", f"The record must hold all that lies in {folder}", f"it lacks {abridged(lost)}", _REPAIR,
        )  # fmt: skip
    yield Sound("trials", _trials(trials))
    yield from _journal(folder, len(frozen))
    faults = list(damaged_files(trials, folder))
    for path, why in faults:
        yield Problem(
            f"{path.parent.name}/{path.name}", "A file must be as it was written", why,
            f"--repair sets a damaged one aside, python -m harness.replay {path.parent.name} --restore makes it again",
        )  # fmt: skip
    if not faults:
        yield Sound("files", f"{count(sum(map(_has_files, trials)), 'completed trial')} with all files as written")
    yield from _differences(trials, folder)


def in_use(folder: Path) -> bool:
    """Whether a process runs the study of this folder."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def damaged_files(trials: list[RecordedTrial], folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of trials that are missing or not as they were written, each with why, as a clause."""
    for trial in trials:
        place = trial_folder(folder, trial.key)
        if _has_files(trial):
            yield from _damaged(place, trial)
        elif trial.resumable and (place / CHECKPOINT).exists():
            try:
                check_archive(place / CHECKPOINT)
            except DamagedFile as error:
                yield place / CHECKPOINT, f"of the open trial {trial.number} {error}"


def _damaged(place: Path, trial: RecordedTrial) -> Iterator[tuple[Path, str]]:
    for name, digest in (trial.files or {}).items():
        try:
            read_checked(place / name, digest)
        except FileNotFoundError:
            yield place / name, f"of trial {trial.number} it is missing"
        except (DamagedFile, OSError):
            yield place / name, f"of trial {trial.number} its checksum differs"
    try:
        read_result(place)
    except FileNotFoundError:
        if not (place / RESULT).exists():
            yield place / RESULT, f"of trial {trial.number} it is missing"
    except (DamagedFile, OSError) as error:
        if str(place / RESULT) in str(error):
            yield place / RESULT, f"of trial {trial.number} its checksum differs"


def _has_files(trial: RecordedTrial) -> bool:
    return trial.completed and trial.reused_from is None


def _trials(trials: list[RecordedTrial]) -> str:
    kinds = [trial.outcome or trial.state.name.lower() for trial in trials]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"{len(trials)} in the record ({counts})" if trials else "none in the record"


def _journal(folder: Path, trials: int) -> Iterator[Finding]:
    kept = journal.read(folder)
    rule = "The journal must say what the record says"
    if kept.study is None:
        yield Problem("journal", rule, f"{folder / JOURNAL} does not say what the study asks", _REPAIR)
    if kept.damaged:
        lines = abridged([f"line {place}" for place in kept.damaged])
        yield Problem("journal", "Lines of the journal must be as written", f"{lines} of {folder / JOURNAL} are not",
                      "nothing is to be done while the record is whole; --repair starts a new journal")  # fmt: skip
    if kept.study is not None and not kept.damaged:
        yield Sound("journal", f"{count(len(kept.trials), 'trial')} of {trials}")


def _differences(trials: list[RecordedTrial], folder: Path) -> Iterator[Finding]:
    """Where a result says something else than the record."""
    for trial in filter(_has_files, trials):
        try:
            result = read_result(trial_folder(folder, trial.key))
        except (DamagedFile, OSError):
            continue  # which is a finding of its own
        named = {name: getattr(trial, name) for name in (*TEST_RESULTS, "curve")}
        differing = [name for name, value in named.items() if name in result and result[name] != value]
        if differing:
            yield Problem(
                f"trial {trial.number}", "A result must say what the record says",
                f"{RESULT} of {trial.key} has another {listed(differing)}",
                "keep the one that a copy of the results confirms; python -m harness.replay trains it again",
            )  # fmt: skip
