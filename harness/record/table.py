"""The record of a study as flat tables: one row per trial, one per trial and epoch, one per trial and test image.

Reads an Optuna storage and the per-image Parquet files that trials leave behind; writes nothing. Nothing here loads
torch or Ray, so a report opens at once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from optuna.trial import FrozenTrial, TrialState

from harness.errors import HarnessError
from harness.record.study import FAULTS, is_reference, unusable
from harness.text import listed
from sam2lora.intervals import nothing_to_find

Direction = Literal["maximize", "minimize"]

SIMPLEX = "simplex/"
"""Prefix of the Optuna parameters that stand for a point on the simplex of loss weights. They have no meaning one by
one, so the table carries the weights they became instead."""

ORACLE = "†"
"""Stands beside every score that was reached with a prompt from the ground truth."""

TRIAL_COLUMNS = (
    "number",
    "key",
    "outcome",
    "epoch",
    "value",
    "last_score",
    "why",
    "reused_from",
    "taken_from",
    "probe",
    "seed",
    "fold",
    "started",
    "finished",
    "seconds",
    "train_prompt",
    "test_prompt",
    "oracle_prompt",
    "threshold",
    "config",
)
IMAGE_COLUMNS = ("dataset", "role", "image", "patient", "dice")
CURVE_COLUMNS = ("number", "key", "outcome", "epoch", "score", "lr", "seconds")

# What Optuna's state must be for an outcome to be believed: `tell` is the commit point, the attributes come before it.
_STATE_OF = {
    "completed": TrialState.COMPLETE,
    "diverged": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "out_of_memory": TrialState.PRUNED,
    "infeasible": TrialState.COMPLETE,
    "crashed": TrialState.FAIL,
}


class UnknownStudy(HarnessError):
    """The record has no such study, or there is no record. The message names what is there and the nearest name."""


@dataclass(frozen=True)
class StudyTable:
    """A study as its report sees it.

    ``trials``: one row per trial in order of ``number``. Columns:

    - ``key``: digest of the settings and the replicate; ``config``: the settings as canonical JSON;
    - ``outcome``: completed, stopped, diverged, out_of_memory, infeasible (refused untrained), crashed; running or
      waiting for a trial that the record holds open; unreadable where outcome and state contradict each other
      (``why`` says how);
    - ``epoch``: the last epoch that was reached; ``value``: the final objective, the first of several, NaN unless
      completed (the worst value that a diverged trial is told with is no measurement); ``last_score``: the last
      validation score, of any trial; ``objective/NAME``: the further objectives of a completed trial;
      ``constraint/NAME``: by how much it misses a constraint, 0 or less where it meets it;
    - ``why``: the reason of an outcome in words; ``reused_from``: the trial whose result this one repeats, untrained;
      ``taken_from``: study and number of the trial that measured this, if another study did: a measurement like others;
    - ``probe``: whether it is of the study's probe, whose trials cover the space and which its sampler did not see;
    - ``seed``, ``fold``: the replicate; ``started``, ``finished``: local time; ``seconds``: between the two;
    - ``train_prompt``, ``test_prompt``: their kinds; ``oracle_prompt``: whether the test prompt was drawn from the
      ground truth of the very images that were scored, as the trial recorded it; missing where it did not begin;
    - ``threshold``: the probability above which a pixel was predicted in the test images, missing unless judged;
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
    references: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["reference", *TRIAL_COLUMNS]))


@dataclass(frozen=True)
class StudyName:
    """A study of a record: its name, the search it answers (its own name if it does not say) and its number there."""

    name: str
    search: str
    position: int


def studies(storage_url: str) -> list[StudyName]:
    """The studies of a record, oldest first.

    Raises ``UnknownStudy`` if there is no record at ``storage_url``, ``RecordError`` if it cannot be read.
    """
    with _readable(storage_url):
        found = _open(storage_url).get_all_studies()
    return [
        StudyName(study.study_name, str(study.user_attrs.get("question", {}).get("search", study.study_name)), position)
        for position, study in enumerate(sorted(found, key=lambda study: study._study_id))
    ]


