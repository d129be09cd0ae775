"""A simulated ablation, recorded as a real one is, without training.

Scores come from `harness.stats.scores.Cells`; everything else that a report reads is made up. Used by
tests, the documentation, ``make demo`` and ``benchmarks.report``. Loads neither torch nor Ray.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.record import bulk_insert
from harness.record import study as record
from harness.record.arm_studies import arm_study, fixed_study
from harness.record.locations import study_folder, trial_folder
from harness.record.outcome import KIND_OF
from harness.record.provenance import provenance
from harness.record.storage import open_storage
from harness.record.trials import Attributes
from harness.stats.scores import Cells, Floats
from sam2lora.files import IMAGES

START = datetime(2026, 1, 5, 9, 0, 0)
_SECONDS = 90.0


@dataclass(frozen=True)
class SearchTrial:
    """A trial of the search that tunes an arm: learning rate, weight decay and validation score, NaN if it diverged."""

    lr: float
    decay: float
    score: float


LR, DECAY = FloatDistribution(1e-4, 1e-2, log=True), FloatDistribution(1e-5, 1e-1, log=True)
"""The ranges of a simulated search: those of a real one around a learning rate of 0.001."""


@dataclass(frozen=True)
class SimulatedStudy:
    """A simulated study: its name, its declaration as in a record, and its scores.

    ``ablation``: the declaration as in ``question["ablation"]``. ``roles``: ``source`` or ``target`` of every test set
    of ``cells``. ``endings``: how unfinished trials of ``cells`` ended, by (arm, replicate): ``diverged`` or
    ``crashed``, which is the default. ``searches``: the trials that tuned each arm.
    """

    name: str
    ablation: Mapping[str, Any]
    cells: Cells
    roles: Mapping[str, str]
    epochs: int = 8
    endings: Mapping[tuple[int, int], str] = field(default_factory=dict)
    searches: Mapping[str, Sequence[SearchTrial]] = field(default_factory=dict)

    def question(self) -> dict[str, Any]:
        """The question as the command that runs an ablation would record it."""
        by_role = {role: [name for name, own in self.roles.items() if own == role] for role in ("source", "target")}
        return {
            "search": fixed_study(self.name),
            "sources": by_role["source"],
            "targets": by_role["target"],
            "backbone": {"kind": "simulated"},
            "image_size": 256,
            "epochs": self.epochs,
            "objectives": ["val/dice"],
            "directions": ["maximize"],
            "constraints": [],
            "seed": 0,
            "fold": 0,
            "materials": {name: _digest(name) for name in self.roles},
            "ablation": dict(self.ablation),
        }


def write(study: SimulatedStudy, url: str, folder: Path) -> None:
    """Write ``study`` into the record at ``url``, with one folder per trial below ``folder/NAME/trials``.

    The searches of its arms are separate studies, without files.
    Optuna raises ``DuplicatedStudyError`` where a study of that name is there.
    """
    storage = open_storage(url)
    made = optuna.create_study(storage=storage, study_name=study.name, direction="maximize")
    command = f"python -m harness.demo --out {folder}"
    made_by = {**provenance(), "command": command, "simulated": True}
    record.write(made, question=study.question(), provenance=made_by)
    distributions = _distributions(study)
    trials: list[FrozenTrial] = []
    for a, r in np.ndindex(study.cells.finished.shape):
        key = _digest(f"{study.name} {a} {r}")
        trials.append(_trial(study, a, r, key, distributions, len(trials)))
        if study.cells.finished[a, r]:
            place = trial_folder(study_folder(folder, study.name), key)
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(_images(study, a, r, key), place / IMAGES)
    bulk_insert.add(storage, study.name, trials)
    for arm, tried in study.searches.items():
        name = arm_study(fixed_study(study.name), arm)
        optuna.create_study(storage=storage, study_name=name, direction="maximize")
        bulk_insert.add(storage, name, [_searched(one, place) for place, one in enumerate(tried)])


def _searched(tried: SearchTrial, number: int) -> FrozenTrial:
    finished = math.isfinite(tried.score)
    kind = "completed" if finished else "diverged"
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=tried.score if finished else 0.0,
        params={"lr": tried.lr, "weight decay": tried.decay},
        distributions={"lr": LR, "weight decay": DECAY},
        user_attrs=dict(Attributes(key=_digest(f"{tried}"), outcome={"kind": kind, "epoch": 1, "why": _WHY[kind]})),
    )
    trial.datetime_start = START + timedelta(seconds=_SECONDS * number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=_SECONDS)
    return trial


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _distributions(study: SimulatedStudy) -> dict[str, BaseDistribution]:
    pairs = study.cells.replicates
    return {
        "arm": CategoricalDistribution(list(study.cells.arms)),
        "seed": IntDistribution(0, max(pair.seed for pair in pairs)),
        "fold": IntDistribution(0, max(pair.fold for pair in pairs)),
    }


def _trial(
    study: SimulatedStudy, a: int, r: int, key: str, distributions: dict[str, BaseDistribution], number: int
) -> FrozenTrial:
    arm, pair = study.cells.arms[a], study.cells.replicates[r]
    finished = bool(study.cells.finished[a, r])
    kind = "completed" if finished else study.endings.get((a, r), "crashed")
    config = _config(study, arm)
    curve = _curve(study, a, r, kind, int(config["epochs"]))
    attributes: Attributes = {
        "key": key,
        "config": json.dumps(config, sort_keys=True),
        "replicate": {"seed": pair.seed, "fold": pair.fold},
        "oracle_prompt": False,
        "outcome": {"kind": kind, "epoch": len(curve), "why": _WHY[kind]},
        "curve": curve,
        "cost": _cost(a, r, len(curve), config),
        **(_tested(study, a, r, curve) if finished else {}),
    }
    value = {"completed": curve[-1]["score"], "diverged": 0.0}.get(kind) if curve else None
    trial = create_trial(
        state=TrialState[KIND_OF[kind].state],
        value=value,
        params={"arm": arm, "seed": pair.seed, "fold": pair.fold},
        distributions=distributions,
        user_attrs=dict(attributes),
    )
    trial.datetime_start = START + timedelta(seconds=_SECONDS * number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=_SECONDS)
    return trial


_WHY = {
    "completed": "all epochs ran",
    "diverged": "the loss was no longer a number",
    "crashed": "simulated: the worker was killed",
}


def _config(study: SimulatedStudy, arm: str) -> dict[str, Any]:
    """The base with the arm's differences in place."""
    config: dict[str, Any] = copy.deepcopy(study.ablation["base"])
    for path, value in study.ablation["arms"][arm].items():
        *outer, last = path.split(".")
        inner: Any = config
        for name in outer:
            inner = inner[int(name) if isinstance(inner, list) else name]
        inner[last] = value
    return config


