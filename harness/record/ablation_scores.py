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
from harness.record.table import StudyTable, empty_truths, unjudgeable
from harness.stats.scores import Cells, Contrast, Pair, Target
from sam2lora.datasets import Dataset


@dataclass(frozen=True)
class Declared:
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
class Measured:
    """What an ablation's trials say.

    ``cells``: scores of the primary metric on the sets that judge. ``sources``: the same on the sources' test parts.
    ``unseen``: whether the sets that judge are targets; False where the study has none, so that the sources' test
    parts judge. ``keys``: (arms, replicates) the trial's key, "" where none completed. ``left_out``: what did not enter
    and why, in words. ``asked``: (arms, replicates) whether the trial was wanted at all: replicates that were added
    until verdicts were in are not run by arms of no open comparison. ``ended``: whether all of these trials have ended,
    whatever came of them.
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


def declared(table: StudyTable) -> Declared:
    """The declaration in the study's question. Raises ``RecordError`` where it cannot be read as one, or is about a
    metric of which less is better: every verdict would say the opposite of what it means.
    """
    recorded = table.question["ablation"]
    try:
        base = recorded["base"]
        arms = tuple(recorded["arms"])
        found = Declared(
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
    named = [one for held in protocol.values() if isinstance(held, list) for one in held if isinstance(one, dict)]
    sets: list[Dataset] = TypeAdapter(list[Dataset]).validate_json(json.dumps(named))
    return {one.name: one.overlaps for one in sets}


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


def measured(table: StudyTable, ablation: Declared) -> Measured:
    """The scores of ``ablation``. Raises ``RecordError`` when the per-image scores lack its primary metric."""
    images = table.images[table.images["role"] != "val"]
    if len(images) and ablation.primary not in images:
        raise RecordError(
            f"The primary metric of ablation {table.name!r} is {ablation.primary!r}, but the per-image scores have "
            f"none of that name: they hold {', '.join(_metrics(images))}. Declare one of these."
        )
    keys, finished = _keys(table, ablation)
    asked = _asked(table, ablation)
    readable = np.isin(keys, images["key"].unique().astype(str)) & finished
    names = {role: _sets(table, images, role) for role in ("source", "target")}
    unseen = bool(names["target"])
    judging = names["target"] or names["source"]
    cells = _cells(images, ablation, keys, readable, judging)
    return Measured(
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


def _keys(table: StudyTable, ablation: Declared) -> tuple[np.ndarray, np.ndarray]:
    """(arms, replicates): the key of the completed trial of each cell, and whether there is one."""
    keys = np.full((len(ablation.arms), len(ablation.replicates)), "", dtype="<U64")
    done = table.trials[table.trials["outcome"] == "completed"]
    if "param/arm" not in done:
        return keys, keys != ""
    arms = {arm: place for place, arm in enumerate(ablation.arms)}
    pairs = {(pair.seed, pair.fold): place for place, pair in enumerate(ablation.replicates)}
    for arm, seed, fold, key in done[["param/arm", "seed", "fold", "key"]].itertuples(index=False, name=None):
        a, r = arms.get(arm), pairs.get((seed, fold))
        if a is not None and r is not None and not keys[a, r]:
            keys[a, r] = key
    return keys, keys != ""


def _asked(table: StudyTable, ablation: Declared) -> np.ndarray:
    """(arms, replicates): all; where they are added by verdicts, of those after the first look what has a trial."""
    asked = np.ones((len(ablation.arms), len(ablation.replicates)), dtype=bool)
    if not table.looks.get("adding", bool(table.looks)):
        return asked
    first = int(table.looks["schedule"][0])
    asked[:, first:] = _has_trial(table.trials, ablation)[:, first:]
    return asked


def _has_trial(trials: pd.DataFrame, ablation: Declared) -> np.ndarray:
    """(arms, replicates): whether one of ``trials`` is of that cell."""
    columns = ["param/arm", "seed", "fold"]
    run = set(trials[columns].dropna().itertuples(index=False, name=None)) if columns[0] in trials else set()
    has = [[(arm, pair.seed, pair.fold) in run for pair in ablation.replicates] for arm in ablation.arms]
    return np.array(has, dtype=bool)


def _ended(table: StudyTable, ablation: Declared, asked: np.ndarray) -> bool:
    over = table.trials[~table.trials["outcome"].isin(["running", "waiting"])]
    return bool(_has_trial(over, ablation)[asked].all())


def _cells(images: pd.DataFrame, ablation: Declared, keys: np.ndarray, readable: np.ndarray, sets: list[str]) -> Cells:
    place = pd.Series(np.arange(keys.size), index=keys.ravel())[readable.ravel()]
    targets = [_target(images[images["dataset"] == name], name, ablation, place) for name in sets]
    return Cells(ablation.arms, ablation.replicates, tuple(targets), readable)


def _target(rows: pd.DataFrame, name: str, ablation: Declared, place: pd.Series) -> Target:
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
    ablation: Declared,
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