def read(storage_url: str, study_name: str, folder: Path) -> StudyTable:
    """The tables of ``study_name`` in the record at ``storage_url``; per-image files lie in ``folder/study_name``.

    Raises ``UnknownStudy`` with the names that are there, ``RecordError`` where the record is locked or damaged. A
    per-image file that is missing or cannot be read is listed
    in ``left_out``, never passed over in silence. A study without trials gives tables without rows.
    """
    with _readable(storage_url):
        storage = _open(storage_url)
        names = [study.study_name for study in storage.get_all_studies()]
        if study_name not in names:
            raise UnknownStudy(f"No study {study_name!r} in {storage_url}.{_hint(study_name, names)}")
        study_id = storage.get_study_id_from_name(study_name)
        attributes = storage.get_study_user_attrs(study_id)
        recorded = sorted(storage.get_all_trials(study_id, deepcopy=False), key=lambda trial: trial.number)
        directions = storage.get_study_directions(study_id)
    question = dict(attributes.get("question", {}))
    objectives = _objectives(directions, question)
    beside = [trial for trial in recorded if is_reference(trial)]
    recorded = [trial for trial in recorded if not is_reference(trial)]
    trials = _trials(recorded, list(objectives))
    references = _trials(beside, list(objectives))
    references.insert(0, "reference", [trial.user_attrs["reference"] for trial in beside])
    run = pd.concat([trials[_FILED], references[_FILED]]).drop_duplicates("number")
    images, left_out = _images(run, folder / study_name)
    return StudyTable(
        name=study_name,
        storage=storage_url,
        direction=next(iter(objectives.values())),
        objectives=objectives,
        question=question,
        provenance=dict(attributes.get("provenance", {})),
        trials=trials,
        curves=_curves(recorded, trials),
        images=images,
        distributions=_distributions(recorded, trials),
        roles=_roles(recorded),
        left_out=left_out,
        looks=dict(attributes.get("looks", {})),
        out=folder,
        references=references,
        validation=dict(attributes.get("validation", {})),
    )


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """The rows that are one finished, separate measurement each: completed, with a finite value, each key once.

    A stopped trial's score belongs to another epoch, a diverged trial's value was set and not measured, and a reused
    trial repeats a measurement that is already there: none of them may enter a statistic as a trial of its own.
    """
    finished = trials[(trials["outcome"] == "completed") & trials["value"].notna()]
    return finished.drop_duplicates("key")


def ranking(table: StudyTable) -> pd.DataFrame:
    """The measured trials, the best by validation score first, the earlier first among equals.

    Trials that were prompted from the ground truth were shown a part of the answer: they come after all others,
    whatever their scores. ``oracle_prompt`` is False for a trial that does not say.
    """
    done = measured(table.trials)
    told = done["oracle_prompt"].fillna(False).astype(bool)
    order = ["oracle_prompt", "value", "number"]
    return done.assign(oracle_prompt=told).sort_values(order, ascending=[True, table.direction == "minimize", True])


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


@dataclass(frozen=True)
class Reading:
    """How a metric is read: its name in the literature, its unit (none for a share), and which way is better."""

    name: str
    unit: str = ""
    smaller: bool = False


_READINGS = {
    "dice": Reading("Dice"),
    "iou": Reading("IoU"),
    "auc": Reading("AUC"),
    "mcc": Reading("MCC"),
    "hd95": Reading("HD95", unit="pixels", smaller=True),
    "assd": Reading("ASSD", unit="pixels", smaller=True),
    "boundary_iou": Reading("boundary IoU"),
    "cldice": Reading("clDice"),
    "ece": Reading("ECE", smaller=True),
    "accuracy_full": Reading("accuracy, full photograph"),
    "auc_full": Reading("AUC, full photograph"),
}


def reading(metric: str) -> Reading:
    """How ``metric``, a column of ``images``, is read. One that is not listed bears its own name; larger is better."""
    return _READINGS.get(metric, Reading(metric))


_TWINS = (
    ("boundary_iou", "iou", "no structure of {} is wider than the band of the boundary IoU, as with vessels"),
    ("accuracy_full", "accuracy", "the field of view of {} is the whole photograph"),
    ("auc_full", "auc", "the field of view of {} is the whole photograph"),
)
"""Metrics that are one number on some data sets, and when."""


def metrics_like(metric: str) -> tuple[str, ...]:
    """The metrics of which ``metric`` may be the number on some data sets."""
    return tuple(other for name, other, _ in _TWINS if name == metric)