def _curve(study: SimulatedStudy, a: int, r: int, kind: str, most: int) -> list[dict[str, float]]:
    """Validation scores of ``most`` epochs that rise to the mean of the test scores, a little noisy; a trial without an
    end stops early, and a crashed one leaves none.
    """
    means = [_finite_mean(target.scores[a]) for target in study.cells.targets]
    level = float(np.mean(means)) + 0.02
    epochs = most if kind == "completed" else {"diverged": most // 2}.get(kind, 0)
    noise = np.random.default_rng([a, r, 1]).normal(0, 0.006, size=most)
    return [
        {
            "epoch": epoch,
            "score": float(np.clip(level * (1 - 0.6 * np.exp(-epoch / 1.7)) + noise[epoch - 1], 0, 1)),
            "lr": 1e-3,
            "loss/total": float(np.exp(-epoch / 3)),
            "seconds": 9.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def _finite_mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.5


def _cost(a: int, r: int, epochs: int, config: Mapping[str, Any]) -> dict[str, float]:
    adapters = config.get("adapters", [{}])
    trains = len(adapters) > 0
    rank = int(adapters[0].get("rank", 16)) if trains else 0
    drawn = np.random.default_rng([a, r, 2])
    return {
        "setup_seconds": 3.0,
        "train_seconds": float(9.0 * epochs * drawn.uniform(0.95, 1.05) + a) if trains else 0.0,
        "evaluate_seconds": 6.0,
        "peak_mib": float(2000 + 5 * rank + drawn.integers(0, 8)),
        "trainable_parameters": float(11_776 * rank),
        "total_parameters": 38_962_498.0,
    }


def _tested(study: SimulatedStudy, a: int, r: int, curve: list[dict[str, float]]) -> Attributes:
    scores = {}
    for target in study.cells.targets:
        own = target.scores[a, r]
        if np.isfinite(own).any():
            scores[f"{target.name}/{study.ablation['primary']}"] = float(np.nanmean(own))
    sources = [name for name, role in study.roles.items() if role == "source"]
    return {
        "scores": scores,
        "n_images": {target.name: len(target.patients) for target in study.cells.targets},
        "roles": dict(study.roles),
        "validation": {f"{name}/dice": curve[-1]["score"] for name in sources},
    }


def _images(study: SimulatedStudy, a: int, r: int, key: str) -> pa.Table:
    targets = study.cells.targets
    lengths = [len(target.patients) for target in targets]
    names = [f"{target.name}_{i:03d}" for target in targets for i in range(len(target.patients))]
    dice = np.concatenate([target.scores[a, r] for target in targets])
    repeated = {
        "key": [key] * len(names),
        "dataset": np.repeat([target.name for target in targets], lengths),
        "role": np.repeat([study.roles[target.name] for target in targets], lengths),
        "image": names,
        "patient": np.concatenate([target.patients for target in targets]),
    }
    metrics = {name: _derived(name, dice) for name in dict.fromkeys((study.ablation["primary"], "dice", "iou", "auc"))}
    return pa.table({**repeated, **metrics, "pixels": np.full(len(names), 65_536), "threshold": 0.5 + 0 * dice})


def _derived(metric: str, dice: Floats) -> Floats:
    """The simulated score is the primary metric's; IoU follows from Dice, and AUC only has to look like one."""
    if metric == "iou":
        return dice / (2 - dice)
    return 1 - (1 - dice) / 8 if metric == "auc" else dice
