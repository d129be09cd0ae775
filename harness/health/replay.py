"""Whether a recorded trial comes out as it did when it is trained again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from harness.errors import UnknownName
from harness.record.storage import open_storage, usable
from harness.record.study import Record, load_record, questions
from harness.record.trials import RecordedTrial, read_trials
from harness.text import abridged, count
from sam2lora import trained
from sam2lora.choice import from_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import AdapterError, DataError, Diverged
from sam2lora.files import ADAPTER, write_atomically
from sam2lora.integrity import digest_of, read_result
from sam2lora.runtime import Runtime
from sam2lora.training.artifacts import finish
from sam2lora.training.loop import epoch
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import open_sets, start

ROUNDING = {"float32": 1e-4, "bfloat16": 1e-2}
"""Up to which relative difference two trainings differ by rounding, by precision; of values below 1 the difference."""
_TIMES = ("seconds",)


@dataclass(frozen=True)
class Equal:
    """Bit for bit the same."""

    def __str__(self) -> str:
        return "equal"


@dataclass(frozen=True)
class Rounded:
    """The same up to rounding: ``largest``, the largest difference, is in the value ``name``."""

    largest: float
    name: str

    def __str__(self) -> str:
        return f"equal within rounding: at most {self.largest:.1e} apart, in {self.name}"


@dataclass(frozen=True)
class Different:
    """Another result: ``name`` is the first value that is too far from the ``recorded`` one; None: it is missing."""

    name: str
    recorded: float | None
    now: float | None

    def __str__(self) -> str:
        return f"different, first in {self.name}: recorded {_shown(self.recorded)}, now {_shown(self.now)}"


@dataclass(frozen=True)
class Unknown:
    """Nothing to compare with, for the reason ``why``."""

    why: str

    def __str__(self) -> str:
        return f"not compared: {self.why}"


Comparison = Equal | Rounded | Different | Unknown


def find(storage_url: str, out: Path, key: str, study: str | None) -> tuple[Record, RecordedTrial]:
    """The trial that ``key`` means, a number or the beginning of a key, among those of ``study`` (None: all studies).

    Trials of equal settings are one. Raises ``UnknownName`` where none fits, or several, and for one without epochs.
    """
    with usable(storage_url):
        names = list(questions(open_storage(storage_url))) if study is None else [study]
        try:
            trials = [(name, trial) for name in names for trial in read_trials(open_storage(storage_url), name)]
        except KeyError:
            raise UnknownName(f"A study must be in the record, but {storage_url} has no {study!r}.") from None
        fitting = [pair for pair in trials if key == str(pair[1].number)]
        fitting = fitting or [pair for pair in trials if pair[1].key.startswith(key)]
        by_key = {trial.key: (name, trial) for name, trial in sorted(fitting, key=lambda pair: pair[1].completed)}
        if len(by_key) != 1:
            several = [f"{trial.key} (trial {trial.number} of {name})" for name, trial in by_key.values()]
            meant = f"means {abridged(several)}" if several else f"is none of {count(len(trials), 'trial')}"
            raise UnknownName(
                f"A trial must be named by its number or by the beginning of its key, but {key!r} {meant} in "
                f"{storage_url}: see trials.csv of the report, and name the study with --study."
            )
        ((name, trial),) = by_key.values()
        if not trial.curve:
            raise UnknownName(
                f"A trial must have trained before it can be replayed, but trial {trial.number} of {name} has no epoch "
                f"(its outcome is {trial.outcome or 'open'}): name another."
            )
        return load_record(storage_url, name, out), trial


def replay(
    record: Record, trial: RecordedTrial, runtime: Runtime, scratch: Path, said: Callable[[str], None]
) -> Iterator[tuple[str, Comparison]]:
    """Train the epochs of ``trial`` again in the folder ``scratch``; compares curve, scores and adapter, by name.

    ``said`` hears a line after every epoch. Raises ``DataError`` where the images are not those that the trial saw,
    and what a training raises.
    """
    config = from_json(TrialConfig, trial.config)
    _check_data(config, record, runtime)
    session = start(config, from_json(Replicate, json.dumps(trial.replicate)), runtime)
    tolerance = ROUNDING[config.precision]
    with suppress(Diverged):  # whose epoch the curve then lacks
        for past in trial.curve:
            now = epoch(session)
            said(f"epoch {past['epoch']:.0f}: recorded {past['score']:.6f}, now {now['score']:.6f}")
    yield "curve", compare(_by_epoch(trial.curve), _by_epoch(session.curve), tolerance)
    if not (trial.completed and session.finished):
        return
    finish(session, final_scores(session), trial.key, scratch)
    yield "scores", compare(dict(trial.scores), read_result(scratch)["scores"], tolerance)
    yield "adapter", _adapters(record.files(trial.key) / ADAPTER, scratch / ADAPTER, tolerance)


def restore(record: Record, trial: RecordedTrial, scratch: Path) -> Iterator[Path]:
    """Put files back that the trial's folder lacks and that came out as they were written; yields each."""
    folder = record.files(trial.key)
    for name, digest in (trial.files or {}).items():
        if not (folder / name).exists() and digest_of((scratch / name).read_bytes()) == digest:
            write_atomically(folder / name, partial(shutil.copyfile, scratch / name))
            yield folder / name


def compare(recorded: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> Comparison:
    """Two sets of values by name, in the order of ``recorded``."""
    if recorded == now:
        return Equal()
    largest, worst = 0.0, ""
    for name in {**recorded, **now}:
        before, after = recorded.get(name), now.get(name)
        if before is None or after is None:
            return Different(name, before, after)
        apart = abs(before - after) / max(1.0, abs(before))
        if not apart <= tolerance:
            return Different(name, before, after)
        if apart > largest:
            largest, worst = apart, name
    return Rounded(largest, worst)


def _adapters(recorded: Path, now: Path, tolerance: float) -> Comparison:
    try:
        before, after = (trained.read(path).tensors for path in (recorded, now))
    except AdapterError as error:
        return Unknown(str(error))
    if before.keys() != after.keys():
        return Different(min(before.keys() ^ after.keys()), None, None)
    return compare(_by_place(before), _by_place(after), tolerance)


def _by_place(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    return {
        f"{name}[{place}]": value
        for name, tensor in tensors.items()
        for place, value in enumerate(tensor.flatten().tolist())
    }


def _check_data(config: TrialConfig, record: Record, runtime: Runtime) -> None:
    recorded = record.attributes["question"]["materials"]
    for opened in open_sets((*config.protocol.sources, *config.protocol.targets), config.image_size, runtime):
        digest = recorded.get(f"data/{opened.dataset.name}")
        if digest != opened.digest:
            raise DataError(
                f"A trial is replayed on the images that it saw, but {opened.dataset.name} has the digest "
                f"{opened.digest} and had {digest}: name the folder that it was trained on with --data."
            )


def _by_epoch(curve: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        f"{name} of epoch {entry['epoch']:.0f}": value
        for entry in curve
        for name, value in entry.items()
        if name not in _TIMES
    }


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
