"""The record of a study as flat tables: one row per trial, one per trial and epoch, one per trial and test image.

Reads an Optuna storage and the per-image Parquet files that trials leave behind; writes nothing. Nothing here loads
torch or Ray, so a report opens at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import optuna
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from harness.errors import HarnessError
from harness.record.grid_cells import GridCells, grid_cells
from harness.record.locations import study_folder, trial_folder
from harness.record.outcome import KIND_OF
from harness.record.storage import check_file, is_there, open_to_read, usable
from harness.record.study import attributes, questions
from harness.record.trials import RecordedTrial, read_trials
from sam2lora.credentials import hide
from sam2lora.errors import DamagedFile
from sam2lora.files import IMAGES
from sam2lora.integrity import read_checked
from sam2lora.intervals import empty_mask_note

Direction = Literal["maximize", "minimize"]

SIMPLEX = "simplex/"
"""Prefix of the Optuna parameters that stand for a point on the simplex of loss weights. They have no meaning one by
one, so the table carries the weights they became instead."""

IMAGE_COLUMNS = ("dataset", "role", "image", "patient", "dice")
CURVE_COLUMNS = ("number", "key", "outcome", "epoch", "score", "lr", "seconds")


class UnknownStudy(HarnessError):
    """The record has no such study, or there is no record. The message names what is there and the nearest name."""


@dataclass(frozen=True)
class StudyTable:
    """A study as its report sees it.

    ``trials``: one row per trial in order of ``number``, none for a proposal that a killed run never started. Columns:

    - ``key``: digest of the settings and the replicate; ``config``: the settings as canonical JSON;
    - ``outcome``: completed, stopped, diverged, out_of_memory, infeasible (refused untrained), crashed; running or
      waiting for a trial that the record holds open; unreadable where outcome and state contradict each other
      (``why`` says how);
    - ``epoch``: the last epoch that was reached; ``value``: the final objective, the first of several, NaN unless
      completed (the worst value, which Optuna gets for a diverged trial, is no measurement); ``last_score``: the last
      validation score, of any trial; ``objective/NAME``: the further objectives of a completed trial;
      ``constraint/NAME``: by how much it misses a constraint, 0 or less where it meets it;
    - ``why``: the reason of an outcome in words; ``reused_from``: the trial whose result this one repeats, untrained;
      ``copied_from``: study and number of the trial that measured this, if another study did: it is no less measured;
    - ``probe``: whether it is of the study's probe, whose trials cover the space and which its sampler did not see;
    - ``seed``, ``fold``: the replicate; ``started``, ``finished``: local time; ``seconds``: between the two;
    - ``train_prompt``, ``test_prompt``: their kinds; ``oracle_prompt``: whether the test prompt was drawn from the
      ground truth of the very images that were scored, as the trial recorded it; missing where it did not begin;
    - ``threshold``: the probability above which a pixel was predicted in the test images, missing unless tested;
    - ``param/NAME``: as sampled, missing where a condition left it out;
    - ``weight/KIND``: weight of a loss component in [0, 1], 0 where absent (terms of one kind are added up);
    - ``score/DATASET/METRIC``: mean over test images; ``n_images/DATASET``; ``validation/DATASET/METRIC``;
      ``undefined/DATASET/METRIC``: how many images a mean leaves out, where it leaves any;
    - ``cost/NAME``: seconds, MiB and parameter counts.

    ``curves``: one row per trial and epoch: ``score`` (validation), ``lr``, ``loss/KIND`` and ``seconds``.
    ``images``: one row per completed trial and image with ``number`` in front; a reused trial has none of its own.
    ``objectives``: direction by name, in the study's order. ``distributions``: of every ``param/`` and,
    if the loss weights were searched, ``weight/`` column.
    ``roles``: ``source`` or ``target`` by data set. ``left_out``: unreadable files (number, key, path, why).
    ``looks``: an ablation's looks before its end: the numbers of replicates in ``schedule``, and those ``done``; empty
    where replicates were not added until the verdicts were in. ``out``: the folder of all results, the study's among
    them. ``references``: as ``trials``, with their names in ``reference``, the trials that a search is compared with
    and that are none of it (`harness.execution.references`); ``images`` holds theirs as well. ``validation``: on how
    many images (``n``) and patients (``clusters``) a validation score rests; empty where the record does not say.
    ``grid``: which combinations of a grid search have ended; None of any other study.
    """

    name: str
    storage: str
    direction: Direction
    objectives: dict[str, Direction]
    question: dict[str, Any]
    provenance: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    images: pd.DataFrame
    distributions: dict[str, BaseDistribution]
    roles: dict[str, str]
    left_out: pd.DataFrame
    looks: Mapping[str, Any] = field(default_factory=dict)
    out: Path = Path("runs")
    validation: Mapping[str, int] = field(default_factory=dict)
    grid: GridCells | None = None
    references: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["reference", *TRIAL_COLUMNS]))


def studies(storage_url: str) -> dict[str, str]:
    """The searches that the studies of a record answer, by the studies' names, oldest first.

    A study that does not name its search has its own name. Raises ``UnknownStudy`` if there is no record at
    ``storage_url``, ``RecordError`` if it cannot be read.
    """
    with usable(storage_url):
        return {name: str(question.get("search", name)) for name, question in questions(_open(storage_url)).items()}


def read(storage_url: str, study_name: str, folder: Path) -> StudyTable:
    """The tables of ``study_name`` in the record at ``storage_url``; per-image files lie in ``folder/study_name``.

    Raises ``UnknownStudy`` with the names that are there, ``RecordError`` where the record is locked or damaged. A
    per-image file that is missing or cannot be read is listed in ``left_out``, never passed over in silence. A study
    without trials gives tables without rows.
    """
    with usable(storage_url):
        storage = _open(storage_url)
        names = list(questions(storage))
        if study_name not in names:
            raise UnknownStudy(f"No study {study_name!r} in {storage_url}.{_hint(study_name, names)}")
        written = attributes(storage, study_name)
        everything = [trial for trial in read_trials(storage, study_name) if not trial.abandoned]
        made_with = written.get("provenance", {})
        directions = storage.get_study_directions(storage.get_study_id_from_name(study_name))
    question = dict(written.get("question", {}))
    objectives = _objectives(directions, question)
    compared = [trial for trial in everything if trial.reference is not None]
    recorded = [trial for trial in everything if trial.reference is None]
    trials = _trials(recorded, list(objectives))
    references = _trials(compared, list(objectives))
    references.insert(0, "reference", [trial.reference for trial in compared])
    run = pd.concat([trials[_FILED], references[_FILED]]).drop_duplicates("number")
    files = {trial.number: (trial.files or {}).get(IMAGES) for trial in everything}
    images, left_out = _images(run, files, study_folder(folder, study_name))
    return StudyTable(
        name=study_name,
        storage=storage_url,
        direction=next(iter(objectives.values())),
        objectives=objectives,
        question=question,
        provenance={name: hide(value) if isinstance(value, str) else value for name, value in made_with.items()},
        trials=trials,
        curves=_curves(recorded, trials),
        images=images,
        distributions=_distributions(recorded, trials),
        roles=_roles(recorded),
        left_out=left_out,
        looks=dict(written.get("looks", {})),
        out=folder,
        references=references,
        validation=dict(written.get("validation", {})),
        grid=grid_cells(everything),
    )


def completed_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows that are one finished, separate measurement each: completed, with a finite value, each key once.

    A stopped trial's score belongs to another epoch, a diverged trial's value was set and not measured, and a reused
    trial repeats a measurement that is already there: none of them may enter a statistic as a trial of its own.
    """
    finished = trials[(trials["outcome"] == "completed") & trials["value"].notna()]
    return finished.drop_duplicates("key")


