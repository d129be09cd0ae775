"""Scores of trials in training: on validation images after an epoch, on test images at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from sam2lora import evaluate
from sam2lora.choice import digest
from sam2lora.datasets import CachedSet
from sam2lora.evaluate import Predictor, Role
from sam2lora.metrics import NotNumbers
from sam2lora.training.parts import test_images, validation_images
from sam2lora.training.seeds import derived
from sam2lora.training.session import Session, open_sets, peak_mib, precision


def evaluation_key(session: Session) -> str:
    """The images and prompts of validation and test: sessions with equal keys and image sizes share one predictor."""
    config, replicate = session.config, session.replicate
    prompts = digest(config.test_prompt, replicate) if config.test_prompt.gives_points else "none"
    return digest(config.protocol, prompts, replicate.fold, session.training)


def validate_each(sessions: Sequence[Session], predictor: Predictor) -> list[dict[str, float] | NotNumbers]:
    """``score`` and ``<set>/dice`` on the validation images, at native resolution inside the field of view.

    The error itself for a session that has a NaN among its logits.

    The sources validate; only where a protocol has none does the same fold of the targets that gave patients. All
    sessions have one `evaluation_key`.
    """
    first, tables = sessions[0], []
    halves = (0.5,) * len(sessions)
    for opened in first.sources or first.given:
        images = validation_images(opened, first.replicate.fold)
        tables.append(_rows(sessions, predictor, opened, images, halves, role="val", metrics="dice"))
    return [_validated(evaluate.joined(own, _stacked)) for own in zip(*tables, strict=True)]


def _validated(rows: pd.DataFrame | NotNumbers) -> dict[str, float] | NotNumbers:
    if isinstance(rows, NotNumbers):
        return rows
    per_source = evaluate.summary(rows)
    return {"score": float(np.mean([per_source[name] for name in per_source])), **per_source}


def threshold_each(sessions: Sequence[Session], predictor: Predictor) -> list[float]:
    """For each session the probability above which a pixel is predicted, chosen on validation images of the sources.

    All sessions have one `evaluation_key`. Their images are predicted once for all of them, and only where one has a
    choice. Raises ``NotNumbers`` if a logit of such a session is NaN.
    """
    begun, first = time.perf_counter(), sessions[0]
    thresholds = [session.config.threshold for session in sessions]
    cuts = [logit(each.candidates) for each in thresholds]
    curves: list[list[list[NDArray[np.float64]]]] = [[] for _ in sessions]
    for opened in first.sources if any(len(own) for own in cuts) else ():
        images, prompt = validation_images(opened, first.replicate.fold), first.config.test_prompt
        with precision(first.config, first.runtime):
            seed = prompt_seed(first, opened)
            found = evaluate.dice_curves(predictor, opened, images, prompt, first.runtime, seed=seed, cuts=cuts)
        for own, source in zip(curves, found, strict=True):
            own.append(source)
    seconds = (time.perf_counter() - begun) / len(sessions)
    for session in sessions:
        session.cost.evaluate_seconds += seconds
    return [each.find(own) for each, own in zip(thresholds, curves, strict=True)]


def final_scores(session: Session) -> pd.DataFrame:
    """``score_test_images`` for one session, at its threshold."""
    with evaluate.single_predictor(session.segmenter) as predictor:
        (rows,) = score_test_images([session], predictor, threshold_each([session], predictor))
    return rows


def score_test_images(
    sessions: Sequence[Session], predictor: Predictor, probabilities: Sequence[float]
) -> list[pd.DataFrame]:
    """For each session one row per test image of every source and per image of every target: its final scores.

    Called once, after the last epoch, for sessions of one `evaluation_key`. Columns as in
    ``sam2lora.evaluate.evaluate_each``; ``role`` is ``"source"`` or ``"target"``, and ``given`` counts the images by
    which the patients of a target joined the training (0 of a source, which trains by its whole development part). The
    thresholds ``probabilities`` hold for every row. Raises ``NotNumbers`` if a logit of any session is NaN.
    """
    begun, first = time.perf_counter(), sessions[0]
    given = {opened.dataset.name: 0 for opened in first.given}
    for s, _ in first.training:
        if s >= len(first.sources):
            given[first.given[s - len(first.sources)].dataset.name] += 1
    tables = [
        _rows(sessions, predictor, opened, images, probabilities, role=role, metrics="all")
        for opened, role, images in evaluation_sets(first)
    ]
    seconds = (time.perf_counter() - begun) / len(sessions)
    for session in sessions:
        session.cost.evaluate_seconds += seconds
        session.cost.peak_mib = max(session.cost.peak_mib, peak_mib(session.runtime))
    if not tables:
        return [pd.DataFrame() for _ in sessions]
    scores = [evaluate.joined(own, _stacked) for own in zip(*tables, strict=True)]
    return [rows.assign(given=[given.get(name, 0) for name in rows["dataset"]]) for rows in map(_sound, scores)]


def _stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def _sound(rows: pd.DataFrame | NotNumbers) -> pd.DataFrame:
    # Not told as Diverged, which a sampler would learn from: nothing that a test image shows may reach it.
    if isinstance(rows, NotNumbers):
        raise rows
    return rows


def evaluation_sets(session: Session) -> list[tuple[CachedSet, Role, list[int]]]:
    """The sets that a trial is tested on, sources first, each with its role and the indices of its images, if any."""
    protocol = session.config.protocol
    targets = open_sets(protocol.targets, session.config.image_size, session.runtime)
    parts: list[tuple[CachedSet, Role, list[int]]] = [(s, "source", test_images(s, "test")) for s in session.sources]
    parts += [(target, "target", test_images(target, protocol.target_images)) for target in targets]
    return [part for part in parts if part[2]]


def prompt_seed(session: Session, opened: CachedSet) -> int:
    """The seed of the prompts that the images of ``opened`` are validated and tested with."""
    return derived(session.replicate, "test prompts", opened.dataset.name)


def _rows(
    sessions: Sequence[Session],
    predictor: Predictor,
    opened: CachedSet,
    images: Sequence[int],
    probabilities: Sequence[float],
    *,
    role: Role,
    metrics: Literal["all", "dice"],
) -> list[pd.DataFrame | NotNumbers]:
    first = sessions[0]
    with precision(first.config, first.runtime):
        return evaluate.evaluate_each(
            predictor,
            opened,
            images,
            first.config.test_prompt,
            first.runtime,
            role=role,
            seed=prompt_seed(first, opened),
            metrics=metrics,
            probabilities=probabilities,
        )