def twins(scores: pd.DataFrame) -> str:
    """Which metrics are one number on which data sets, in sentences with a leading space; empty where none are.

    ``scores``: a column ``dataset``, and one for each metric; its rows are images or means.
    """
    told = ""
    for metric, other, why in _TWINS:
        if metric not in scores or other not in scores:
            continue
        apart = (scores[metric] - scores[other]).abs().groupby(scores["dataset"]).max()
        same = tuple(str(name) for name in apart.index[apart < _SAME])
        if same:
            name, another = (metric_name(one) for one in (metric, other))
            told += f" On {listed(same)} {name} and {another} are one number: {why.format(listed(same))}."
    return told


_SAME = 5e-4
"""What two numbers of three decimals may differ by and still look alike."""


def unjudgeable(metric: str) -> str:
    """Why no verdict of an ablation can rest on ``metric``, as a clause; empty where one can.

    A verdict calls a positive effect help. A distance would not be judged with its sign turned either: effects are
    means over data sets with equal weight, and a pixel is another length in every camera.
    """
    read = reading(metric)
    if not read.smaller:
        return ""
    pixels = ", and its pixels differ between cameras, so that its mean over data sets has no meaning" * bool(read.unit)
    return f"of {read.name} less is better{pixels}"


def metric_name(metric: str) -> str:
    """A metric as the literature writes it."""
    return reading(metric).name


def _objectives(directions: Sequence[optuna.study.StudyDirection], question: Mapping[str, Any]) -> dict[str, Direction]:
    """Direction by name; a record that does not name its objective is after validation Dice."""
    names = question.get("objectives") or ["val/dice"]
    maximize = optuna.study.StudyDirection.MAXIMIZE
    ways: list[Direction] = ["maximize" if way == maximize else "minimize" for way in directions]
    return dict(zip(names, ways, strict=True))


@contextmanager
def _readable(storage_url: str) -> Iterator[None]:
    """Says what is wrong with a record that cannot be read, and what to do."""
    try:
        yield
    except FAULTS as error:
        raise unusable(storage_url, error) from error


def _open(storage_url: str) -> RDBStorage:
    """The storage at a URL. Optuna would create a missing SQLite file; reading must not leave an empty one behind."""
    path = storage_url.removeprefix("sqlite:///")
    if path != storage_url and not Path(path).is_file():
        raise UnknownStudy(
            f"There is no record at {storage_url}: give the --out or --storage that a study was run with."
        )
    return RDBStorage(storage_url)