def failed(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that ran and ended without a result; ``why`` says what was at fault."""
    return trials[trials["outcome"].isin(["diverged", "out_of_memory", "crashed", "unreadable"])]


def ranking(table: StudyTable) -> pd.DataFrame:
    """The measured trials, the best by validation score first, the earlier first among equals.

    Trials that were prompted from the ground truth were shown a part of the answer: they come after all others,
    whatever their scores. ``oracle_prompt`` is False for a trial that does not say.
    """
    done = completed_trials(table.trials)
    oracle = done["oracle_prompt"].fillna(False).astype(bool)
    order = ["oracle_prompt", "value", "number"]
    return done.assign(oracle_prompt=oracle).sort_values(order, ascending=[True, table.direction == "minimize", True])


def objective_columns(table: StudyTable) -> list[str]:
    """The column of every objective, in the study's order."""
    return ["value", *(f"objective/{name}" for name in list(table.objectives)[1:])]


def label(column: str) -> str:
    """A column's name for a reader: ``param/lr`` is "lr", ``weight/bce`` is "bce weight"."""
    if column.startswith("weight/"):
        return f"{column.removeprefix('weight/')} weight"
    if column.startswith("objective/"):
        return column.removeprefix("objective/").replace("_", " ").replace("train seconds", "training seconds")
    return column.removeprefix("param/")


def seed_of(table: StudyTable) -> int:
    """The seed of the study, 0 if it has none: bootstraps use it, so that a report can be made again."""
    seed = table.question.get("seed")
    return int(seed) if isinstance(seed, int) and seed >= 0 else 0


def metric_of(table: StudyTable) -> str:
    """The metric of the objective, a column of ``images``: ``dice`` for ``val/dice``."""
    return next(iter(table.objectives)).rpartition("/")[2]


def _objectives(directions: Sequence[optuna.study.StudyDirection], question: Mapping[str, Any]) -> dict[str, Direction]:
    """Direction by name; a record that does not name its objective is after validation Dice."""
    names = question.get("objectives") or ["val/dice"]
    maximize = optuna.study.StudyDirection.MAXIMIZE
    ways: list[Direction] = ["maximize" if way == maximize else "minimize" for way in directions]
    return dict(zip(names, ways, strict=True))


def _open(storage_url: str) -> RDBStorage:
    """The storage at a URL. Optuna would create a missing SQLite file; reading must not leave an empty one behind."""
    if not is_there(storage_url):
        raise UnknownStudy(
            f"There is no record at {storage_url}: give the --out or --storage that a study was run with."
        )
    check_file(storage_url)
    return open_to_read(storage_url)


def _hint(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    if not known:
        return " It holds no study at all."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" It holds: {', '.join(known)}."


def _trials(recorded: list[RecordedTrial], objectives: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame([_row(trial, objectives) for trial in recorded])
    frame = frame.reindex(columns=[*TRIAL_COLUMNS, *_grouped(set(frame.columns) - set(TRIAL_COLUMNS))])
    weights = [column for column in frame.columns if column.startswith("weight/")]
    described = frame["config"].notna()
    frame.loc[described, weights] = frame.loc[described, weights].fillna(0.0)
    numbers = dict.fromkeys(("value", "last_score", "seconds", "threshold"), "float64")
    whole = {"epoch": "Int64", "reused_from": "Int64", "seed": "Int64", "fold": "Int64"}
    truths = {"probe": "bool", "oracle_prompt": "boolean"}
    return frame.astype({"number": "int64", **numbers, **whole, **truths})


def _grouped(columns: set[str]) -> list[str]:
    order = ("param", "weight", "objective", "constraint", "validation", "score", "n_images", "undefined", "cost")
    return sorted(columns, key=lambda column: (order.index(column.partition("/")[0]), column))


def _row(trial: RecordedTrial, objectives: Sequence[str]) -> dict[str, Any]:
    settings = trial.settings
    outcome, why = _outcome(trial)
    values = dict(zip(objectives, trial.values, strict=False)) if outcome == "completed" else {}
    replicate = trial.replicate or {}
    seconds = (trial.finished - trial.started).total_seconds() if trial.started and trial.finished else None
    return {
        "number": trial.number,
        "key": trial.key or None,
        "outcome": outcome,
        "epoch": trial.epoch,
        "value": values.get(objectives[0]),
        "last_score": trial.curve[-1].get("score") if trial.curve else None,
        "why": why,
        "reused_from": trial.reused_from,
        "copied_from": trial.copied_from,
        "probe": trial.probe,
        "seed": replicate.get("seed"),
        "fold": replicate.get("fold"),
        "started": trial.started,
        "finished": trial.finished,
        "seconds": seconds,
        "train_prompt": (settings.get("train_prompt") or {}).get("kind"),
        "test_prompt": (settings.get("test_prompt") or {}).get("kind"),
        "oracle_prompt": trial.oracle_prompt,
        "threshold": trial.threshold,
        "config": trial.config or None,
        **{f"param/{name}": _plain(v) for name, v in trial.params.items() if not name.startswith(SIMPLEX)},
        **_weights(settings),
        **{f"objective/{name}": values.get(name) for name in objectives[1:]},
        # Optuna gets what did not fit into memory as a constraint, too, but it is an outcome, not a question.
        **_prefixed("constraint/", {k: v for k, v in trial.constraints.items() if k != "memory"}),
        **_prefixed("validation/", trial.validation),
        **_prefixed("score/", trial.scores),
        **_prefixed("n_images/", trial.n_images),
        **_prefixed("undefined/", trial.undefined or {}),
        **_prefixed("cost/", trial.cost),
    }


def _outcome(trial: RecordedTrial) -> tuple[str, str]:
    if not trial.state.is_finished():
        return ("waiting", "") if trial.state == TrialState.WAITING else ("running", "not closed in the record")
    if trial.outcome not in KIND_OF:
        return "unreadable", f"closed as {trial.state.name} with outcome {trial.outcome or 'missing'!r}"
    if trial.state.name != KIND_OF[trial.outcome].state:
        return "unreadable", f"closed as {trial.state.name}, which does not fit outcome {trial.outcome!r}"
    return trial.outcome, trial.why


def _weights(settings: Mapping[str, Any]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for term in (settings.get("loss") or {}).get("terms", ()):
        column = f"weight/{term['loss']['kind']}"
        weights[column] = weights.get(column, 0.0) + float(term["weight"])
    return weights


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in values.items()}


def _plain(value: Any) -> Any:
    # A choice of None would look like a parameter that was never asked for.
    return "None" if value is None else value


TRIAL_COLUMNS: tuple[str, ...] = tuple(_row(RecordedTrial(number=0, state=TrialState.WAITING), ("val/dice",)))
"""The columns of every study's trials: those of a trial that has left nothing yet."""


def _curves(recorded: list[RecordedTrial], trials: pd.DataFrame) -> pd.DataFrame:
    outcomes = dict(zip(trials["number"], trials["outcome"], strict=True))
    rows = [
        {"number": trial.number, "key": trial.key or None, "outcome": outcomes[trial.number], **point}
        for trial in recorded
        for point in trial.curve
    ]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=[*CURVE_COLUMNS, *sorted(set(frame.columns) - set(CURVE_COLUMNS))])


def empty_truths(images: pd.DataFrame) -> list[str]:
    """A line on each test set in which images have nothing to find, of rows such as ``StudyTable.images``."""
    if "sensitivity" not in images:
        return []
    tested = images[images["role"] != "val"]
    empty = tested["sensitivity"].isna().groupby([tested["dataset"], tested["image"]]).all().groupby(level=0)
    counts = empty.agg(["sum", "size"]).astype(int)
    return [empty_mask_note(str(name), n, of) for name, n, of in counts[counts["sum"] > 0].itertuples(name=None)]


_FILED = ["number", "key", "outcome", "reused_from"]


def _images(trials: pd.DataFrame, digests: Mapping[int, str | None], folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    own = trials[(trials["outcome"] == "completed") & trials["reused_from"].isna()]
    parts: list[pa.Table] = []
    found, left_out = [], []
    for number, key in zip(own["number"], own["key"], strict=True):
        path = trial_folder(folder, str(key)) / IMAGES
        try:
            parts.append(_image_rows(path, digests[number]))
        except (OSError, ValueError, DamagedFile) as error:  # ArrowInvalid, of a torn file, is a ValueError
            left_out.append({"number": number, "key": key, "path": str(path), "why": _reason(error, path)})
            continue
        found.append((number, key))
    gone = pd.DataFrame(left_out, columns=["number", "key", "path", "why"])
    if not parts:
        return pd.DataFrame(columns=["number", "key", *IMAGE_COLUMNS]), gone
    # Files of other versions may lack a column or have whole numbers where others have fractions.
    images = pa.concat_tables(parts, promote_options="permissive").to_pandas(ignore_metadata=True)
    numbers, keys = (np.repeat(list(values), [part.num_rows for part in parts]) for values in zip(*found, strict=True))
    images = images.drop(columns=["number", "key"], errors="ignore")
    images.insert(0, "number", numbers)
    images.insert(1, "key", keys)
    return images, gone


def _image_rows(path: Path, digest: str | None) -> pa.Table:
    if not path.is_file():
        raise FileNotFoundError("the file is missing")
    # Thousands of small files: opening one as a data set, or starting threads for it, costs more than reading it.
    with pq.ParquetFile(pa.BufferReader(read_checked(path, digest))) as file:
        rows = file.read(use_threads=False)
    missing = [column for column in IMAGE_COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(f"the file has no column {', '.join(missing)}")
    return rows


def _reason(error: Exception, path: Path) -> str:
    first = str(error).partition("\n")[0].replace(f"'{path}'", "the file")
    return first or type(error).__name__


def _distributions(recorded: list[RecordedTrial], trials: pd.DataFrame) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    simplex = False
    for trial in recorded:
        for name, distribution in trial.distributions.items():
            simplex |= name.startswith(SIMPLEX)
            if not name.startswith(SIMPLEX):
                column = f"param/{name}"
                found[column] = _widest(found.get(column), distribution)
    if simplex:
        found |= {column: FloatDistribution(0.0, 1.0) for column in trials.columns if column.startswith("weight/")}
    return dict(sorted(found.items()))


def _widest(known: BaseDistribution | None, new: BaseDistribution) -> BaseDistribution:
    """The range that holds both. Optuna lets only the bounds of a number change between the trials of a study."""
    if isinstance(new, CategoricalDistribution):
        return CategoricalDistribution([_plain(choice) for choice in new.choices])
    if known is None or known == new:
        return new
    a, b = cast(FloatDistribution | IntDistribution, known), cast(FloatDistribution | IntDistribution, new)
    low, high = min(a.low, b.low), max(a.high, b.high)
    if isinstance(new, IntDistribution):
        return IntDistribution(int(low), int(high), log=new.log)
    return FloatDistribution(low, high, log=cast(FloatDistribution, new).log)


def _roles(recorded: list[RecordedTrial]) -> dict[str, str]:
    roles: dict[str, str] = {}
    for trial in recorded:
        roles |= trial.roles
    return dict(sorted(roles.items(), key=lambda item: (item[1] != "source", item[0])))
