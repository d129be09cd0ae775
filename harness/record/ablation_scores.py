"""An ablation's declaration and scores, out of its study's tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from harness.errors import RecordError
from harness.record.metric_names import unjudgeable
from harness.record.table import StudyTable, empty_truths
from harness.stats.scores import Cells, Contrast, Pair, Target
from sam2lora.datasets import Dataset


@dataclass(frozen=True)
class RecordedAblation:
    """An ablation as its record holds it, so that a report needs neither its file nor torch.

    ``differences``: what each arm changes in ``base``, by dotted path. ``components``: which arms hold a component,
    one truth value for each arm; empty for a design without coalitions. ``primary``: a metric, a column of the per-
    image scores. ``replicates``: those asked for, then those added since. ``smallest``: the smallest effect of
    interest, in the metric's units. ``tuned``: trials of each arm's own search before its replicates ran, 0 for fixed
    settings. ``pools``: whose patients a data set holds, by its name; two that share a pool share patients.
    """

    design: Mapping[str, Any]
    arms: tuple[str, ...]
    differences: Mapping[str, Mapping[str, Any]]
    base: Mapping[str, Any]
    contrasts: tuple[Contrast, ...]
    components: Mapping[str, tuple[bool, ...]]
    replicates: tuple[Pair, ...]
    primary: str
    smallest: float
    tuned: int
    pools: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of the design."""
        return str(self.design.get("kind", "unknown"))


@dataclass(frozen=True)
class AblationScores:
    """What an ablation's trials say.

    ``cells``: scores of the primary metric on the sets that are tested on. ``sources``: the same on the sources' test
    parts. ``unseen``: whether the sets that are tested on are targets; False where the study has none, so that they are
    the sources' test parts. ``keys``: (arms, replicates) the trial's key, "" where none completed. ``left_out``: what
    did not enter and why, in words. ``asked``: (arms, replicates) whether the trial was wanted at all: replicates that
    were added until verdicts were in are not run by arms of no open comparison. ``ended``: whether all of these trials
    have ended, whatever came of them.
    """

    cells: Cells
    sources: Cells
    unseen: bool
    keys: np.ndarray
    asked: np.ndarray
    ended: bool
    left_out: tuple[str, ...]


def is_ablation(table: StudyTable) -> bool:
    """Whether the study is an ablation: its question holds one's declaration."""
    return "ablation" in table.question


