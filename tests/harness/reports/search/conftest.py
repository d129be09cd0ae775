"""A fabricated record with the exact schema of a search, whose true response is known: dice matters much, the learning
rate some, focal Tversky and the rank not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-2, log=True),
    "rank": IntDistribution(1, 64, log=True),
    "simplex/1": FloatDistribution(0.0, 1.0),
    "simplex/2": FloatDistribution(0.0, 1.0),
}
START = datetime(2026, 3, 1, 9, 0, 0)
LOSSES = ("bce", "soft_dice", "focal_tversky")
ROLES = {"drive": "source", "stare": "source", "chase_db1": "target", "hrf": "target"}
COMMAND = "python -m harness.search loss_weights --data /data --sources drive,stare --targets chase_db1,hrf"

QUESTION = {
    "search": "loss_weights",
    "backbone": {"kind": "nano", "weights": "shipped"},
    "sources": ["drive", "stare"],
    "targets": ["chase_db1", "hrf"],
    "epochs": 12,
    "sampler": {"kind": "tpe"},
    "scheduler": {"kind": "asha", "grace": 3},
    "seed": 7,
    "objectives": ["val/dice"],
    "directions": ["maximize"],
    "constraints": [],
    "image_size": 64,
    "fold": 0,
    "materials": {name: f"{index:016x}" for index, name in enumerate(ROLES)},
}


@dataclass(frozen=True)
class Record:
    """Where a fabricated record lies."""

    url: str
    runs: Path
    name: str


def response(lr: float, weights: np.ndarray) -> float:
    """The noiseless objective: dice weight in [0, 1] moves it by 0.2, three decades of learning rate by 0.06."""
    return 0.5 + 0.2 * float(weights[1]) + 0.02 * float(np.log10(lr) + 5.0)


def config_of(lr: float, rank: int, weights: np.ndarray) -> dict[str, Any]:
    terms = [
        {"loss": {"kind": kind}, "weight": float(weight)}
        for kind, weight in zip(LOSSES, weights, strict=True)
        if weight > 0
    ]
    return {
        "protocol": {"kind": "transfer", "sources": QUESTION["sources"], "targets": QUESTION["targets"]},
        "backbone": QUESTION["backbone"],
        "adapter": {"kind": "lora", "rank": rank, "alpha": 2.0 * rank},
        "loss": {"terms": terms},
        "optimizer": {"kind": "adamw", "lr": lr},
        "train_prompt": {"kind": "no_prompt"},
        "test_prompt": {"kind": "no_prompt"},
        "epochs": QUESTION["epochs"],
    }


def draw(rng: np.random.Generator) -> tuple[float, int, np.ndarray]:
    lr = float(10.0 ** rng.uniform(-5, -2))
    weights = rng.dirichlet(np.ones(3))
    if rng.random() < 0.2:
        weights[2] = 0.0
        weights /= weights.sum()
    return lr, int(np.exp(rng.uniform(0, np.log(64)))), weights


def write_images(path: Path, key: str, score: float, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for dataset, role in ROLES.items():
        offset = {"drive": 0.0, "stare": -0.01, "chase_db1": -0.05, "hrf": -0.12}[dataset]
        for image in range(14):
            dice = score + offset + rng.normal(0, 0.03)
            rows.append(
                {
                    "key": key,
                    "dataset": dataset,
                    "role": role,
                    "image": f"{dataset}_{image:02d}",
                    "patient": f"p{image // 2}" if dataset == "chase_db1" else f"p{image}",
                    "dice": dice,
                    "iou": dice / (2 - dice),
                    "pixels": 1000,
                }
            )
    frame = pd.DataFrame(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
    return frame


def add(
    study: optuna.Study,
    runs: Path,
    rng: np.random.Generator,
    outcome: str,
    *,
    noise: float = 0.0,
    undefined: int = 0,
    images: str = "written",
    settings: tuple[float, int, np.ndarray] | None = None,
    attributes: dict[str, Any] | None = None,
) -> str:
    """Add one closed trial and return its key. ``images``: written, missing or torn; ``undefined``: NaN images."""
    lr, rank, weights = settings or draw(rng)
    value = response(lr, weights) + float(rng.normal(0, noise)) if noise else response(lr, weights)
    number = len(study.trials)
    key = f"{number:016x}"
    epochs = 12 if outcome == "completed" else int(rng.integers(2, 9))
    scores = [value * (1 - np.exp(-(epoch + 1) / 2)) for epoch in range(epochs)]
    scores[-1] = value if outcome == "completed" else scores[-1]
    curve = [
        {"epoch": epoch + 1, "score": score, "lr": lr, "loss/total": 1 - score, "seconds": 2.0}
        for epoch, score in enumerate(scores)
    ]
    why = {"stopped": "ASHA: below the median of its rung", "diverged": "loss is not finite"}.get(outcome, "")
    attrs: dict[str, Any] = {
        "key": key,
        "config": json.dumps(config_of(lr, rank, weights), sort_keys=True),
        "replicate": {"seed": 7, "fold": 0},
        "oracle_prompt": False,
        "outcome": {"kind": outcome, "epoch": epochs, "why": why},
        "curve": curve if outcome not in ("out_of_memory", "crashed") else [],
        "roles": ROLES,
        "cost": {
            "setup_seconds": 1.5,
            "train_seconds": 2.0 * epochs,
            "evaluate_seconds": 3.0,
            "peak_mib": 640.0 + rank,
            "trainable_parameters": 1000 * rank,
            "total_parameters": 2_000_000,
        },
    }
    if outcome == "completed":
        path = runs / study.study_name / "trials" / key / "images.parquet"
        frame = write_images(path, key, value, rng)
        if undefined:
            frame.loc[frame.index[-undefined:], ["dice", "iou"]] = np.nan
            frame.to_parquet(path)
        if images == "missing":
            path.unlink()
        if images == "torn":
            path.write_bytes(path.read_bytes()[:100])
        means = frame.groupby("dataset")["dice"].mean()
        attrs["scores"] = {f"{name}/dice": float(means[name]) for name in ROLES}
        attrs["n_images"] = dict.fromkeys(ROLES, 14)
        attrs["validation"] = {"drive/dice": value + 0.005, "stare/dice": value - 0.005}
    attrs |= attributes or {}
    state = {"completed": TrialState.COMPLETE, "diverged": TrialState.COMPLETE, "crashed": TrialState.FAIL}
    told = {"completed": value, "diverged": 0.0}.get(outcome)
    intermediate = dict(enumerate(scores, start=1)) if outcome == "stopped" else {}
    trial = create_trial(
        state=state.get(outcome, TrialState.PRUNED),
        value=told,
        params={"lr": lr, "rank": rank, "simplex/1": 0.5, "simplex/2": 0.5},
        distributions=DISTRIBUTIONS,
        user_attrs=attrs,
        intermediate_values=intermediate,
    )
    trial.datetime_start = START + timedelta(seconds=40 * number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=2 * epochs + 4)
    study.add_trial(trial)
    return key


def new_study(tmp: Path, name: str = "loss_weights", **question: Any) -> tuple[optuna.Study, Record]:
    runs = tmp / "runs"
    runs.mkdir(exist_ok=True)
    url = f"sqlite:///{runs / 'optuna.db'}"
    study = optuna.create_study(storage=url, study_name=name, direction="maximize")
    study.set_user_attr("question", QUESTION | question)
    study.set_user_attr("validation", {"n": 8, "clusters": 6})
    study.set_user_attr("provenance", {"git": "abc1234", "command": COMMAND, "torch": "2.15"})
    return study, Record(url, runs, name)


def in_memory_first(tmp: Path, fill: Callable[[optuna.Study, Path], None], **question: Any) -> Record:
    """Fill a study in memory and copy it to a record in one go: SQLite takes 20 ms per trial otherwise."""
    draft = optuna.create_study(study_name="loss_weights", direction="maximize")
    _, record = new_study(tmp, **question)
    fill(draft, record.runs)
    optuna.load_study(study_name=record.name, storage=record.url).add_trials(draft.trials)
    return record


def everything(study: optuna.Study, runs: Path) -> None:
    """36 trials: every outcome, a reused trial, undefined scores, a missing and a torn per-image file."""
    rng = np.random.default_rng(0)
    settings = draw(rng)
    for _ in range(16):
        add(study, runs, rng, "completed", noise=0.005)
    best = (8e-3, 16, np.array([0.05, 0.9, 0.05]))
    key = add(study, runs, rng, "completed", settings=best, undefined=3)
    add(study, runs, rng, "completed", settings=best, attributes={"key": key, "reused_from": 16, "cost": {}})
    add(study, runs, rng, "completed", settings=(7e-3, 8, np.array([0.1, 0.85, 0.05])), images="missing")
    add(study, runs, rng, "completed", settings=settings, images="torn")
    for outcome, count in (("stopped", 9), ("diverged", 3), ("out_of_memory", 2), ("crashed", 2)):
        for _ in range(count):
            add(study, runs, rng, outcome)


@pytest.fixture(autouse=True)
def _without_messages() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A record with everything in it. Read only."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return in_memory_first(tmp_path_factory.mktemp("full"), everything)


@pytest.fixture(scope="session")
def fabricate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Record]:
    """Make a record from ``fill(study, runs)``; further keywords replace parts of the study's question."""

    def make(fill: Callable[[optuna.Study, Path], None], **question: Any) -> Record:
        return in_memory_first(tmp_path_factory.mktemp("record"), fill, **question)

    return make


@pytest.fixture(scope="session")
def add_trial() -> Callable[..., str]:
    """`add`, for tests that fill a study themselves."""
    return add


@pytest.fixture(scope="session")
def probe() -> tuple[pd.DataFrame, dict[str, BaseDistribution]]:
    """100 random noiseless trials with a known answer: dice matters most, then the learning rate, the rest not."""
    rng = np.random.default_rng(3)
    drawn = [draw(rng) for _ in range(100)]
    weights = np.array([w for _, _, w in drawn])
    trials = pd.DataFrame(
        {
            "number": range(100),
            "key": [f"k{index}" for index in range(100)],
            "outcome": "completed",
            "value": [response(lr, w) for lr, _, w in drawn],
            "last_score": np.nan,
            "param/lr": [lr for lr, _, _ in drawn],
            "param/rank": [rank for _, rank, _ in drawn],
            **{f"weight/{kind}": weights[:, index] for index, kind in enumerate(LOSSES)},
        }
    )
    distributions = {f"param/{name}": DISTRIBUTIONS[name] for name in ("lr", "rank")}
    distributions |= {f"weight/{kind}": FloatDistribution(0.0, 1.0) for kind in LOSSES}
    return trials, distributions