def _hint(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    if not known:
        return " It holds no study at all."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" It holds: {', '.join(known)}."


def _trials(recorded: list[FrozenTrial], objectives: Sequence[str]) -> pd.DataFrame:
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
    order = (
        "param/",
        "weight/",
        "objective/",
        "constraint/",
        "validation/",
        "score/",
        "n_images/",
        "undefined/",
        "cost/",
    )
    return sorted(columns, key=lambda column: ([column.startswith(prefix) for prefix in order].index(True), column))


def _row(trial: FrozenTrial, objectives: Sequence[str]) -> dict[str, Any]:
    attributes = trial.user_attrs
    config = json.loads(attributes["config"]) if "config" in attributes else {}
    outcome, why = _outcome(trial)
    values = dict(zip(objectives, trial.values or (), strict=False)) if outcome == "completed" else {}
    curve = attributes.get("curve") or []
    replicate = attributes.get("replicate") or {}
    duration = trial.duration
    return {
        "number": trial.number,
        "key": attributes.get("key"),
        "outcome": outcome,
        "epoch": (attributes.get("outcome") or {}).get("epoch"),
        "value": values.get(objectives[0]),
        "last_score": curve[-1].get("score") if curve else None,
        "why": why,
        "reused_from": attributes.get("reused_from"),
        "taken_from": _taken(attributes.get("taken_from")),
        "probe": "probe" in attributes,
        "seed": replicate.get("seed"),
        "fold": replicate.get("fold"),
        "started": trial.datetime_start,
        "finished": trial.datetime_complete,
        "seconds": duration.total_seconds() if duration is not None else None,
        "train_prompt": (config.get("train_prompt") or {}).get("kind"),
        "test_prompt": (config.get("test_prompt") or {}).get("kind"),
        "oracle_prompt": attributes.get("oracle_prompt"),
        "threshold": attributes.get("threshold"),
        "config": attributes.get("config"),
        **{f"param/{name}": _plain(v) for name, v in trial.params.items() if not name.startswith(SIMPLEX)},
        **_weights(config),
        **{f"objective/{name}": values.get(name) for name in objectives[1:]},
        # What did not fit into memory is told to Optuna as a constraint, too, but it is an outcome, not a question.
        **_prefixed("constraint/", {k: v for k, v in trial.constraints.items() if k != "memory"}),
        **_prefixed("validation/", attributes.get("validation")),
        **_prefixed("score/", attributes.get("scores")),
        **_prefixed("n_images/", attributes.get("n_images")),
        **_prefixed("undefined/", attributes.get("undefined")),
        **_prefixed("cost/", attributes.get("cost")),
    }


def _taken(origin: Mapping[str, Any] | None) -> str | None:
    return f"{origin['study']} {origin['number']}" if origin else None


def _outcome(trial: FrozenTrial) -> tuple[str, str]:
    recorded = trial.user_attrs.get("outcome") or {}
    kind, why = str(recorded.get("kind", "")), str(recorded.get("why", "") or "")
    if not trial.state.is_finished():
        return ("waiting", "") if trial.state == TrialState.WAITING else ("running", "not closed in the record")
    if kind not in _STATE_OF:
        return "unreadable", f"closed as {trial.state.name} with outcome {kind or 'missing'!r}"
    if trial.state != _STATE_OF[kind]:
        return "unreadable", f"closed as {trial.state.name}, which does not fit outcome {kind!r}"
    return kind, why


def _weights(config: Mapping[str, Any]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for term in (config.get("loss") or {}).get("terms", ()):
        column = f"weight/{term['loss']['kind']}"
        weights[column] = weights.get(column, 0.0) + float(term["weight"])
    return weights


def _prefixed(prefix: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {prefix + name: value for name, value in (values or {}).items()}


def _plain(value: Any) -> Any:
    # A choice of None would look like a parameter that was never asked for.
    return "None" if value is None else value


def _curves(recorded: list[FrozenTrial], trials: pd.DataFrame) -> pd.DataFrame:
    outcomes = dict(zip(trials["number"], trials["outcome"], strict=True))
    rows = [
        {"number": trial.number, "key": trial.user_attrs.get("key"), "outcome": outcomes[trial.number], **point}
        for trial in recorded
        for point in trial.user_attrs.get("curve") or ()
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
    return [nothing_to_find(str(name), n, of) for name, n, of in counts[counts["sum"] > 0].itertuples(name=None)]


_FILED = ["number", "key", "outcome", "reused_from"]


def _images(trials: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    own = trials[(trials["outcome"] == "completed") & trials["reused_from"].isna()]
    parts: list[pa.Table] = []
    found, left_out = [], []
    for number, key in zip(own["number"], own["key"], strict=True):
        path = folder / "trials" / str(key) / "images.parquet"
        try:
            parts.append(_image_rows(path))
        except (OSError, ValueError) as error:  # ArrowInvalid, of a torn file, is a ValueError
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


def _image_rows(path: Path) -> pa.Table:
    if not path.is_file():
        raise FileNotFoundError("the file is missing")
    # Thousands of small files: opening one as a data set, or starting threads for it, costs more than reading it.
    with pq.ParquetFile(path) as file:
        rows = file.read(use_threads=False)
    missing = [column for column in IMAGE_COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(f"the file has no column {', '.join(missing)}")
    return rows


def _reason(error: Exception, path: Path) -> str:
    first = str(error).partition("\n")[0].replace(f"'{path}'", "the file")
    return first or type(error).__name__


def _distributions(recorded: list[FrozenTrial], trials: pd.DataFrame) -> dict[str, BaseDistribution]:
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


def _roles(recorded: list[FrozenTrial]) -> dict[str, str]:
    roles: dict[str, str] = {}
    for trial in recorded:
        roles |= trial.user_attrs.get("roles") or {}
    return dict(sorted(roles.items(), key=lambda item: (item[1] != "source", item[0])))