def recorded_ablation(table: StudyTable) -> RecordedAblation:
    """The declaration in the study's question. Raises ``RecordError`` where it cannot be read as one, or is about a
    metric of which less is better: every verdict would say the opposite of what it means.
    """
    recorded = table.question["ablation"]
    try:
        base = recorded["base"]
        arms = tuple(recorded["arms"])
        found = RecordedAblation(
            design=recorded["design"],
            arms=arms,
            differences=recorded["arms"],
            base=json.loads(base) if isinstance(base, str) else base,
            contrasts=tuple(_contrast(name, weights, arms) for name, weights in recorded["contrasts"].items()),
            components={name: _members(held, arms) for name, held in (recorded.get("components") or {}).items()},
            replicates=_replicates(table, tuple(Pair(int(seed), int(fold)) for seed, fold in recorded["replicates"])),
            primary=str(recorded["primary"]).rpartition("/")[2],
            smallest=float(recorded["smallest_of_interest"]),
            tuned=int(recorded.get("tuned") or 0),
            pools=_pools(table.question.get("protocol") or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        written = table.provenance.get("git", "an unknown version")
        raise RecordError(
            f"The declaration of ablation {table.name!r} must be readable by this version, but {what}. The study was "
            f"recorded by version {written}: report it with that version, or run it again under another --study."
        ) from error
    if why := unjudgeable(found.primary):
        raise RecordError(
            f"The primary metric of ablation {table.name!r} must be one of which more is better, but {why}: declare "
            "dice, or boundary_iou for discs, and run it under another --study, which copies this one's trials."
        )
    return found


def _replicates(table: StudyTable, asked: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """The replicates asked for, and those that were added until the verdicts were in."""
    if "param/arm" not in table.trials:
        return asked
    run = table.trials[table.trials["param/arm"].notna() & table.trials["seed"].notna()][["seed", "fold"]]
    pairs = (Pair(int(seed), int(fold)) for seed, fold in run.drop_duplicates().itertuples(index=False, name=None))
    return tuple(dict.fromkeys([*asked, *pairs]))


def _pools(protocol: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    named = [item for value in protocol.values() if isinstance(value, list) for item in value if isinstance(item, dict)]
    datasets: list[Dataset] = TypeAdapter(list[Dataset]).validate_json(json.dumps(named))
    return {dataset.name: dataset.overlaps for dataset in datasets}


def _contrast(name: str, weights: Mapping[str, float], arms: tuple[str, ...]) -> Contrast:
    contrast = Contrast(name, {arm: float(weight) for arm, weight in weights.items()})
    contrast.vector(arms)
    return contrast


def _members(held: Any, arms: tuple[str, ...]) -> tuple[bool, ...]:
    """Truth values for each arm, from such values or from the names of the arms that hold a component."""
    if all(isinstance(one, bool) for one in held) and len(held) == len(arms):
        return tuple(held)
    if unknown := [one for one in held if one not in arms]:
        raise ValueError(f"a component names {unknown[0]!r}, which is no arm")
    return tuple(arm in held for arm in arms)


def ablation_scores(table: StudyTable, ablation: RecordedAblation) -> AblationScores:
    """The scores of ``ablation``. Raises ``RecordError`` when the per-image scores lack its primary metric."""
    images = table.images[table.images["role"] != "val"]
    if len(images) and ablation.primary not in images:
        raise RecordError(
            f"The primary metric of ablation {table.name!r} is {ablation.primary!r}, but the per-image scores have "
            f"none of that name: they hold {', '.join(_metrics(images))}. Declare one of these."
        )
    keys = _keys_of(table.trials[table.trials["outcome"] == "completed"], ablation)
    finished = keys != ""
    asked = _asked(table, ablation)
    readable = np.isin(keys, images["key"].unique().astype(str)) & finished
    names = {role: _sets(table, images, role) for role in ("source", "target")}
    unseen = bool(names["target"])
    judging = names["target"] or names["source"]
    cells = _cells(images, ablation, keys, readable, judging)
    return AblationScores(
        cells=cells,
        sources=_cells(images, ablation, keys, readable, names["source"]),
        unseen=unseen,
        keys=np.where(readable, keys, ""),
        asked=asked,
        ended=_ended(table, ablation, asked),
        left_out=tuple(_left_out(table, ablation, asked, finished, readable, cells)),
    )


def _metrics(images: pd.DataFrame) -> list[str]:
    return [str(name) for name in images.columns if pd.api.types.is_float_dtype(images[name])]


def _sets(table: StudyTable, images: pd.DataFrame, role: str) -> list[str]:
    """Test sets of a role that have a row, in the question's order, others after them by name."""
    there = [str(name) for name in images.loc[images["role"] == role, "dataset"].unique()]
    asked = [name for name in table.question.get(f"{role}s") or () if name in there]
    return [*asked, *sorted(set(there) - set(asked))]


def _asked(table: StudyTable, ablation: RecordedAblation) -> np.ndarray:
    """(arms, replicates): all; where they are added by verdicts, of those after the first look what has a trial."""
    asked = np.ones((len(ablation.arms), len(ablation.replicates)), dtype=bool)
    if not table.looks.get("adding", bool(table.looks)):
        return asked
    first = int(table.looks["schedule"][0])
    asked[:, first:] = _keys_of(table.trials, ablation)[:, first:] != ""
    return asked


def _keys_of(trials: pd.DataFrame, ablation: RecordedAblation) -> np.ndarray:
    """(arms, replicates): the key of the first of ``trials`` that is of that cell, "" without one."""
    columns = ["param/arm", "seed", "fold", "key"]
    run = trials[columns].dropna().itertuples(index=False, name=None) if columns[0] in trials else ()
    first: dict[tuple[Any, ...], str] = {}
    for *cell, key in run:
        first.setdefault(tuple(cell), key)
    keys = [[first.get((arm, pair.seed, pair.fold), "") for pair in ablation.replicates] for arm in ablation.arms]
    return np.array(keys, dtype="<U64")


def _ended(table: StudyTable, ablation: RecordedAblation, asked: np.ndarray) -> bool:
    over = table.trials[~table.trials["outcome"].isin(["running", "waiting"])]
    return bool((_keys_of(over, ablation)[asked] != "").all())


def _cells(
    images: pd.DataFrame, ablation: RecordedAblation, keys: np.ndarray, readable: np.ndarray, sets: list[str]
) -> Cells:
    place = pd.Series(np.arange(keys.size), index=keys.ravel())[readable.ravel()]
    targets = [_target(images[images["dataset"] == name], name, ablation, place) for name in sets]
    return Cells(ablation.arms, ablation.replicates, tuple(targets), readable)


def _target(rows: pd.DataFrame, name: str, ablation: RecordedAblation, place: pd.Series) -> Target:
    shape = len(ablation.arms), len(ablation.replicates)
    cell = rows["key"].map(place)
    rows, where = rows[cell.notna()], cell[cell.notna()].to_numpy(dtype=int)
    image, ids = pd.factorize(rows["image"], sort=True)
    scores = np.full((shape[0] * shape[1], len(ids)), math.nan)
    scores[where, image] = rows[ablation.primary].to_numpy(dtype=float)
    patients = rows["patient"].to_numpy()[np.unique(image, return_index=True)[1]]
    scores[~np.isfinite(scores)] = math.nan
    return Target(name, scores.reshape(*shape, len(ids)), patients.astype(str), ablation.pools.get(name, frozenset()))


def _left_out(
    table: StudyTable,
    ablation: RecordedAblation,
    asked: np.ndarray,
    finished: np.ndarray,
    readable: np.ndarray,
    cells: Cells,
) -> list[str]:
    lines = []
    if (lost := int((asked & ~finished).sum())) > 0:
        lines.append(f"{lost} of {int(asked.sum())} trials (arm x replicate) have not completed.")
    if not asked.all():
        lines.append(f"{int((~asked).sum())} trials were not asked for: their arms are in no comparison that was open.")
    if (unreadable := int((finished & ~readable).sum())) > 0:
        lines.append(f"{unreadable} completed trials have no readable per-image scores and count as not completed.")
    there = {target.name for target in cells.targets}
    lines += [
        f"Target {name} is named by the question, but no trial has scores of it."
        for name in table.question.get("targets") or ()
        if name not in there
    ]
    lines += [line for target in cells.targets for line in _gaps(target, readable)]
    return [*lines, *empty_truths(table.images)]


def _gaps(target: Target, readable: np.ndarray) -> list[str]:
    """What a set lacks in trials that completed: whole trials without it, and single images without a score."""
    defined = np.isfinite(target.scores)
    absent = readable & ~defined.any(axis=2)
    lines = []
    if absent.any():
        lines.append(
            f"{target.name}: {int(absent.sum())} of {int(readable.sum())} completed trials have no score of it."
        )
    holes = int((~defined[readable & ~absent]).sum())
    if holes:
        lines.append(f"{target.name}: {holes} scores of single images are undefined or missing and enter no mean.")
    return lines
